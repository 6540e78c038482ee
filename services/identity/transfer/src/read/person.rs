//! A user made of a row: texts, dates and yes or no. Whether a text is an address, a language or a group is for the
//! service to judge.

use usher_core::clock::Timestamp;
use usher_core::text::fold;

use super::columns::Columns;
use super::fault::CellFault;
use super::raw::{Cell, Kind};
use crate::dates;
use crate::field::Field;
use crate::list;

/// A change of something that can be set or taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<T> {
    /// It becomes this.
    Set(T),
    /// It is taken away: the cell says "never".
    Clear,
}

/// What a row says about a user. `None`: there is no such column, or the cell is empty; what is there stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportRow {
    /// As it stands in the file; never empty.
    pub email: String,
    /// The id in the caller's system.
    pub external_id: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// As it stands in the file.
    pub language: Option<String>,
    /// As it stands in the file.
    pub time_zone: Option<String>,
    /// Labels; never empty.
    pub labels: Option<Vec<String>>,
    /// Names, paths with `/`, external ids or UUIDs, as they stand; never empty.
    pub groups: Option<Vec<String>>,
    /// Names of roles, as they stand; never empty.
    pub roles: Option<Vec<String>>,
    /// When access ends.
    pub expires: Option<Change<Timestamp>>,
    /// When the account is deleted.
    pub deletes: Option<Change<Timestamp>>,
    /// Whether the person may in.
    pub active: Option<bool>,
}

/// What Moodle writes for whoever lives by the time zone of the site.
const SITE_ZONE: &str = "99";
const NEVER: &[&str] = &["never", "jamais", "nie", "niemals", "nunca", "mai", "nooit"];
const TRUE: &[&str] = &[
    "1",
    "true",
    "yes",
    "y",
    "x",
    "on",
    "oui",
    "vrai",
    "ja",
    "wahr",
    "si",
    "verdadero",
    "vero",
    "sim",
    "verdadeiro",
    "waar",
];
const FALSE: &[&str] = &[
    "0", "false", "no", "n", "off", "non", "faux", "nein", "falsch", "falso", "nao", "nee", "onwaar",
];
const ACTIVE: &[&str] = &[
    "active",
    "activated",
    "enabled",
    "actif",
    "active",
    "aktiv",
    "aktiviert",
    "activo",
    "activado",
    "attivo",
    "attivato",
    "ativo",
    "ativado",
    "actief",
];
const DEACTIVATED: &[&str] = &[
    "deactivated",
    "inactive",
    "disabled",
    "suspended",
    "blocked",
    "inactif",
    "desactive",
    "suspendu",
    "inaktiv",
    "deaktiviert",
    "gesperrt",
    "inactivo",
    "desactivado",
    "suspendido",
    "inattivo",
    "disattivato",
    "sospeso",
    "inativo",
    "desativado",
    "suspenso",
    "inactief",
    "gedeactiveerd",
];
/// Statuses that an import leaves as they are: only their own commands lead there.
const ELSEWHERE: &[&str] = &["pending", "invited", "expired", "erased"];

/// Reads rows.
pub(crate) struct Reader<'a> {
    pub(crate) columns: &'a Columns,
    /// The date system of the spreadsheet.
    pub(crate) is_1904: bool,
}

impl Reader<'_> {
    /// The user of a row, or everything that is wrong with it as far as it shows here. Also whether its level stands for
    /// no role.
    pub(crate) fn row(&self, cells: &[Cell]) -> Result<(ImportRow, bool), Vec<CellFault>> {
        let mut faults = Vec::new();
        for index in self.columns.used() {
            let cell = &cells[index];
            if cell.kind == Kind::Error {
                faults.push(self.fault(index, format!("holds the error {}; correct the formula", cell.text)));
            } else if cell.text.contains(char::REPLACEMENT_CHARACTER) {
                faults.push(self.fault(index, "contains characters that cannot be read; save the file as UTF-8"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let text = |field| {
            self.columns
                .index(field)
                .map(|index| cells[index].text.clone())
                .filter(|text| !text.is_empty())
        };
        let list = |field, separators: &[char]| {
            let cells = self
                .columns
                .fields
                .iter()
                .filter(|(known, _)| *known == field)
                .map(|(_, index)| &cells[*index]);
            let names: Vec<String> = cells.flat_map(|cell| list::split(&cell.text, separators)).collect();
            (!names.is_empty()).then_some(names)
        };
        let email = text(Field::Email).unwrap_or_default();
        if email.is_empty() {
            faults.push(self.fault(self.columns.email, "is empty; each row needs an address"));
        }
        let expires = keep(self.instant(Field::Expires, cells), &mut faults).flatten();
        let deletes = keep(self.instant(Field::Deletes, cells), &mut faults).flatten();
        let active = keep(self.active(cells), &mut faults).flatten();
        let level = self.level(cells);
        keep(self.not_deleted(cells), &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        let row = ImportRow {
            email,
            external_id: text(Field::ExternalId),
            first_name: text(Field::FirstName),
            last_name: text(Field::LastName),
            language: text(Field::Language),
            time_zone: text(Field::TimeZone).filter(|zone| zone != SITE_ZONE),
            labels: list(Field::Labels, list::LABELS),
            groups: list(Field::Groups, list::NAMES),
            roles: list(Field::Roles, list::NAMES).or_else(|| level.role()),
            expires,
            deletes,
            active,
        };
        Ok((row, level == Level::Other))
    }

    fn fault(&self, index: usize, reason: impl Into<String>) -> CellFault {
        CellFault::new(self.columns.head(index), reason)
    }

    fn instant(&self, field: Field, cells: &[Cell]) -> Result<Option<Change<Timestamp>>, CellFault> {
        let Some(index) = self.columns.index(field) else {
            return Ok(None);
        };
        let cell = &cells[index];
        match cell.kind {
            _ if cell.text.is_empty() => Ok(None),
            Kind::Date(at) => Ok(Some(Change::Set(at))),
            Kind::Number(number) => dates::from_plain_number(number, self.is_1904)
                .map(Change::Set)
                .map(Some),
            _ => match dates::parse(&cell.text) {
                Err(_) if NEVER.contains(&fold(&cell.text).as_str()) => Ok(Some(Change::Clear)),
                parsed => parsed.map(Change::Set).map(Some),
            },
        }
        .map_err(|reason| self.fault(index, reason))
    }

    fn active(&self, cells: &[Cell]) -> Result<Option<bool>, CellFault> {
        let Some(index) = self.columns.index(Field::Active) else {
            return Ok(None);
        };
        let word = fold(&cells[index].text);
        let word = word.as_str();
        if self.columns.suspended {
            return match yes_or_no(word) {
                Ok(suspended) => Ok(suspended.map(|suspended| !suspended)),
                Err(reason) => Err(self.fault(index, reason)),
            };
        }
        if ACTIVE.contains(&word) {
            Ok(Some(true))
        } else if DEACTIVATED.contains(&word) {
            Ok(Some(false))
        } else if ELSEWHERE.contains(&word) {
            Ok(None)
        } else {
            let known = "is not a status that can be set; write active or deactivated, or leave it empty";
            yes_or_no(word).map_err(|_| self.fault(index, known))
        }
    }

    fn not_deleted(&self, cells: &[Cell]) -> Result<(), CellFault> {
        let Some(index) = self.columns.deleted else {
            return Ok(());
        };
        match yes_or_no(&fold(&cells[index].text)) {
            Ok(Some(true)) => Err(self.fault(
                index,
                "says that this person is deleted; remove the row, or give a deletion date",
            )),
            Ok(_) => Ok(()),
            Err(reason) => Err(self.fault(index, reason)),
        }
    }

    fn level(&self, cells: &[Cell]) -> Level {
        let Some(index) = self.columns.level else {
            return Level::None;
        };
        let word: String = fold(&cells[index].text)
            .chars()
            .filter(|c| c.is_alphanumeric())
            .collect();
        match word.as_str() {
            "" => Level::None,
            "user" => Level::Learner,
            "superadmin" | "godadmin" => Level::Administrator,
            _ => Level::Other,
        }
    }
}

/// Sets a fault aside.
fn keep<T>(found: Result<T, CellFault>, faults: &mut Vec<CellFault>) -> Option<T> {
    found.map_err(|fault| faults.push(fault)).ok()
}

/// What a level of Docebo stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    None,
    Learner,
    Administrator,
    /// Rights over chosen people and courses, or no level of Docebo at all: no role stands for it, so none is given.
    Other,
}

impl Level {
    fn role(self) -> Option<Vec<String>> {
        match self {
            Self::None | Self::Other => None,
            Self::Learner => Some(vec!["learner".into()]),
            Self::Administrator => Some(vec!["administrator".into()]),
        }
    }
}

fn yes_or_no(word: &str) -> Result<Option<bool>, &'static str> {
    if word.is_empty() {
        Ok(None)
    } else if TRUE.contains(&word) {
        Ok(Some(true))
    } else if FALSE.contains(&word) {
        Ok(Some(false))
    } else {
        Err("is neither yes nor no; write 1 or 0")
    }
}
