//! From requests to core's types, gathering every fault instead of the first.

use chrono::{DateTime, Utc};
use prost_types::FieldMask;
use usher_core::clock::{Timestamp, to_micros, too_late};
use usher_core::email::EmailAddress;
use usher_core::invitation::Message;
use usher_core::refusal::{FieldViolation, Refusal};
use usher_core::text;
use usher_proto::identity::v1 as proto;
use uuid::Uuid;

/// Ids in one request at most.
pub(crate) const MAX_IDS: usize = 1_000;
/// Customised texts in one request at most.
const MAX_MESSAGES: usize = 50;
/// Rows of a page at most, and by default.
const MAX_PAGE: u32 = 1_000;
const DEFAULT_PAGE: u32 = 100;

/// What is wrong with an expiration that has passed.
const NOT_AHEAD: &str = "is not in the future; to end access now, deactivate the user";

/// The faults found so far. Parsers answer a stand-in for a faulty field; `finish` decides.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    found: Vec<FieldViolation>,
    /// What only became a fault as time went by: told beside others. By itself it is judged when the call is carried out,
    /// since a repeated call is answered as the first was, however late it comes (B1).
    late: Vec<FieldViolation>,
}

impl Faults {
    /// Notes a fault.
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.found.push(FieldViolation::new(field, description));
    }

    /// Notes faults that were found elsewhere.
    pub(crate) fn extend(&mut self, violations: Vec<FieldViolation>) {
        self.found.extend(violations);
    }

    /// Refuses if there is any fault.
    pub(crate) fn finish(mut self) -> Result<(), Refusal> {
        if self.found.is_empty() {
            Ok(())
        } else {
            self.found.append(&mut self.late);
            Err(Refusal::InvalidFields(self.found))
        }
    }

    /// A value, or its stand-in and the fault.
    pub(crate) fn take<T: Default, E: ToString>(&mut self, field: &str, result: Result<T, E>) -> T {
        result.unwrap_or_else(|fault| {
            self.add(field, fault.to_string());
            T::default()
        })
    }

    /// A required id.
    pub(crate) fn id<T: From<Uuid>>(&mut self, field: &str, text: &str) -> T {
        if let Ok(id) = text.parse::<Uuid>() {
            id.into()
        } else {
            let fault = if text.is_empty() {
                "is required: a UUID"
            } else {
                "is not a UUID"
            };
            self.add(field, fault);
            Uuid::nil().into()
        }
    }

    /// An id that may be left out.
    pub(crate) fn optional_id<T: From<Uuid>>(&mut self, field: &str, text: &str) -> Option<T> {
        if text.is_empty() {
            None
        } else {
            Some(self.id(field, text))
        }
    }

    /// 1 to 1,000 ids.
    pub(crate) fn ids<T: From<Uuid>>(&mut self, field: &str, texts: &[String]) -> Vec<T> {
        if texts.is_empty() || texts.len() > MAX_IDS {
            self.add(field, format!("has {} ids; give 1 to {MAX_IDS}", texts.len()));
            return Vec::new();
        }
        texts
            .iter()
            .enumerate()
            .map(|(index, text)| self.id(&format!("{field}[{index}]"), text))
            .collect()
    }

    /// A required address.
    pub(crate) fn email(&mut self, field: &str, text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap_or_else(|fault| {
            self.add(field, fault.to_string());
            EmailAddress::from_stored(String::new(), String::new())
        })
    }

    /// An expiration: before the year 10000, and in the future (S13), which [`check_ahead`] refuses it for if it is not.
    pub(crate) fn expiration(
        &mut self,
        field: &str,
        at: Option<prost_types::Timestamp>,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let at = self.instant(field, at)?;
        if at >= too_late() {
            self.add(field, "is beyond the year 9999; leave it out for no expiration");
        } else if at <= now {
            self.late.push(FieldViolation::new(field, NOT_AHEAD));
        }
        Some(at)
    }

    /// An instant that may be left out.
    pub(crate) fn instant(&mut self, field: &str, at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
        let at = at?;
        let parsed = u32::try_from(at.nanos)
            .ok()
            .and_then(|nanos| DateTime::<Utc>::from_timestamp(at.seconds, nanos));
        if parsed.is_none() {
            self.add(field, "is not an instant: seconds or nanos are out of range");
        }
        parsed.map(to_micros)
    }

    /// Labels.
    pub(crate) fn labels(&mut self, field: &str, texts: &[String]) -> Vec<String> {
        text::labels(texts).unwrap_or_else(|faults| {
            for (index, fault) in faults {
                self.add(format!("{field}[{index}]"), fault);
            }
            Vec::new()
        })
    }

    /// An external id; empty: none.
    pub(crate) fn external_id(&mut self, field: &str, text: &str) -> Option<String> {
        let id = self.take(field, text::line(text, text::MAX_EXTERNAL_ID));
        (!id.is_empty()).then_some(id)
    }

    /// A new password.
    pub(crate) fn password(&mut self, field: &str, text: &str) {
        let length = text.chars().count();
        let bounds = crate::operations::passwords::LENGTH;
        if !bounds.contains(&length) {
            self.add(
                field,
                format!("must have {} to {} characters", bounds.start(), bounds.end()),
            );
        }
    }

    /// Customised texts (L11), at most one a language.
    pub(crate) fn messages(&mut self, field: &str, messages: &[proto::Message]) -> Vec<Message> {
        if messages.len() > MAX_MESSAGES {
            self.add(
                field,
                format!("has {} texts; at most {MAX_MESSAGES} are allowed", messages.len()),
            );
            return Vec::new();
        }
        let mut parsed: Vec<Message> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let at = |part: &str| format!("{field}[{index}].{part}");
            let message = Message {
                language: self.take(&at("language"), text::language(&message.language)),
                subject: self.take(&at("subject"), text::line(&message.subject, text::MAX_SUBJECT)),
                text: self.take(&at("text"), text::message(&message.text, text::MAX_MESSAGE)),
            };
            if parsed.iter().any(|other| other.language == message.language) {
                self.add(at("language"), "stands in the list twice; give one text a language");
            }
            parsed.push(message);
        }
        parsed
    }

    /// The paths of a mask: at least one, all of them known.
    pub(crate) fn mask(&mut self, field: &str, mask: Option<&FieldMask>, known: &[&str]) -> Vec<String> {
        let paths = mask.map(|mask| mask.paths.clone()).unwrap_or_default();
        if paths.is_empty() {
            self.add(
                field,
                format!("is required; name the fields to change: {}", known.join(", ")),
            );
        }
        for path in &paths {
            if !known.contains(&path.as_str()) {
                self.add(
                    field,
                    format!("has the unknown path {path:?}; known are {}", known.join(", ")),
                );
            }
        }
        paths
    }

    /// The size of a page.
    pub(crate) fn page_size(&mut self, field: &str, size: i32) -> u32 {
        match u32::try_from(size) {
            Ok(0) => DEFAULT_PAGE,
            Ok(size) if size <= MAX_PAGE => size,
            _ => {
                self.add(
                    field,
                    format!("is {size}; give 1 to {MAX_PAGE}, or 0 for {DEFAULT_PAGE}"),
                );
                DEFAULT_PAGE
            }
        }
    }
}

/// Refuses an expiration that is not in the future, when the call is carried out.
pub(crate) fn check_ahead(field: &str, at: Option<Timestamp>, now: Timestamp) -> Result<(), Refusal> {
    match at {
        Some(at) if at <= now => Err(Refusal::field(field, NOT_AHEAD)),
        _ => Ok(()),
    }
}

/// A request id: 1 to 64 characters of a plain alphabet.
pub(crate) fn request_id(text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    if text.len() <= 64 && text.bytes().all(plain) {
        Ok(())
    } else {
        Err("must have at most 64 characters of A-Z, a-z, 0-9, '.', '_', ':' and '-'".into())
    }
}
