//! Texts that people typed: what is accepted, and the form in which it is kept.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

use crate::email::is_invisible;

/// Characters of a first or last name.
pub const MAX_NAME: usize = 100;
/// Characters of a label.
pub const MAX_LABEL: usize = 100;
/// Labels of one account.
pub const MAX_LABELS: usize = 50;
/// Characters of an external id.
pub const MAX_EXTERNAL_ID: usize = 200;
/// Characters of a reason.
pub const MAX_REASON: usize = 500;
/// Characters of a customised subject.
pub const MAX_SUBJECT: usize = 200;
/// Characters of a customised text.
pub const MAX_MESSAGE: usize = 10_000;

/// A text on one line: trimmed, in NFC, without control, invisible or direction-changing characters, at most `max`
/// characters. Zero-width joiners stay, since several scripts are written with them.
pub fn line(text: &str, max: usize) -> Result<String, String> {
    let text: String = text.trim().nfc().collect();
    if text.chars().any(char::is_control) {
        return Err("contains a line break or another control character; put it on one line".into());
    }
    if text
        .chars()
        .any(|c| is_invisible(c) && !matches!(c, '\u{200C}' | '\u{200D}'))
    {
        return Err("contains an invisible or direction-changing character; type it again".into());
    }
    let length = text.chars().count();
    if length > max {
        return Err(format!("has {length} characters; at most {max} are allowed"));
    }
    Ok(text)
}

/// A name: a line without markup.
pub fn name(text: &str, max: usize) -> Result<String, String> {
    let text = line(text, max)?;
    if text.contains(['<', '>']) || text.contains("://") {
        return Err("contains markup or a link; give the plain name".into());
    }
    Ok(text)
}

/// Labels: lines of 1 to 100 characters; sorted and without duplicates. Faults come with the index of the label.
pub fn labels(texts: &[String]) -> Result<Vec<String>, Vec<(usize, String)>> {
    let mut faults = Vec::new();
    let mut labels = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match line(text, MAX_LABEL) {
            Ok(label) if label.is_empty() => faults.push((index, "is empty; leave it out".into())),
            Ok(label) => labels.push(label),
            Err(fault) => faults.push((index, fault)),
        }
    }
    labels.sort();
    labels.dedup();
    if labels.len() > MAX_LABELS {
        faults.push((MAX_LABELS, format!("is one too many; at most {MAX_LABELS} are allowed")));
    }
    if faults.is_empty() { Ok(labels) } else { Err(faults) }
}

/// A text of several lines: NFC, line breaks as `\n`, no other control characters but tabs, at most `max` characters.
pub fn message(text: &str, max: usize) -> Result<String, String> {
    let text: String = text.replace("\r\n", "\n").replace('\r', "\n").nfc().collect();
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err("contains a control character; remove it".into());
    }
    let length = text.chars().count();
    if length > max {
        return Err(format!("has {length} characters; at most {max} are allowed"));
    }
    Ok(text)
}

/// A time zone: a name of the IANA database, in its casing. Empty stays empty.
pub fn time_zone(text: &str) -> Result<String, String> {
    let text = text.trim();
    match crate::pacing::zone(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("is no IANA time zone; write for example Europe/Paris".into()),
    }
}

/// A language tag (RFC 5646): two or three letters, then subtags; in its usual casing. Empty stays empty.
pub fn language(text: &str) -> Result<String, String> {
    let text = text.trim().replace('_', "-");
    if text.is_empty() {
        return Ok(text);
    }
    let fault = || Err("is not a language tag; write for example fr or pt-BR".into());
    if text.len() > 35 {
        return fault();
    }
    let mut tag = String::new();
    for (index, part) in text.split('-').enumerate() {
        if part.is_empty() || part.len() > 8 || !part.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return fault();
        }
        if index == 0 {
            if !(2..=3).contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_alphabetic()) {
                return fault();
            }
            tag.push_str(&part.to_ascii_lowercase());
            continue;
        }
        tag.push('-');
        match part.len() {
            2 => tag.push_str(&part.to_ascii_uppercase()),
            4 if part.bytes().all(|b| b.is_ascii_alphabetic()) => {
                tag.push_str(&part[..1].to_ascii_uppercase());
                tag.push_str(&part[1..].to_ascii_lowercase());
            }
            _ => tag.push_str(&part.to_ascii_lowercase()),
        }
    }
    Ok(tag)
}

/// The form in which texts are searched and sorted: lower case, without accents.
pub fn fold(text: &str) -> String {
    text.nfkd()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_accents_apostrophes_and_every_script() {
        for text in ["Zoë", "O’Connor", "d'Arc", "山田", "محمد", "Nguyễn", "Anne-Marie"] {
            assert_eq!(name(text, MAX_NAME).as_deref(), Ok(text));
        }
    }

    #[test]
    fn line_breaks_markup_and_overlong_names_are_refused() {
        for text in ["a\nb", "<b>Ana</b>", "see https://example.org", "a\u{202e}b"] {
            assert!(name(text, MAX_NAME).is_err(), "{text:?}");
        }
        assert!(name(&"é".repeat(100), MAX_NAME).is_ok());
        assert!(name(&"é".repeat(101), MAX_NAME).is_err());
    }

    #[test]
    fn language_tags_get_their_usual_casing() {
        for (given, kept) in [("FR", "fr"), ("pt_br", "pt-BR"), ("zh-hant-tw", "zh-Hant-TW"), ("", "")] {
            assert_eq!(language(given).as_deref(), Ok(kept));
        }
        for text in ["french", "f", "fr-", "fr FR", "1x"] {
            assert!(language(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn folding_ignores_case_and_accents() {
        assert_eq!(fold("ÉLODIE Müller"), "elodie muller");
    }
}
