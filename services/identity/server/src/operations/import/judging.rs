//! From a row of a file to what is kept of it: texts are judged, groups and roles are found by their names.

use std::collections::BTreeMap;

use usher_core::clock::{Timestamp, too_late};
use usher_core::email::EmailAddress;
use usher_core::group::Group;
use usher_core::ids::GroupId;
#[cfg(test)]
use usher_core::ids::TenantId;
use usher_core::job::{ImportMode, ItemInput};
use usher_core::role::{CustomRole, MAX_SESSION_ID, RoleRef, Scope};
use usher_core::text;
use usher_transfer::Field;
use usher_transfer::read::{CellFault, Change, ImportRow, Row, Table};

use super::{Kept, Missing};

/// What the names in a file stand for.
#[derive(Debug, Default)]
pub(crate) struct Names {
    groups: BTreeMap<String, Option<GroupId>>,
    roles: BTreeMap<String, String>,
}

impl Names {
    /// Groups by id, external id, path and name; a name that several have stands for none of them.
    pub(crate) fn new(groups: &[Group], roles: &[CustomRole]) -> Self {
        let by_id: BTreeMap<GroupId, &Group> = groups.iter().map(|group| (group.id, group)).collect();
        let mut names = Self::default();
        for group in groups {
            let mut path = vec![group.name.as_str()];
            let mut above = group.parent;
            while let Some(parent) = above.and_then(|id| by_id.get(&id))
                && path.len() <= usher_core::group::MAX_DEPTH
            {
                path.push(&parent.name);
                above = parent.parent;
            }
            path.reverse();
            names.group(group.id.to_string(), group.id);
            names.group(text::fold(&path.join("/")), group.id);
            if path.len() > 1 {
                names.group(text::fold(&group.name), group.id);
            }
            if let Some(external_id) = &group.external_id {
                names.group(text::fold(external_id), group.id);
            }
        }
        for role in roles {
            names.roles.insert(text::fold(&role.name), role.id.to_string());
        }
        names
    }

    fn group(&mut self, name: String, id: GroupId) {
        self.groups
            .entry(name)
            .and_modify(|known| {
                if *known != Some(id) {
                    *known = None;
                }
            })
            .or_insert(Some(id));
    }

    pub(super) fn find_group(&self, name: &str) -> Result<GroupId, String> {
        match self.groups.get(&text::fold(name)) {
            Some(Some(id)) => Ok(*id),
            Some(None) => Err(format!(
                "several groups are called {name:?}; write the path, for example School/Year 7"
            )),
            None => Err(format!("there is no group {name:?}; create it first")),
        }
    }

    fn role(&self, name: &str) -> Option<RoleRef> {
        let name = text::fold(name.trim());
        let own = self.roles.get(&name).and_then(|id| RoleRef::from_name(id));
        own.or_else(|| RoleRef::from_name(&name))
    }

    /// A role by its name alone, or with where it is held: `coach@School/Year 7`, `learner@platform`,
    /// `instructor@session:2027-03`. Names may have an `@` themselves.
    pub(super) fn find_role(&self, text: &str) -> Result<(RoleRef, Option<Scope>), String> {
        if let Some(role) = self.role(text) {
            return Ok((role, None));
        }
        let ats = text.match_indices('@').map(|(at, _)| text.split_at(at));
        let mut found = ats.filter_map(|(role, place)| Some((self.role(role)?, place[1..].trim())));
        match found.next() {
            Some((role, place)) => self.find_scope(place).map(|scope| (role, Some(scope))),
            None => Err(format!("there is no role {text:?}")),
        }
    }

    fn find_scope(&self, place: &str) -> Result<Scope, String> {
        if text::fold(place) == PLATFORM {
            return Ok(Scope::Platform);
        }
        match place.strip_prefix(SESSION) {
            Some(id) if (1..=MAX_SESSION_ID).contains(&id.chars().count()) => Ok(Scope::Session(id.to_owned())),
            Some(_) => Err(format!("a session's id has 1 to {MAX_SESSION_ID} characters")),
            None => self.find_group(place).map(Scope::Group),
        }
    }
}

/// What stands for the platform behind the `@` of a role.
const PLATFORM: &str = "platform";
/// What stands before the id of a session there.
const SESSION: &str = "session:";

/// A role with where it is held, as a file has it. `group` answers what groups are called; a role in a group without a name is
/// left out.
pub(crate) fn role_with_place(role: &str, scope: &Scope, group: impl Fn(GroupId) -> Option<String>) -> Option<String> {
    Some(match scope {
        Scope::Platform => format!("{role}@{PLATFORM}"),
        Scope::Session(id) => format!("{role}@{SESSION}{id}"),
        Scope::Group(id) => {
            let path = group(*id)?;
            let is_odd = text::fold(&path) == PLATFORM || path.starts_with(SESSION);
            if is_odd {
                format!("{role}@{id}")
            } else {
                format!("{role}@{path}")
            }
        }
    })
}

/// The fields of a file that matter in a mode; none: all of them.
pub(crate) fn fields(mode: ImportMode) -> Vec<Field> {
    match mode {
        ImportMode::Create | ImportMode::Invite | ImportMode::Update => Vec::new(),
        ImportMode::Activate | ImportMode::Deactivate => vec![Field::Email, Field::ExternalId],
    }
}

/// Judges a row; its faults are named by the heads of the file.
pub(crate) fn judge(row: Row, table: &Table, names: &Names) -> ItemInput {
    let kept = match row.cells {
        Ok(cells) => Judging {
            table,
            faults: Vec::new(),
        }
        .row(cells, names),
        Err(faults) => Kept {
            email: row.address,
            faults: faults.into_iter().map(|fault| (fault.column, fault.reason)).collect(),
            ..Kept::default()
        },
    };
    ItemInput {
        position: i64::try_from(row.line).unwrap_or(i64::MAX),
        user: None,
        undo: None,
        row: serde_json::to_value(kept).ok(),
    }
}

struct Judging<'a> {
    table: &'a Table,
    faults: Vec<CellFault>,
}

impl Judging<'_> {
    fn row(mut self, row: ImportRow, names: &Names) -> Kept {
        if let Err(fault) = EmailAddress::parse(&row.email) {
            self.fault(Field::Email, fault.to_string());
        }
        let mut kept = Kept {
            external_id: self.text(Field::ExternalId, row.external_id, |t| {
                text::line(t, text::MAX_EXTERNAL_ID)
            }),
            first_name: self.text(Field::FirstName, row.first_name, |t| text::name(t, text::MAX_NAME)),
            last_name: self.text(Field::LastName, row.last_name, |t| text::name(t, text::MAX_NAME)),
            language: self.text(Field::Language, row.language, text::language),
            time_zone: self.text(Field::TimeZone, row.time_zone, text::time_zone),
            expires: self.instant(Field::Expires, row.expires),
            deletes: self.instant(Field::Deletes, row.deletes),
            active: row.active,
            email: row.email,
            ..Kept::default()
        };
        if let Some(labels) = row.labels {
            match text::labels(&labels) {
                Ok(labels) => kept.labels = Some(labels),
                Err(faults) => {
                    for (_, fault) in faults {
                        self.fault(Field::Labels, fault);
                    }
                }
            }
        }
        let groups = row.groups.unwrap_or_default().into_iter().map(|name| (true, name));
        let roles = row.roles.unwrap_or_default().into_iter().map(|name| (false, name));
        for (is_group, name) in groups.chain(roles) {
            let wanted = Missing {
                column: self.head(if is_group { Field::Groups } else { Field::Roles }),
                is_group,
                name,
                reason: String::new(),
            };
            kept.named(names, wanted);
        }
        kept.faults = self
            .faults
            .into_iter()
            .map(|fault| (fault.column, fault.reason))
            .collect();
        kept
    }

    fn fault(&mut self, field: Field, reason: String) {
        self.faults.push(CellFault::new(self.head(field), reason));
    }

    fn head(&self, field: Field) -> String {
        self.table.head(field).unwrap_or_else(|| field.as_str().to_owned())
    }

    fn text<E: ToString>(
        &mut self,
        field: Field,
        value: Option<String>,
        parse: impl Fn(&str) -> Result<String, E>,
    ) -> Option<String> {
        match parse(&value?) {
            Ok(text) => Some(text),
            Err(fault) => {
                self.fault(field, fault.to_string());
                None
            }
        }
    }

    /// Whether it has passed is asked when the row's turn comes: somebody may have it already.
    #[expect(clippy::option_option, reason = "left alone, cleared, or set")]
    fn instant(&mut self, field: Field, change: Option<Change<Timestamp>>) -> Option<Option<Timestamp>> {
        match change? {
            Change::Clear => Some(None),
            Change::Set(at) if at >= too_late() => {
                self.fault(field, "is beyond the year 9999".into());
                None
            }
            Change::Set(at) => Some(Some(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use usher_core::ids::RoleId;
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        chrono::DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn group(number: u128, name: &str, parent: Option<u128>) -> Group {
        Group {
            tenant: TenantId(Uuid::nil()),
            id: GroupId(Uuid::from_u128(number)),
            version: 1,
            name: name.into(),
            external_id: (number == 3).then(|| "G-3".into()),
            parent: parent.map(|id| GroupId(Uuid::from_u128(id))),
            created_at: at(0),
            updated_at: at(0),
        }
    }

    fn custom(number: u128) -> CustomRole {
        CustomRole {
            tenant: TenantId(Uuid::nil()),
            id: RoleId(Uuid::from_u128(number)),
            version: 1,
            name: "own".into(),
            permissions: Vec::new(),
            created_at: at(0),
        }
    }

    #[test]
    fn groups_are_found_by_path_name_external_id_and_id_and_never_guessed() {
        let groups = [
            group(1, "School", None),
            group(2, "Year 7", Some(1)),
            group(3, "Choir", Some(1)),
            group(4, "Choir", None),
        ];
        let names = Names::new(&groups, &[]);
        let found = |name: &str| names.find_group(name).map(|id| id.0.as_u128());
        assert_eq!(found("school/YEAR 7"), Ok(2));
        assert_eq!(found("Year 7"), Ok(2));
        assert_eq!(found("g-3"), Ok(3));
        assert_eq!(found(&Uuid::from_u128(3).to_string()), Ok(3));
        assert!(found("Choir").unwrap_err().contains("several"));
        assert!(found("Year 8").unwrap_err().contains("no group"));
    }

    #[test]
    fn l10_roles_are_found_with_where_they_are_held_and_come_back_as_they_were_written() {
        let groups = [
            group(1, "School", None),
            group(2, "Year 7", Some(1)),
            group(5, "Platform", None),
        ];
        let odd = CustomRole {
            name: "help@school".into(),
            ..custom(9)
        };
        let names = Names::new(&groups, &[odd]);
        let coach = RoleRef::from_name("coach").unwrap();
        let own = RoleRef::Custom(RoleId(Uuid::from_u128(9)));
        assert_eq!(names.find_role("Coach"), Ok((coach, None)));
        assert_eq!(names.find_role("help@school"), Ok((own, None)));
        for (role, name, scope) in [
            (coach, "coach", Scope::Platform),
            (coach, "coach", Scope::Group(GroupId(Uuid::from_u128(2)))),
            (coach, "coach", Scope::Group(GroupId(Uuid::from_u128(5)))),
            (coach, "coach", Scope::Session("2027@spring".into())),
            (own, "help@school", Scope::Group(GroupId(Uuid::from_u128(1)))),
        ] {
            let called = |id: GroupId| {
                groups
                    .iter()
                    .find(|group| group.id == id)
                    .map(|group| group.name.clone())
            };
            let written = role_with_place(name, &scope, called).unwrap();
            assert_eq!(names.find_role(&written), Ok((role, Some(scope))), "{written}");
        }
        assert!(names.find_role("coach@Year 8").unwrap_err().contains("no group"));
        assert!(names.find_role("coach@session:").unwrap_err().contains("characters"));
        assert!(names.find_role("nobody@School").unwrap_err().contains("no role"));
    }
}
