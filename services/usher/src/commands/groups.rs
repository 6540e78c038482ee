//! `usher groups`: a tree of groups with people in it (U2).

use std::future::Future;

use clap::{Args, Subcommand};
use prost_types::FieldMask;
use usher_proto::identity::v1::{
    AddGroupMembersRequest, CreateGroupRequest, DeleteGroupRequest, Group, ListGroupsRequest, MemberResult,
    RemoveGroupMembersRequest, UpdateGroupRequest,
};

use super::{Change, Limit, Session, each};
use crate::client::incomplete;
use crate::failure::{Exit, Failure};
use crate::names::Groups as Names;
use crate::output::{self, Show, printable};
use crate::time;

/// Users in one call.
const BATCH: usize = 1_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// List groups by name, or as a tree.
    List(List),
    /// Show one group.
    Show {
        /// Id, external id or path.
        group: String,
    },
    /// Create a group.
    Create {
        /// Its name.
        name: String,
        /// The group that it is below; at the top if left out.
        #[arg(long, value_name = "GROUP")]
        parent: Option<String>,
        /// The id of this group in your own system.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        external_id: String,
        /// A UUID of your choice; one is made if left out.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        id: String,
        #[command(flatten)]
        change: Change,
    },
    /// Change a group's name or its external id.
    Update {
        /// Id, external id or path.
        group: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// The id of this group in your own system; "" takes it away.
        #[arg(long, value_name = "ID")]
        external_id: Option<String>,
        #[command(flatten)]
        version: Version,
        #[command(flatten)]
        change: Change,
    },
    /// Move a group, with everything below it, to another parent.
    Move {
        /// Id, external id or path.
        group: String,
        /// The new parent: id, external id or path.
        #[arg(required_unless_present = "top")]
        parent: Option<String>,
        /// Move it to the top.
        #[arg(long, conflicts_with = "parent")]
        top: bool,
        #[command(flatten)]
        version: Version,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a group. Its people stay; the groups below it move up; roles held in it are gone.
    Delete {
        /// Id, external id or path.
        group: String,
        #[command(flatten)]
        version: Version,
        #[command(flatten)]
        change: Change,
    },
    /// Add users to a group.
    Add(Members),
    /// Take users out of a group.
    Remove(Members),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Show them as a tree.
    #[arg(long, conflicts_with_all = ["user", "text"])]
    tree: bool,
    /// Only those below this group: with --tree all levels, else the next one.
    #[arg(long, value_name = "GROUP")]
    below: Option<String>,
    /// Only those that this user is a member of: id, address or external id.
    #[arg(long)]
    user: Option<String>,
    /// Only with this in the name; case and accents do not matter.
    #[arg(long, default_value = "", hide_default_value = true)]
    text: String,
    #[command(flatten)]
    limit: Limit,
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Id, external id or path.
    group: String,
    /// Ids, addresses or external ids.
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Refuse if the group has another version by now.
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "NUMBER")]
    expected_version: i64,
}

pub(super) async fn run(command: &Groups, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    match command {
        Groups::List(options) if options.tree => tree(options, session).await,
        Groups::List(options) => list(options, session).await,
        Groups::Show { group } => {
            let names = client.all_groups().await?;
            show(session, names.find(group)?, &names)
        }
        Groups::Create {
            name,
            parent,
            external_id,
            id,
            change,
        } => {
            let request = CreateGroupRequest {
                group: Some(Group {
                    tenant_id: client.tenant.clone(),
                    group_id: id.clone(),
                    name: name.clone(),
                    external_id: external_id.clone(),
                    parent_group_id: parent_id(parent.as_ref(), session).await?,
                    ..Group::default()
                }),
                options: Some(change.options()),
            };
            let group = client.groups().create_group(request).await?.into_inner().group;
            changed(session, group).await
        }
        Groups::Update {
            group,
            name,
            external_id,
            version,
            change,
        } => {
            let given = [("name", name.is_some()), ("external_id", external_id.is_some())];
            let paths: Vec<&str> = given
                .iter()
                .filter(|(_, given)| *given)
                .map(|(path, _)| *path)
                .collect();
            if paths.is_empty() {
                return Err(Failure::Usage(
                    "nothing to change; see `usher groups update --help`".into(),
                ));
            }
            let group = Group {
                group_id: client.group_id(group).await?,
                name: name.clone().unwrap_or_default(),
                external_id: external_id.clone().unwrap_or_default(),
                ..Group::default()
            };
            update(session, group, &paths, version, change).await
        }
        Groups::Move {
            group,
            parent,
            top: _,
            version,
            change,
        } => {
            let group = Group {
                group_id: client.group_id(group).await?,
                parent_group_id: parent_id(parent.as_ref(), session).await?,
                ..Group::default()
            };
            update(session, group, &["parent_group_id"], version, change).await
        }
        Groups::Delete { group, version, change } => {
            let request = DeleteGroupRequest {
                tenant_id: client.tenant.clone(),
                group_id: client.group_id(group).await?,
                expected_version: version.expected_version,
                options: Some(change.options()),
            };
            client.groups().delete_group(request).await?;
            Ok(Exit::Done)
        }
        Groups::Add(members) => {
            let add = |group_id: String, user_ids| async move {
                let request = AddGroupMembersRequest {
                    tenant_id: client.tenant.clone(),
                    group_id,
                    user_ids,
                    options: Some(members.change.options()),
                };
                Ok(client.groups().add_group_members(request).await?.into_inner().results)
            };
            self::members(members, session, ("added", "members before"), add).await
        }
        Groups::Remove(members) => {
            let remove = |group_id: String, user_ids| async move {
                let request = RemoveGroupMembersRequest {
                    tenant_id: client.tenant.clone(),
                    group_id,
                    user_ids,
                    options: Some(members.change.options()),
                };
                let answer = client.groups().remove_group_members(request).await?;
                Ok(answer.into_inner().results)
            };
            self::members(members, session, ("taken out", "no members before"), remove).await
        }
    }
}

async fn parent_id(parent: Option<&String>, session: &Session) -> Result<String, Failure> {
    match parent {
        Some(parent) => session.client.group_id(parent).await,
        None => Ok(String::new()),
    }
}

async fn update(
    session: &Session,
    group: Group,
    paths: &[&str],
    version: &Version,
    change: &Change,
) -> Result<Exit, Failure> {
    let request = UpdateGroupRequest {
        group: Some(Group {
            tenant_id: session.client.tenant.clone(),
            ..group
        }),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        expected_version: version.expected_version,
        options: Some(change.options()),
    };
    let group = session.client.groups().update_group(request).await?.into_inner().group;
    changed(session, group).await
}

/// Prints a group that was created or changed.
async fn changed(session: &Session, group: Option<Group>) -> Result<Exit, Failure> {
    let group = group.ok_or_else(|| incomplete("group"))?;
    let names = if session.out.json {
        Names::default()
    } else {
        session.client.all_groups().await?
    };
    show(session, &group, &names)
}

fn show(session: &Session, group: &Group, names: &Names) -> Result<Exit, Failure> {
    let above = match group.parent_group_id.as_str() {
        "" => String::new(),
        parent => names.path(parent),
    };
    session.out.one(
        group,
        &[
            ("Group", group.group_id.clone()),
            ("Name", group.name.clone()),
            ("Below", above),
            ("External id", group.external_id.clone()),
            ("Created", time::show(group.create_time.as_ref())),
            ("Version", group.version.to_string()),
        ],
    )?;
    Ok(Exit::Done)
}

async fn list(options: &List, session: &Session) -> Result<Exit, Failure> {
    let client = &session.client;
    let parent_group_id = parent_id(options.below.as_ref(), session).await?;
    let user_id = match &options.user {
        Some(user) => client.user_id(user).await?,
        None => String::new(),
    };
    let page = |page_size, page_token| {
        let request = ListGroupsRequest {
            tenant_id: client.tenant.clone(),
            parent_group_id: parent_group_id.clone(),
            user_id: user_id.clone(),
            text: options.text.clone(),
            page_size,
            page_token,
        };
        async move {
            let answer = client.groups().list_groups(request).await?.into_inner();
            Ok((answer.groups, answer.next_page_token))
        }
    };
    if session.out.json {
        options.limit.show(session.out, page).await?;
        return Ok(Exit::Done);
    }
    let groups = options.limit.gather(page).await?;
    if groups.is_empty() {
        return Ok(Exit::Done);
    }
    let names = client.all_groups().await?;
    let rows = groups.iter().map(|group| {
        let path = names.path(&group.group_id);
        vec![group.group_id.clone(), path, group.external_id.clone()]
    });
    output::table(&["GROUP ID", "PATH", "EXTERNAL ID"], rows)?;
    Ok(Exit::Done)
}

async fn tree(options: &List, session: &Session) -> Result<Exit, Failure> {
    let groups = session.client.all_groups().await?;
    let below = match &options.below {
        Some(name) => Some(groups.find(name)?.group_id.as_str()),
        None => None,
    };
    let tree = groups.tree(below);
    if session.out.json {
        let groups: Vec<Group> = tree.into_iter().map(|(_, group)| group.clone()).collect();
        session.out.list(&groups)?;
    } else {
        output::lines(tree.iter().map(|(lasts, group)| branch(lasts, group)))?;
    }
    Ok(Exit::Done)
}

/// One line of the tree: `│  └─ Year 1 (Y-1)`. At the top there are no branches.
fn branch(lasts: &[bool], group: &Group) -> String {
    let levels = lasts.len();
    let mut line = String::new();
    for (level, last) in lasts.iter().enumerate().skip(1) {
        line.push_str(match (level + 1 == levels, last) {
            (true, true) => "└─ ",
            (true, false) => "├─ ",
            (false, true) => "   ",
            (false, false) => "│  ",
        });
    }
    line.push_str(&printable(&group.name));
    if !group.external_id.is_empty() {
        line.push_str(&printable(&format!(" ({})", group.external_id)));
    }
    line
}

/// Adds or takes out whoever was named. `told` are the words for those who changed and those who did not.
async fn members<W>(
    members: &Members,
    session: &Session,
    told: (&str, &str),
    act: impl Fn(String, Vec<String>) -> W,
) -> Result<Exit, Failure>
where
    W: Future<Output = Result<Vec<MemberResult>, Failure>>,
{
    let group_id = session.client.group_id(&members.group).await?;
    let find = |name: String| async move { session.client.user_id(&name).await };
    let (users, mut exit) = each(&members.users, find).await?;
    let mut results = Vec::new();
    for batch in users.chunks(BATCH) {
        results.extend(act(group_id.clone(), batch.to_vec()).await?);
    }
    session.out.list(&results)?;
    let refused = results.iter().filter(|result| result.refused.is_some()).count();
    let changed = results.iter().filter(|result| result.changed).count();
    if refused > 0 {
        exit = Exit::Partly;
    }
    if !session.out.json {
        let same = results.len() - refused - changed;
        output::note(&format!("{changed} {}, {same} {}, {refused} refused", told.0, told.1));
    }
    Ok(exit)
}

impl Show for Group {
    const NAME: &'static str = "usher.identity.v1.Group";
    const COLUMNS: &'static [&'static str] = &["GROUP ID", "NAME", "EXTERNAL ID", "BELOW"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group_id.clone(),
            self.name.clone(),
            self.external_id.clone(),
            self.parent_group_id.clone(),
        ]
    }
}

impl Show for MemberResult {
    const NAME: &'static str = "usher.identity.v1.MemberResult";
    const COLUMNS: &'static [&'static str] = &["USER ID", "OUTCOME", "WHY NOT"];

    fn cells(&self) -> Vec<String> {
        let outcome = match (&self.refused, self.changed) {
            (Some(_), _) => "refused",
            (None, true) => "changed",
            (None, false) => "unchanged",
        };
        let why = self.refused.as_ref().map(|refusal| refusal.message.clone());
        vec![self.user_id.clone(), outcome.into(), why.unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u2_a_tree_has_a_branch_for_each_level_below_the_top() {
        let group = Group {
            name: "Year\u{1b} 1".into(),
            external_id: "Y-1".into(),
            ..Group::default()
        };
        assert_eq!(branch(&[false], &group), "Year\u{fffd} 1 (Y-1)");
        assert_eq!(branch(&[false, false], &group), "├─ Year\u{fffd} 1 (Y-1)");
        assert_eq!(branch(&[false, false, true], &group), "│  └─ Year\u{fffd} 1 (Y-1)");
        assert_eq!(branch(&[true, true, false], &group), "   ├─ Year\u{fffd} 1 (Y-1)");
    }
}
