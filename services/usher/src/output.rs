//! What a command prints: tables for people, one JSON object a line for programs. The JSON form of a message is that of
//! proto3, with the field names of the .proto files and every field present, so that the API's documentation is its
//! documentation.

use std::io::{self, BufWriter, Write};
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use tabled::builder::Builder;
use tabled::settings::{Padding, Style};

use crate::failure::Failure;

/// Every message of the API.
static MESSAGES: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(usher_proto::FILE_DESCRIPTOR_SET).expect("the descriptors were encoded by the build script")
});

/// A message that has a row in a table.
pub(crate) trait Show: prost::Message {
    /// Its full name in the .proto files.
    const NAME: &'static str;
    /// The heads of its columns.
    const COLUMNS: &'static [&'static str];

    /// One cell for each column.
    fn cells(&self) -> Vec<String>;
}

/// Where a command prints to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For programs.
    pub(crate) json: bool,
}

impl Output {
    /// Prints a list.
    pub(crate) fn list<M: Show>(self, items: &[M]) -> Result<(), Failure> {
        if self.json {
            return lines(items.iter().map(json));
        }
        table(M::COLUMNS, items.iter().map(Show::cells))
    }

    /// Prints one message: for people as the pairs given.
    pub(crate) fn one<M: Show>(self, item: &M, pairs: &[(&str, String)]) -> Result<(), Failure> {
        if self.json {
            lines([json(item)])
        } else {
            self::pairs(pairs)
        }
    }
}

/// Prints names and values below each other; those without a value are left out.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> Result<(), Failure> {
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines(
        pairs
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:width$}  {}", printable(value))),
    )
}

/// Prints a table with a head. Without rows it prints nothing.
pub(crate) fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<(), Failure> {
    lines(aligned(columns, rows).lines())
}

/// Prints lines as they are.
pub(crate) fn lines<L: std::fmt::Display>(lines: impl IntoIterator<Item = L>) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    lines
        .into_iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| out.flush())
        .map_err(Failure::output)
}

/// Tells people something beside the result, on standard error.
pub(crate) fn note(text: &str) {
    // Without a standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Columns side by side, two spaces apart; empty without rows. Wide characters count as two.
fn aligned(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Builder::default();
    table.push_record(columns.iter().copied());
    for row in rows {
        table.push_record(row.iter().map(|cell| printable(cell)));
    }
    if table.count_records() == 1 {
        return String::new();
    }
    let mut table = table.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    let lines = table.to_string();
    lines.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A message in the JSON form of proto3.
pub(crate) fn json<M: Show>(message: &M) -> String {
    let descriptor = MESSAGES
        .get_message_by_name(M::NAME)
        .expect("a test looks up every name that is shown");
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("the message was encoded by the code that is generated from this descriptor");
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false)
        .stringify_64_bit_integers(false);
    let mut text = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options)
        .expect("a message of the API has a JSON form, and memory takes it");
    String::from_utf8_lossy(&text).into_owned()
}

/// A text that cannot steer a terminal or turn the direction of what stands around it. Line breaks become spaces.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// An enum's value as people read it: `ACTIVE`. Empty for the unspecified one.
pub(crate) fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => "",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use usher_proto::identity::v1::{
        AccessDecision, Delivery, Group, Invitation, InviteResult, Job, JobItem, MemberResult, Permission, Role,
        RoleAssignment, SeatLedgerEntry, Suppression, Tenant, User,
    };

    use super::*;

    fn name_is_known<M: Show>() {
        let descriptor = MESSAGES
            .get_message_by_name(M::NAME)
            .unwrap_or_else(|| panic!("{} is no message", M::NAME));
        let none = M::COLUMNS.is_empty();
        assert!(!none && descriptor.fields().count() > 0);
    }

    #[test]
    fn every_message_that_is_shown_has_its_name_in_the_proto_files() {
        name_is_known::<AccessDecision>();
        name_is_known::<Delivery>();
        name_is_known::<usher_proto::identity::v1::AuditEntry>();
        name_is_known::<usher_proto::identity::v1::AuditFault>();
        name_is_known::<usher_proto::identity::v1::VerifyAuditResponse>();
        name_is_known::<Invitation>();
        name_is_known::<Group>();
        name_is_known::<InviteResult>();
        name_is_known::<Job>();
        name_is_known::<JobItem>();
        name_is_known::<MemberResult>();
        name_is_known::<Permission>();
        name_is_known::<Role>();
        name_is_known::<RoleAssignment>();
        name_is_known::<SeatLedgerEntry>();
        name_is_known::<Suppression>();
        name_is_known::<Tenant>();
        name_is_known::<User>();
        name_is_known::<usher_proto::identity::v1::ExplainUserResponse>();
        name_is_known::<usher_proto::identity::v1::GetSeatForecastResponse>();
        name_is_known::<usher_proto::identity::v1::GetSeatUsageResponse>();
        name_is_known::<usher_proto::identity::v1::InspectInvitationResponse>();
        name_is_known::<usher_proto::identity::v1::PreviewSelectionResponse>();
        name_is_known::<usher_proto::identity::v1::PreviewInvitationResponse>();
        name_is_known::<usher_proto::identity::v1::PreviewTemplateResponse>();
        name_is_known::<usher_proto::identity::v1::Template>();
        name_is_known::<usher_proto::identity::v1::SendTestInvitationResponse>();
        name_is_known::<usher_proto::identity::v1::WatchEventsResponse>();
    }

    #[test]
    fn json_has_the_names_of_the_proto_files_and_every_field() {
        let user = User {
            email: "zoë@example.org".into(),
            status: 3,
            version: 7,
            expire_time: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            ..User::default()
        };
        let shown: serde_json::Value = serde_json::from_str(&json(&user)).unwrap();
        assert_eq!(shown["email"], "zoë@example.org");
        assert_eq!(shown["status"], "USER_STATUS_ACTIVE");
        assert_eq!(shown["version"], 7);
        assert_eq!(shown["expire_time"], "1970-01-01T00:00:00Z");
        assert_eq!(shown["labels"], serde_json::json!([]));
        assert_eq!(shown["first_name"], "");
    }

    #[test]
    fn columns_line_up_and_wide_characters_count_as_two() {
        let rows = [vec!["山田".into(), "x".into()], vec!["Ana".into(), String::new()]];
        let text = aligned(&["NAME", "ID"], rows.into_iter());
        assert_eq!(text, "NAME  ID\n山田  x\nAna");
        assert_eq!(aligned(&["NAME"], std::iter::empty()), "");
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal_or_break_the_line() {
        let rows = [vec!["a\u{1b}[31m\nb\u{202e}c\u{9b}".into()]];
        assert_eq!(aligned(&["X"], rows.into_iter()), "X\na�[31m b�c�");
    }
}
