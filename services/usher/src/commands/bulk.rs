//! `usher bulk`: one action on many users. It shows whom it is about before it asks, and what runs is exactly what was
//! shown (U5, U6).

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};
use usher_proto::identity::v1::bulk_action::Action;
use usher_proto::identity::v1::{
    BulkAction, BulkDeactivate, BulkEditGroups, BulkEditLabels, BulkEditRoles, BulkInvite, BulkReactivate, BulkResend,
    BulkSetExpiration, MutationOptions, PreviewSelectionRequest, PreviewSelectionResponse, RoleInScope,
    StartBulkRequest,
};

use super::filter::{Whom, is_everybody};
use super::invite::Text;
use super::jobs::started;
use super::roles::{in_group, in_session, on_platform};
use super::users::{Expiration, expiration};
use super::watch::count;
use super::{Change, Session};
use crate::client::patiently;
use crate::failure::{Exit, Failure};
use crate::output::{self, Show};
use crate::password::ask;

#[derive(Debug, Subcommand)]
pub(crate) enum Bulk {
    /// Invite those who are pending or invited.
    Invite {
        #[command(flatten)]
        message: Text,
        #[command(flatten)]
        run: Run,
    },
    /// End access at once; everything else stays.
    Deactivate {
        #[command(flatten)]
        run: Run,
    },
    /// Restore the status before the deactivation.
    Reactivate {
        #[command(flatten)]
        run: Run,
    },
    /// Set, move or clear the expiration.
    Expire {
        /// 2027-06-30, 2027-06-30T18:00:00+02:00, or never. A day means its beginning in UTC.
        #[arg(value_parser = expiration)]
        date: Expiration,
        #[command(flatten)]
        run: Run,
    },
    /// Add to groups, and take out of groups.
    Groups {
        /// A group to add to: id, external id or path A/B; repeat it for several.
        #[arg(long, value_name = "GROUP", required_unless_present = "remove")]
        add: Vec<String>,
        /// A group to take out of; repeat it for several.
        #[arg(long, value_name = "GROUP")]
        remove: Vec<String>,
        #[command(flatten)]
        run: Run,
    },
    /// Give roles, and take roles away.
    Roles {
        /// A role to give: on the platform, or ROLE@GROUP in a group, or ROLE@session:ID. Repeat it for several.
        #[arg(long, value_name = "ROLE[@GROUP]", required_unless_present = "revoke")]
        assign: Vec<String>,
        /// A role to take away; repeat it for several.
        #[arg(long, value_name = "ROLE[@GROUP]")]
        revoke: Vec<String>,
        #[command(flatten)]
        run: Run,
    },
    /// Add labels, and take labels away.
    Labels {
        /// A label to add; repeat it for several.
        #[arg(long, value_name = "LABEL", required_unless_present = "remove")]
        add: Vec<String>,
        /// A label to take away; repeat it for several.
        #[arg(long, value_name = "LABEL")]
        remove: Vec<String>,
        #[command(flatten)]
        run: Run,
    },
    /// Send open and lapsed invitations again, with new links.
    Resend {
        /// Only invitations that were sent at least so many days ago.
        #[arg(long, default_value_t = 0, value_name = "NUMBER")]
        sent_days_ago: i32,
        #[command(flatten)]
        message: Text,
        #[command(flatten)]
        run: Run,
    },
}

/// On whom, and how.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct Run {
    #[command(flatten)]
    whom: Whom,
    /// On everybody: needed where neither a filter nor a user is given.
    #[arg(long, conflicts_with_all = ["Filter", "user"])]
    everybody: bool,
    /// Only show whom it is about.
    #[arg(long)]
    preview: bool,
    /// Do not ask; needed where there is no terminal to ask on.
    #[arg(long, short, conflicts_with = "preview")]
    yes: bool,
    /// Do not stay with the job: print its id.
    #[arg(long, conflicts_with = "preview")]
    detach: bool,
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(command: &Bulk, session: &Session) -> Result<Exit, Failure> {
    let run = command.run();
    let asks = !run.yes && !run.preview && !run.change.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::Usage(
            "there is no terminal to ask on; look with --preview, then give --yes".into(),
        ));
    }
    // Names that lead nowhere are told before anybody is looked for.
    let action = command.action(session).await?;
    let preview = preview(run, session).await?;
    let exit = if preview.missing_user_ids.is_empty() {
        Exit::Done
    } else {
        let missing = preview.missing_user_ids.join(", ");
        output::note(&format!("These ids name nobody, or nobody of yours: {missing}."));
        Exit::Partly
    };
    if run.preview || !session.out.json {
        show(&preview, session)?;
    }
    if run.preview || preview.user_count == 0 {
        return Ok(exit);
    }
    if asks {
        let users = if preview.user_count == 1 { "user" } else { "users" };
        let question = format!("{} {} {users}? [y/N] ", command.deed(), preview.user_count);
        if !matches!(ask(&question, false)?.trim(), "y" | "Y" | "yes") {
            output::note("Nothing was done.");
            return Ok(Exit::Done);
        }
    }
    let options = MutationOptions {
        request_id: request_id(&preview.digest, &run.change),
        ..run.change.options()
    };
    let request = StartBulkRequest {
        tenant_id: session.client.tenant.clone(),
        digest: preview.digest,
        action: Some(BulkAction { action: Some(action) }),
        options: Some(options),
    };
    let start = || async { Ok(session.client.bulk().start_bulk(request.clone()).await?) };
    let job = patiently(start).await?.into_inner().job;
    match started(job, run.detach, &run.change, session).await? {
        Exit::Done => Ok(exit),
        other => Ok(other),
    }
}

/// A digest names one look at the users: what is started from it is started once, however often the call is repeated.
fn request_id(digest: &str, change: &Change) -> String {
    if change.dry_run {
        return String::new();
    }
    let hash = Sha256::digest(digest.as_bytes());
    let hex = hash.iter().take(16).map(|byte| format!("{byte:02x}"));
    format!("bulk:{}", hex.collect::<String>())
}

async fn preview(run: &Run, session: &Session) -> Result<PreviewSelectionResponse, Failure> {
    let selection = run.whom.resolve(&session.client).await?;
    if is_everybody(&selection) && !run.everybody {
        return Err(Failure::Usage("whom? give filters, --user USER, or --everybody".into()));
    }
    let request = PreviewSelectionRequest {
        tenant_id: session.client.tenant.clone(),
        selection: Some(selection),
    };
    Ok(session.client.bulk().preview_selection(request).await?.into_inner())
}

/// For people: how many, and the first of them.
fn show(preview: &PreviewSelectionResponse, session: &Session) -> Result<(), Failure> {
    if session.out.json {
        return session.out.list(std::slice::from_ref(preview));
    }
    session.out.list(&preview.sample)?;
    output::lines([headline(preview)])
}

fn headline(preview: &PreviewSelectionResponse) -> String {
    match (preview.user_count, preview.sample.len()) {
        (0, _) => "Nobody.".into(),
        (1, _) => "1 user.".into(),
        (users, shown) if count(users) == shown as u64 => format!("{users} users."),
        (users, shown) => format!("{users} users; the first {shown} are shown."),
    }
}

impl Bulk {
    fn run(&self) -> &Run {
        match self {
            Self::Invite { run, .. }
            | Self::Deactivate { run }
            | Self::Reactivate { run }
            | Self::Expire { run, .. }
            | Self::Groups { run, .. }
            | Self::Roles { run, .. }
            | Self::Labels { run, .. }
            | Self::Resend { run, .. } => run,
        }
    }

    /// How the question before it begins.
    fn deed(&self) -> &'static str {
        match self {
            Self::Invite { .. } => "Invite",
            Self::Deactivate { .. } => "Deactivate",
            Self::Reactivate { .. } => "Reactivate",
            Self::Expire { .. } => "Set the expiration of",
            Self::Groups { .. } => "Change the groups of",
            Self::Roles { .. } => "Change the roles of",
            Self::Labels { .. } => "Change the labels of",
            Self::Resend { .. } => "Resend the invitations of",
        }
    }

    async fn action(&self, session: &Session) -> Result<Action, Failure> {
        let client = &session.client;
        Ok(match self {
            Self::Invite { message, .. } => Action::Invite(BulkInvite {
                messages: message.messages()?,
            }),
            Self::Deactivate { .. } => Action::Deactivate(BulkDeactivate {}),
            Self::Reactivate { .. } => Action::Reactivate(BulkReactivate {}),
            Self::Expire { date, .. } => Action::SetExpiration(BulkSetExpiration {
                expire_time: date.time(),
            }),
            Self::Groups { add, remove, .. } => Action::EditGroups(BulkEditGroups {
                add_group_ids: client.group_ids(add).await?,
                remove_group_ids: client.group_ids(remove).await?,
            }),
            Self::Roles { assign, revoke, .. } => Action::EditRoles(BulkEditRoles {
                assign: in_scopes(assign, session).await?,
                revoke: in_scopes(revoke, session).await?,
            }),
            Self::Labels { add, remove, .. } => Action::EditLabels(BulkEditLabels {
                add: add.clone(),
                remove: remove.clone(),
            }),
            Self::Resend {
                sent_days_ago, message, ..
            } => Action::Resend(BulkResend {
                sent_days_ago: *sent_days_ago,
                messages: message.messages()?,
            }),
        })
    }
}

/// Where a role is held, as it is written behind the `@`.
#[derive(Debug, PartialEq)]
enum At<'a> {
    Platform,
    Group(&'a str),
    Session(&'a str),
}

/// `coach`, `coach@School/Maths`, `instructor@session:S-1`.
fn role_at(text: &str) -> (&str, At<'_>) {
    match text.split_once('@') {
        None => (text, At::Platform),
        Some((role, place)) => match place.strip_prefix("session:") {
            Some(session) => (role, At::Session(session)),
            None if place.eq_ignore_ascii_case("platform") => (role, At::Platform),
            None => (role, At::Group(place)),
        },
    }
}

async fn in_scopes(texts: &[String], session: &Session) -> Result<Vec<RoleInScope>, Failure> {
    let mut roles = Vec::with_capacity(texts.len());
    for text in texts {
        let (role, place) = role_at(text);
        let scope = match place {
            At::Platform => on_platform(),
            At::Group(group) => in_group(session.client.group_id(group).await?),
            At::Session(id) => in_session(id.to_owned()),
        };
        roles.push(RoleInScope {
            role: session.client.role_name(role).await?,
            scope: Some(scope),
        });
    }
    Ok(roles)
}

impl Show for PreviewSelectionResponse {
    const NAME: &'static str = "usher.identity.v1.PreviewSelectionResponse";
    const COLUMNS: &'static [&'static str] = &["USERS"];

    fn cells(&self) -> Vec<String> {
        vec![self.user_count.to_string()]
    }
}

#[cfg(test)]
mod tests {
    use usher_proto::identity::v1::User;

    use super::*;

    #[test]
    fn u2_a_role_stands_before_the_at_sign_and_its_place_behind_it() {
        assert_eq!(role_at("coach"), ("coach", At::Platform));
        assert_eq!(role_at("coach@platform"), ("coach", At::Platform));
        assert_eq!(role_at("coach@School/Maths"), ("coach", At::Group("School/Maths")));
        assert_eq!(role_at("instructor@session:S@1"), ("instructor", At::Session("S@1")));
    }

    #[test]
    fn u6_a_preview_says_how_many_and_how_many_of_them_it_shows() {
        let shown = |user_count, sample| {
            headline(&PreviewSelectionResponse {
                user_count,
                sample: vec![User::default(); sample],
                ..PreviewSelectionResponse::default()
            })
        };
        assert_eq!(shown(0, 0), "Nobody.");
        assert_eq!(shown(1, 1), "1 user.");
        assert_eq!(shown(20, 20), "20 users.");
        assert_eq!(shown(21, 20), "21 users; the first 20 are shown.");
    }

    #[test]
    fn b1_one_look_starts_one_job_and_a_dry_run_starts_none() {
        let change = |dry_run| Change {
            reason: String::new(),
            dry_run,
        };
        let id = request_id("digest", &change(false));
        assert_eq!(id, request_id("digest", &change(false)));
        assert_ne!(id, request_id("another", &change(false)));
        assert!(id.len() <= 64 && request_id("digest", &change(true)).is_empty());
    }
}
