//! From a row of a file to what is kept of it: texts are judged, groups and roles are found by their names.

use std::collections::BTreeMap;

use usher_core::clock::{Timestamp, too_late};
use usher_core::email::EmailAddress;
use usher_core::group::Group;
use usher_core::ids::GroupId;
#[cfg(test)]
use usher_core::ids::TenantId;
use usher_core::job::ItemInput;
use usher_core::role::{CustomRole, RoleRef};
use usher_core::text;
use usher_transfer::Field;
use usher_transfer::read::{CellFault, Change, ImportRow, Row, Table};

use super::Kept;

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

    fn find_group(&self, name: &str) -> Result<GroupId, String> {
        match self.groups.get(&text::fold(name)) {
            Some(Some(id)) => Ok(*id),
            Some(None) => Err(format!(
                "several groups are called {name:?}; write the path, for example School/Year 7"
            )),
            None => Err(format!("there is no group {name:?}; create it first")),
        }
    }

    fn find_role(&self, name: &str) -> Result<String, String> {
        let own = self.roles.get(&text::fold(name)).cloned();
        own.or_else(|| RoleRef::from_name(&text::fold(name)).map(|role| role.to_string()))
            .ok_or_else(|| format!("there is no role {name:?}"))
    }
}

/// Judges a row; its faults are named by the heads of the file.
pub(crate) fn judge(row: Row, table: &Table, names: &Names, now: Timestamp) -> ItemInput {
    let kept = match row.cells {
        Ok(cells) => Judging {
            table,
            faults: Vec::new(),
        }
        .row(cells, names, now),
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
    fn row(mut self, row: ImportRow, names: &Names, now: Timestamp) -> Kept {
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
            expires: self.instant(Field::Expires, row.expires, now),
            deletes: self.instant(Field::Deletes, row.deletes, now),
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
        for name in row.groups.unwrap_or_default() {
            match names.find_group(&name) {
                Ok(group) => drop(kept.groups.insert(group)),
                Err(fault) => self.fault(Field::Groups, fault),
            }
        }
        for name in row.roles.unwrap_or_default() {
            match names.find_role(&name) {
                Ok(role) => drop(kept.roles.insert(role)),
                Err(fault) => self.fault(Field::Roles, fault),
            }
        }
        kept.faults = self
            .faults
            .into_iter()
            .map(|fault| (fault.column, fault.reason))
            .collect();
        kept
    }

    fn fault(&mut self, field: Field, reason: String) {
        let head = self.table.head(field).unwrap_or_else(|| field.as_str().to_owned());
        self.faults.push(CellFault::new(head, reason));
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

    #[expect(clippy::option_option, reason = "left alone, cleared, or set")]
    fn instant(
        &mut self,
        field: Field,
        change: Option<Change<Timestamp>>,
        now: Timestamp,
    ) -> Option<Option<Timestamp>> {
        match change? {
            Change::Clear => Some(None),
            Change::Set(at) if at <= now => {
                self.fault(field, "is not in the future".into());
                None
            }
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
}
