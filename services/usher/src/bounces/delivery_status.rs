//! Delivery status notifications (RFC 3464).

use usher_core::delivery::is_dead_by;
use usher_proto::identity::v1::BounceKind;

use super::fields::Fields;
use super::{Envelope, MAX_RECIPIENTS, Reading, report};

/// Reads the part with the status. The first group is about the message, each other one about a recipient.
pub(super) fn read(text: &str, envelope: &Envelope) -> Reading {
    let groups = Fields::all(text);
    let recipients = groups.iter().filter(|group| group.get("action").is_some());
    let reports: Vec<_> = recipients
        .take(MAX_RECIPIENTS)
        .filter_map(|group| of_recipient(group, envelope))
        .collect();
    if reports.is_empty() {
        Reading::Nothing("it tells of no recipient that failed or waits")
    } else {
        Reading::Reports(reports)
    }
}

fn of_recipient(group: &Fields, envelope: &Envelope) -> Option<usher_proto::identity::v1::BounceReport> {
    let action = first_word(group.get("action")?).to_ascii_lowercase();
    let diagnostic = group.get("diagnostic-code").map(without_type).unwrap_or_default();
    let status = status(group.get("status").unwrap_or_default(), diagnostic);
    let kind = match action.as_str() {
        "failed" if is_dead_by(&status, reply(diagnostic)) => BounceKind::Hard,
        "failed" | "delayed" => BounceKind::Soft,
        _ => return None,
    };
    // What the sender wrote: the final one may stand behind an alias.
    let addresses = ["original-recipient", "final-recipient"];
    let recipient = addresses
        .into_iter()
        .find_map(|name| group.get(name).map(address).filter(|address| !address.is_empty()))
        .unwrap_or_default();
    report(kind, &recipient, &status, diagnostic, envelope)
}

/// The status code without comment. Where it says nothing but "failed", as some servers always do (x.0.0), the one in the
/// other server's words counts.
fn status(field: &str, diagnostic: &str) -> String {
    let own = first_word(field);
    let own = if is_code(own) { own } else { "" };
    if !own.is_empty() && !own.ends_with(".0.0") {
        return own.to_owned();
    }
    let words = diagnostic.split(|c: char| c.is_whitespace() || matches!(c, '-' | '(' | ')' | '#' | ',' | ';' | ':'));
    let told = words.map(|word| word.trim_end_matches('.')).find(|word| is_code(word));
    told.unwrap_or(own).to_owned()
}

/// The code of the reply (RFC 5321) that a diagnosis begins with; 0: none.
fn reply(diagnostic: &str) -> i32 {
    let digits = diagnostic
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap_or_default();
    Some(digits)
        .filter(|digits| digits.len() == 3)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// A code of RFC 3463 of class 4 or 5, or of class 2.
fn is_code(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3
        && matches!(parts[0], "2" | "4" | "5")
        && parts
            .iter()
            .all(|part| (1..=3).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit()))
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '(' || c == ';')
        .next()
        .unwrap_or_default()
}

/// `smtp; 550 …` without its type.
fn without_type(text: &str) -> &str {
    match text.split_once(';') {
        Some((kind, rest)) if !kind.trim().contains(' ') => rest.trim(),
        _ => text,
    }
}

/// `rfc822; ana@example.org`, or `utf-8; …` with escapes (RFC 6533 section 3).
pub(super) fn address(text: &str) -> String {
    let bare = without_type(text).trim().trim_start_matches('<').trim_end_matches('>');
    let is_utf8 = text
        .split_once(';')
        .is_some_and(|(kind, _)| kind.trim().eq_ignore_ascii_case("utf-8"));
    if is_utf8 { unescape(bare) } else { bare.to_owned() }
}

/// `\x{F6}` as `ö`.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once("\\x{") {
        plain.push_str(before);
        let Some((digits, after)) = escaped.split_once('}') else {
            plain.push_str("\\x{");
            rest = escaped;
            continue;
        };
        match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
            Some(c) => plain.push(c),
            None => plain.push(char::REPLACEMENT_CHARACTER),
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}
