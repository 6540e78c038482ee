//! Which column of a file is what.

use std::collections::BTreeMap;

use super::fault::FileFault;
use super::heads::{Meaning, key, meaning};
use super::raw::{Layout, head};
use crate::field::Field;

/// Names that a mapping can give beside those of fields.
const IGNORED: [&str; 3] = ["", "ignore", "-"];

/// Where each column is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) header: Vec<String>,
    /// One column each, but for groups.
    pub(crate) fields: Vec<(Field, usize)>,
    pub(crate) email: usize,
    /// A level, where there is no column of roles.
    pub(crate) level: Option<usize>,
    /// Whether the column of `Active` says the reverse.
    pub(crate) suspended: bool,
    pub(crate) deleted: Option<usize>,
    /// The user names, where they are the addresses.
    pub(crate) username: Option<usize>,
    information: Vec<usize>,
}

/// What whoever imports the file says about its columns: heads and the names of fields.
pub(crate) struct Mapping<'a>(pub(crate) &'a BTreeMap<String, String>);

impl Mapping<'_> {
    /// How many heads are known.
    pub(crate) fn recognised(&self, header: &[String]) -> usize {
        header
            .iter()
            .filter(|head| self.get(head).is_some() || meaning(head).is_some())
            .count()
    }

    fn get(&self, head: &str) -> Option<&str> {
        let exact = self.0.iter().find(|(given, _)| given.trim() == head);
        let folded = || {
            self.0
                .iter()
                .find(|(given, _)| !key(head).is_empty() && key(given) == key(head))
        };
        exact.or_else(folded).map(|(_, field)| field.trim())
    }

    fn check(&self, header: &[String]) -> Result<(), FileFault> {
        for (given, field) in self.0 {
            if !header
                .iter()
                .any(|head| head == given.trim() || key(head) == key(given))
            {
                return Err(FileFault::MappedColumn(given.clone(), header.join(", ")));
            }
            let field = field.trim();
            if !IGNORED.contains(&field) && named(field).is_none() {
                let fields: Vec<&str> = Field::ALL.into_iter().map(Field::as_str).collect();
                return Err(FileFault::MappedField(
                    given.clone(),
                    field.to_owned(),
                    fields.join(", "),
                ));
            }
        }
        Ok(())
    }

    /// What a column is, and whether the mapping said so.
    fn meaning(&self, head: &str) -> Option<Meaning> {
        match self.get(head) {
            Some(field) if IGNORED.contains(&field) => None,
            Some(field) => named(field),
            None => meaning(head),
        }
    }
}

fn named(field: &str) -> Option<Meaning> {
    match field {
        "username" => Some(Meaning::Username),
        "level" => Some(Meaning::Level),
        "suspended" => Some(Meaning::Suspended),
        "deleted" => Some(Meaning::Deleted),
        _ => Field::from_name(field).map(Meaning::Field),
    }
}

impl Columns {
    /// Finds the columns by their heads.
    pub(crate) fn find(header: &[String], mapping: &Mapping, wanted: &[Field]) -> Result<Self, FileFault> {
        mapping.check(header)?;
        let matters = |meaning: &Meaning| wanted.is_empty() || meaning.is_about(wanted);
        let meanings: Vec<_> = header
            .iter()
            .map(|head| mapping.meaning(head).filter(matters))
            .collect();
        let all = |wanted: Meaning| {
            let is_it = move |(_, meaning): &(usize, &Option<Meaning>)| **meaning == Some(wanted);
            meanings.iter().enumerate().filter(is_it).map(|(index, _)| index)
        };
        let one = |wanted: Meaning| {
            let mut found = all(wanted);
            match (found.next(), found.next()) {
                (Some(first), Some(second)) => Err(FileFault::Twice(head(header, first), head(header, second))),
                (first, _) => Ok(first),
            }
        };
        let mut fields = Vec::new();
        for field in Field::ALL.into_iter().filter(|field| *field != Field::Groups) {
            fields.extend(one(Meaning::Field(field))?.map(|index| (field, index)));
        }
        fields.extend(groups(&all, &one)?.into_iter().map(|index| (Field::Groups, index)));
        let index = |fields: &[(Field, usize)], wanted| {
            fields
                .iter()
                .find(|(field, _)| *field == wanted)
                .map(|(_, index)| *index)
        };
        let suspended = one(Meaning::Suspended)?;
        if let (Some(active), Some(suspended)) = (index(&fields, Field::Active), suspended) {
            return Err(FileFault::Twice(head(header, active), head(header, suspended)));
        }
        fields.extend(suspended.map(|index| (Field::Active, index)));
        // `Vorname;Name` and `Prénom;Nom`: beside a first name, a bare "name" is the last name.
        if index(&fields, Field::FirstName).is_some() && index(&fields, Field::LastName).is_none() {
            let bare = header
                .iter()
                .position(|head| head.trim().eq_ignore_ascii_case("name") && mapping.get(head).is_none());
            fields.extend(bare.map(|index| (Field::LastName, index)));
        }
        let username = one(Meaning::Username)?;
        let email = index(&fields, Field::Email);
        match (email, username) {
            (None, Some(username)) => fields.insert(0, (Field::Email, username)),
            (Some(_), Some(username)) if index(&fields, Field::ExternalId).is_none() => {
                fields.push((Field::ExternalId, username));
            }
            _ => {}
        }
        Ok(Self {
            email: email
                .or(username)
                .ok_or_else(|| FileFault::NoEmail(header.join(", ")))?,
            level: one(Meaning::Level)?.filter(|_| index(&fields, Field::Roles).is_none()),
            suspended: suspended.is_some(),
            deleted: one(Meaning::Deleted)?,
            username: username.filter(|_| email.is_none()),
            information: all(Meaning::Information).collect(),
            header: header.to_vec(),
            fields,
        })
    }

    /// What reading rows needs to know.
    pub(crate) fn layout(&self) -> Layout {
        let is_list = |field: &Field| matches!(field, Field::Labels | Field::Groups | Field::Roles);
        let single = self.fields.iter().filter(|(field, _)| !is_list(field));
        Layout {
            header: self.header.clone(),
            email: self.email,
            used: self.used(),
            single: single.map(|(_, index)| *index).collect(),
        }
    }

    /// The indices of all columns that are used.
    pub(crate) fn used(&self) -> Vec<usize> {
        self.fields
            .iter()
            .map(|(_, index)| *index)
            .chain(self.level)
            .chain(self.deleted)
            .collect()
    }

    /// The index of a field.
    pub(crate) fn index(&self, wanted: Field) -> Option<usize> {
        self.fields
            .iter()
            .find(|(field, _)| *field == wanted)
            .map(|(_, index)| *index)
    }

    /// The head of a column.
    pub(crate) fn head(&self, index: usize) -> String {
        head(&self.header, index)
    }

    /// What whoever imports it should know about columns.
    pub(crate) fn notes(&self) -> Vec<String> {
        let used = self.used();
        let heads = |wanted: &dyn Fn(usize) -> bool| {
            let heads = self.header.iter().enumerate();
            let heads = heads.filter(|(index, head)| !head.is_empty() && !used.contains(index) && wanted(*index));
            heads.map(|(_, head)| head.as_str()).collect::<Vec<_>>().join(", ")
        };
        let mut notes = Vec::new();
        if let Some(username) = self.username {
            notes.push(format!(
                "The addresses were taken from the column {}.",
                self.head(username)
            ));
        }
        let unused = heads(&|index| !self.information.contains(&index));
        if !unused.is_empty() {
            notes.push(format!("Columns that are not used: {unused}."));
        }
        let information = heads(&|index| self.information.contains(&index));
        if !information.is_empty() {
            notes.push(format!("Columns that an import does not change: {information}."));
        }
        notes
    }
}

/// The columns of groups: ours, Moodle's numbered ones, or one of Docebo's three ways to name a branch.
fn groups<I: Iterator<Item = usize>>(
    all: &impl Fn(Meaning) -> I,
    one: &impl Fn(Meaning) -> Result<Option<usize>, FileFault>,
) -> Result<Vec<usize>, FileFault> {
    let mut groups: Vec<usize> = one(Meaning::Field(Field::Groups))?.into_iter().collect();
    groups.extend(all(Meaning::Cohort));
    for way in 0..4 {
        if groups.is_empty() {
            groups.extend(one(Meaning::Branch(way))?);
        }
    }
    Ok(groups)
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
