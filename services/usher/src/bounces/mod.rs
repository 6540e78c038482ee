//! Reads what mail servers send back: delivery status notifications (RFC 3464, with RFC 6533 for addresses in UTF-8) and
//! feedback reports (RFC 5965), as raw messages.
//!
//! Only a `multipart/report` counts. Whatever else arrives in a mailbox for bounces (out-of-office notes, answers, notices in
//! a server's own words) is told as no report. Nothing of a message is trusted: the service acts on a report only if it is
//! about a mail that it sent.

mod delivery_status;
mod feedback;
mod fields;
pub(crate) mod source;
#[cfg(test)]
mod tests;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};
use usher_core::email::EmailAddress;
use usher_proto::identity::v1::{BounceKind, BounceReport};

use self::fields::Fields;

/// Bytes of a message that are read: a longer one is no report.
pub(crate) const MAX_MESSAGE: usize = 10 << 20;
/// Recipients of one message that are read.
const MAX_RECIPIENTS: usize = 1_000;
/// Characters of a server's words, and of a Message-ID.
const MAX_TEXT: usize = 500;

/// What a message is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    /// Nothing to report, and why.
    Nothing(&'static str),
    /// At least one report.
    Reports(Vec<BounceReport>),
}

const NO_REPORT: Reading = Reading::Nothing("it is no delivery status notification and no feedback report");

/// What is common to all reports of a message.
#[derive(Debug, Default)]
struct Envelope {
    /// Of the mail that came back.
    message_id: String,
    /// Of the report.
    time: Option<prost_types::Timestamp>,
}

/// Reads a message.
pub(crate) fn read(raw: &[u8]) -> Reading {
    if raw.len() > MAX_MESSAGE {
        return Reading::Nothing("it is longer than 10 MiB");
    }
    let Some(message) = MessageParser::default().parse(raw) else {
        return NO_REPORT;
    };
    let Some(root) = message.parts.first() else {
        return NO_REPORT;
    };
    let PartType::Multipart(children) = &root.body else {
        return NO_REPORT;
    };
    if !is(root, "multipart", &["report"]) {
        return NO_REPORT;
    }
    let report_type = root
        .content_type()
        .and_then(|kind| kind.attribute("report-type"))
        .unwrap_or_default()
        .to_ascii_lowercase();
    let parts: Vec<&MessagePart<'_>> = children
        .iter()
        .filter_map(|id| message.parts.get(usize::try_from(*id).ok()?))
        .collect();
    let envelope = Envelope {
        message_id: returned_message_id(&parts),
        time: message.date().and_then(time),
    };
    let part = |subtypes: &[&str]| parts.iter().find(|part| is(part, "message", subtypes));
    match report_type.as_str() {
        "delivery-status" => match part(&["delivery-status", "global-delivery-status"]) {
            Some(part) => delivery_status::read(&content(part), &envelope),
            None => Reading::Nothing("its part with the delivery status is missing"),
        },
        "feedback-report" => match part(&["feedback-report"]) {
            Some(part) => feedback::read(&content(part), &envelope),
            None => Reading::Nothing("its part with the feedback is missing"),
        },
        _ => NO_REPORT,
    }
}

fn is(part: &MessagePart<'_>, kind: &str, subtypes: &[&str]) -> bool {
    part.content_type().is_some_and(|found| {
        let subtype = found.subtype().unwrap_or_default();
        found.ctype().eq_ignore_ascii_case(kind) && subtypes.iter().any(|known| subtype.eq_ignore_ascii_case(known))
    })
}

/// The Message-ID of the mail that came back: of the message itself or of its head, whichever was returned.
fn returned_message_id(parts: &[&MessagePart<'_>]) -> String {
    let of_message = |message: &Message<'_>| message.message_id().map(str::to_owned);
    let found = parts.iter().rev().find_map(|part| match &part.body {
        PartType::Message(message) => of_message(message),
        _ if is(part, "text", &["rfc822-headers"]) || is(part, "message", &["global-headers", "rfc822", "global"]) => {
            let head = content(part);
            let id = Fields::all(&head).into_iter().next()?.get("message-id")?.to_owned();
            Some(id.trim_start_matches('<').trim_end_matches('>').to_owned())
        }
        _ => None,
    });
    usher_core::text::line(&one_line(&found.unwrap_or_default()), MAX_TEXT).unwrap_or_default()
}

/// The text of a part, whatever its type: of a nested message, its source.
fn content(part: &MessagePart<'_>) -> String {
    match &part.body {
        PartType::Text(text) | PartType::Html(text) => text.clone().into_owned(),
        PartType::Binary(bytes) | PartType::InlineBinary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        PartType::Message(message) => String::from_utf8_lossy(&message.raw_message).into_owned(),
        PartType::Multipart(_) => String::new(),
    }
}

fn time(date: &mail_parser::DateTime) -> Option<prost_types::Timestamp> {
    let in_era = (1970..=9999).contains(&date.year);
    (date.is_valid() && in_era).then(|| prost_types::Timestamp {
        seconds: date.to_timestamp(),
        nanos: 0,
    })
}

/// A report; `None` if it names no mail.
fn report(kind: BounceKind, recipient: &str, status: &str, diagnostic: &str, of: &Envelope) -> Option<BounceReport> {
    // What the service would refuse as no address must not hold up the others.
    let recipient =
        EmailAddress::parse(recipient).map_or_else(|_| String::new(), |address| address.as_str().to_owned());
    let report = BounceReport {
        delivery_id: String::new(),
        message_id: of.message_id.clone(),
        recipient,
        kind: kind.into(),
        status: status.to_owned(),
        diagnostic: one_line(diagnostic),
        time: of.time,
    };
    (!report.message_id.is_empty() || !report.recipient.is_empty()).then_some(report)
}

/// On one line, without what cannot be seen, cut at 500 characters.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if !line.is_empty() && !word.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    let seen = line
        .chars()
        .filter(|c| usher_core::text::line(c.encode_utf8(&mut [0; 4]), 9).is_ok());
    seen.take(MAX_TEXT).collect()
}
