//! One user in an export.

use std::borrow::Cow;

use usher_core::clock::Timestamp;

use super::ExportColumn;
use crate::list;

/// One user, with what the chosen columns need; the rest can stay empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportRow {
    /// The id of the account.
    pub user_id: Option<String>,
    /// The address.
    pub email: Option<String>,
    /// The id in the caller's system.
    pub external_id: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Language tag.
    pub language: Option<String>,
    /// IANA name of the time zone.
    pub time_zone: Option<String>,
    /// Labels.
    pub labels: Vec<String>,
    /// The name of the status: `INVITED`.
    pub status: Option<String>,
    /// Since when it holds.
    pub status_since: Option<Timestamp>,
    /// Names, paths or ids of groups.
    pub groups: Vec<String>,
    /// Names of roles.
    pub roles: Vec<String>,
    /// When access ends.
    pub expires: Option<Timestamp>,
    /// When the account is deleted.
    pub deletes: Option<Timestamp>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When registration was completed.
    pub activated: Option<Timestamp>,
    /// When the person signed in last.
    pub last_login: Option<Timestamp>,
}

/// What is written into a cell.
pub(crate) enum Value<'a> {
    Empty,
    Text(Cow<'a, str>),
    Instant(Timestamp),
}

impl ExportRow {
    /// The value of a column. A text is one line: control characters become spaces.
    pub(crate) fn value(&self, column: ExportColumn) -> Value<'_> {
        match column {
            ExportColumn::UserId => text(self.user_id.as_deref()),
            ExportColumn::Email => text(self.email.as_deref()),
            ExportColumn::ExternalId => text(self.external_id.as_deref()),
            ExportColumn::FirstName => text(self.first_name.as_deref()),
            ExportColumn::LastName => text(self.last_name.as_deref()),
            ExportColumn::Language => text(self.language.as_deref()),
            ExportColumn::TimeZone => text(self.time_zone.as_deref()),
            ExportColumn::Status => text(self.status.as_deref()),
            ExportColumn::Labels => names(&self.labels, list::LABELS),
            ExportColumn::Groups => names(&self.groups, list::NAMES),
            ExportColumn::Roles => names(&self.roles, list::NAMES),
            ExportColumn::StatusSince => instant(self.status_since),
            ExportColumn::Expires => instant(self.expires),
            ExportColumn::Deletes => instant(self.deletes),
            ExportColumn::Created => instant(self.created),
            ExportColumn::Activated => instant(self.activated),
            ExportColumn::LastLogin => instant(self.last_login),
        }
    }
}

fn text(text: Option<&str>) -> Value<'_> {
    match text {
        None | Some("") => Value::Empty,
        Some(text) => Value::Text(one_line(text.into())),
    }
}

fn names<'a>(names: &[String], separators: &[char]) -> Value<'a> {
    match list::join(names, separators) {
        cell if cell.is_empty() => Value::Empty,
        cell => Value::Text(one_line(cell.into())),
    }
}

fn instant<'a>(at: Option<Timestamp>) -> Value<'a> {
    at.map_or(Value::Empty, Value::Instant)
}

/// Names have no control characters (see `usher_core::text`); what has some all the same must not break a line or a file.
pub(crate) fn one_line(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FFFE}' | '\u{FFFF}');
    if text.contains(is_odd) {
        Cow::Owned(text.replace(is_odd, " "))
    } else {
        text
    }
}
