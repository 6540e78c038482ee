//! How groups and roles are named on the command line: as people know them, not only by UUID.

use std::collections::HashMap;

use usher_core::role::RoleRef;
use usher_proto::identity::v1::{Group, ListGroupsRequest, ListRolesRequest, ListRolesResponse, Role};

use crate::client::Client;
use crate::failure::Failure;

/// Groups in one answer.
const PAGE: i32 = 1_000;

/// All groups of a tenant that whoever asks may see.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: HashMap<String, Group>,
}

impl Groups {
    /// From the server's list.
    pub(crate) fn new(groups: Vec<Group>) -> Self {
        let by_id = groups.into_iter().map(|group| (group.group_id.clone(), group));
        Self { by_id: by_id.collect() }
    }

    /// The group that a person means: by UUID, by external id, or by its path from the top, in any case.
    pub(crate) fn find(&self, name: &str) -> Result<&Group, Failure> {
        let name = name.trim();
        if let Some(group) = uuid_of(name).and_then(|id| self.by_id.get(&id)) {
            return Ok(group);
        }
        let all = || self.sorted().into_iter();
        if let Some(group) = all().find(|group| !group.external_id.is_empty() && group.external_id == name) {
            return Ok(group);
        }
        let wanted = name.trim_matches('/').to_lowercase();
        let found: Vec<&Group> = all()
            .filter(|group| self.path(&group.group_id).to_lowercase() == wanted)
            .collect();
        match found.as_slice() {
            [group] => Ok(group),
            [] => Err(Failure::Data(self.not_found(name, &wanted))),
            [first, ..] => Err(Failure::Data(format!(
                "several groups are called {name}; use an id, for example {}",
                first.group_id
            ))),
        }
    }

    fn not_found(&self, name: &str, wanted: &str) -> String {
        let inner = format!("/{wanted}");
        let near = self.sorted().into_iter().find_map(|group| {
            let path = self.path(&group.group_id);
            path.to_lowercase().ends_with(&inner).then_some(path)
        });
        match near {
            Some(path) => format!("there is no group {name} at the top; did you mean {path}?"),
            None => format!("there is no group {name}; see `usher groups list --tree`"),
        }
    }

    /// `School/Maths/Year 1`. An id that is not known stands for itself.
    pub(crate) fn path(&self, id: &str) -> String {
        let mut names = Vec::new();
        let mut next = id;
        while let Some(group) = self.by_id.get(next) {
            names.push(group.name.as_str());
            next = &group.parent_group_id;
            if names.len() > self.by_id.len() {
                break;
            }
        }
        if names.is_empty() {
            return id.to_owned();
        }
        names.reverse();
        names.join("/")
    }

    /// Each group below the one given, or below the top, with how deep it is and whether it is the last of its
    /// siblings at each level: depth first, by name.
    pub(crate) fn tree(&self, below: Option<&str>) -> Vec<(Vec<bool>, &Group)> {
        let mut children: HashMap<&str, Vec<&Group>> = HashMap::new();
        for group in self.sorted() {
            // Whoever sees a group and not its parent sees it at the top.
            let parent = group.parent_group_id.as_str();
            let parent = if self.by_id.contains_key(parent) { parent } else { "" };
            children.entry(parent).or_default().push(group);
        }
        let mut found = Vec::new();
        let mut waiting: Vec<(Vec<bool>, &Group)> = Vec::new();
        let push = |waiting: &mut Vec<_>, parent: &str, above: &[bool]| {
            let below = children.get(parent).map_or(&[][..], Vec::as_slice);
            for (index, group) in below.iter().enumerate().rev() {
                let mut lasts = above.to_vec();
                lasts.push(index + 1 == below.len());
                waiting.push((lasts, *group));
            }
        };
        push(&mut waiting, below.unwrap_or_default(), &[]);
        while let Some((lasts, group)) = waiting.pop() {
            push(&mut waiting, &group.group_id, &lasts);
            found.push((lasts, group));
        }
        found
    }

    fn sorted(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.by_id.values().collect();
        groups.sort_by_key(|group| (group.name.to_lowercase(), group.group_id.clone()));
        groups
    }
}

/// All roles of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Roles(pub(crate) ListRolesResponse);

impl Roles {
    /// The role that a person means: by its name, in any case, or by UUID.
    pub(crate) fn find(&self, name: &str) -> Result<&Role, Failure> {
        let name = name.trim();
        let is_it = |role: &&Role| role.role == name || role.display_name.to_lowercase() == name.to_lowercase();
        let found = self.0.roles.iter().find(is_it);
        found.ok_or_else(|| Failure::Data(format!("there is no role {name}; see `usher roles list`")))
    }

    /// A role's name for people. An id that is not known stands for itself.
    pub(crate) fn name<'a>(&'a self, role: &'a str) -> &'a str {
        let own = self.0.roles.iter().find(|found| found.role == role && !found.built_in);
        own.map_or(role, |found| &found.display_name)
    }
}

impl Client {
    /// All groups that whoever asks may see.
    pub(crate) async fn all_groups(&self) -> Result<Groups, Failure> {
        let (mut groups, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = ListGroupsRequest {
                tenant_id: self.tenant.clone(),
                page_size: PAGE,
                page_token,
                ..ListGroupsRequest::default()
            };
            let answer = self.groups().list_groups(request).await?.into_inner();
            groups.extend(answer.groups);
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(Groups::new(groups));
            }
        }
    }

    /// The ids of the groups that a person means; asks the server only where a name is not the id itself.
    pub(crate) async fn group_ids(&self, names: &[String]) -> Result<Vec<String>, Failure> {
        if let Some(ids) = names.iter().map(|name| uuid_of(name.trim())).collect() {
            return Ok(ids);
        }
        let groups = self.all_groups().await?;
        let id = |name: &String| groups.find(name).map(|group| group.group_id.clone());
        names.iter().map(id).collect()
    }

    /// The id of the group that a person means.
    pub(crate) async fn group_id(&self, name: &str) -> Result<String, Failure> {
        let mut ids = self.group_ids(&[name.to_owned()]).await?;
        Ok(ids.pop().unwrap_or_default())
    }

    /// All roles, with every permission that a role can be made of.
    pub(crate) async fn all_roles(&self) -> Result<Roles, Failure> {
        let tenant_id = self.tenant.clone();
        let answer = self.roles().list_roles(ListRolesRequest { tenant_id }).await?;
        Ok(Roles(answer.into_inner()))
    }

    /// The roles that a person means, as the API names them; asks the server only for names of own roles.
    pub(crate) async fn role_names(&self, names: &[String]) -> Result<Vec<String>, Failure> {
        let api_name = |name: &String| RoleRef::from_name(name.trim()).map(|role| role.to_string());
        if let Some(names) = names.iter().map(api_name).collect() {
            return Ok(names);
        }
        let roles = self.all_roles().await?;
        let role = |name: &String| roles.find(name).map(|role| role.role.clone());
        names.iter().map(role).collect()
    }

    /// The role that a person means, as the API names it.
    pub(crate) async fn role_name(&self, name: &str) -> Result<String, Failure> {
        let mut names = self.role_names(&[name.to_owned()]).await?;
        Ok(names.pop().unwrap_or_default())
    }
}

fn uuid_of(name: &str) -> Option<String> {
    uuid::Uuid::try_parse(name).ok().map(|id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u8, name: &str, parent: u8) -> Group {
        let uuid = |id: u8| format!("00000000-0000-7000-8000-0000000000{id:02x}");
        Group {
            group_id: uuid(id),
            name: name.into(),
            parent_group_id: if parent == 0 { String::new() } else { uuid(parent) },
            external_id: format!("G-{id}"),
            ..Group::default()
        }
    }

    fn school() -> Groups {
        Groups::new(vec![
            group(1, "School", 0),
            group(2, "Maths", 1),
            group(3, "Year 1/2", 2),
            group(4, "Arts", 1),
            group(5, "maths", 0),
        ])
    }

    #[test]
    fn u2_a_group_is_named_by_id_by_external_id_or_by_its_path() {
        let school = school();
        let found = |name: &str| school.find(name).unwrap().external_id.clone();
        assert_eq!(found("00000000-0000-7000-8000-000000000002"), "G-2");
        assert_eq!(found("G-3"), "G-3");
        assert_eq!(found("School/Maths"), "G-2");
        assert_eq!(found(" school/MATHS/year 1/2 "), "G-3", "a name may have a slash in it");
        assert_eq!(found("Maths"), "G-5", "a path begins at the top");
    }

    #[test]
    fn a_group_that_is_deeper_down_is_suggested() {
        let error = school().find("Arts").unwrap_err().to_string();
        assert!(error.contains("did you mean School/Arts?"), "{error}");
        let error = school().find("Music").unwrap_err().to_string();
        assert!(error.contains("usher groups list"), "{error}");
    }

    #[test]
    fn u2_a_tree_is_depth_first_by_name_and_an_unseen_parent_is_the_top() {
        let school = school();
        let shown: Vec<(usize, &str)> = school
            .tree(None)
            .into_iter()
            .map(|(lasts, group)| (lasts.len(), group.name.as_str()))
            .collect();
        assert_eq!(
            shown,
            [(1, "maths"), (1, "School"), (2, "Arts"), (2, "Maths"), (3, "Year 1/2")]
        );
        let part = Groups::new(vec![group(3, "Year 1", 2)]);
        assert_eq!(part.tree(None).len(), 1);
        assert_eq!(part.path("nobody"), "nobody");
    }

    #[test]
    fn u1_a_role_is_named_by_its_name_or_its_id() {
        let own = Role {
            role: "id".into(),
            display_name: "Power user".into(),
            ..Role::default()
        };
        let roles = Roles(ListRolesResponse {
            roles: vec![own],
            permissions: Vec::new(),
        });
        assert_eq!(roles.find("power USER").unwrap().role, "id");
        assert_eq!((roles.name("id"), roles.name("coach")), ("Power user", "coach"));
        assert!(roles.find("Weak user").is_err());
    }
}
