//! E-mail addresses (RFC 5321, RFC 5890): what is accepted, and when two are the same.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Octets of the part before the `@` (RFC 5321 section 4.5.3.1.1).
pub const MAX_LOCAL: usize = 64;
/// Octets of the whole address (RFC 5321 section 4.5.3.1.3, less the angle brackets).
pub const MAX_ADDRESS: usize = 254;

/// A mail address that can be sent to. Equal when the folded forms are: lower case, domain in ASCII form. A `+tag` is
/// part of the address and is kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct EmailAddress {
    given: String,
    key: String,
}

/// Why a text is not an address: the fault and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEmail(pub String);

impl EmailAddress {
    /// Parses an address as a person would write it.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let fault = |text: &str| Err(InvalidEmail(text.to_owned()));
        let text = text.trim_matches([' ', '\t']);
        if text.is_empty() {
            return fault("is empty; give an address such as ana@example.org");
        }
        if text.chars().any(char::is_control) {
            return fault("contains a control character or a line break; remove it");
        }
        if text.chars().any(is_invisible) {
            return fault("contains an invisible or direction-changing character; type the address again");
        }
        if text.contains(['<', '>', '"', '(', ')']) {
            return fault("must be the bare address, without a name, brackets or quotes");
        }
        let mut parts = text.split('@');
        let (Some(local), Some(domain), None) = (parts.next(), parts.next(), parts.next()) else {
            return fault("must have exactly one @");
        };
        if local.is_empty() || domain.is_empty() {
            return fault("needs something on both sides of the @");
        }
        if local.len() > MAX_LOCAL {
            return fault("has more than 64 octets before the @");
        }
        if !local.is_ascii() {
            return fault("has a letter outside ASCII before the @, which few mail servers take");
        }
        if !local.bytes().all(is_atext_or_dot) || local.starts_with('.') || local.ends_with('.') || local.contains("..")
        {
            return fault("has a character or a dot before the @ where none is allowed");
        }
        let Ok(ascii) = idna::domain_to_ascii_strict(domain) else {
            return fault("has a domain that is not valid");
        };
        if !ascii.contains('.')
            || ascii.ends_with('.')
            || ascii
                .split('.')
                .next_back()
                .is_some_and(|top| top.bytes().all(|b| b.is_ascii_digit()))
        {
            return fault("needs a full domain after the @, such as example.org");
        }
        let key = format!("{}@{ascii}", local.to_ascii_lowercase());
        if key.len() > MAX_ADDRESS || text.len() > MAX_ADDRESS {
            return fault("is longer than 254 octets");
        }
        Ok(Self {
            given: text.to_owned(),
            key,
        })
    }

    /// Trusts a pair that `parse` made and the database kept.
    pub fn from_stored(given: String, key: String) -> Self {
        Self { given, key }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.given
    }

    /// The folded form, by which addresses are compared and kept unique.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it may be written, in lower case: as given, with its domain in ASCII, and with its domain in letters.
    pub fn forms(&self) -> Vec<String> {
        let mut forms = vec![self.given.to_lowercase(), self.key.clone()];
        if let Some((local, domain)) = self.key.split_once('@') {
            forms.push(format!("{local}@{}", idna::domain_to_unicode(domain).0));
        }
        forms.retain(|form| !form.is_empty());
        forms
    }

    /// What is written into the envelope: the given local part, the domain in ASCII.
    pub fn envelope(&self) -> String {
        let local = self.given.split('@').next().unwrap_or_default();
        let domain = self.key.split('@').next_back().unwrap_or_default();
        format!("{local}@{domain}")
    }
}

impl PartialEq for EmailAddress {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for EmailAddress {}

impl fmt::Debug for EmailAddress {
    /// Masked: addresses do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = self.key.split('@').next_back().unwrap_or_default();
        write!(f, "…@{domain}")
    }
}

fn is_atext_or_dot(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+/=?^_`{|}~-.".contains(&byte)
}

/// Zero-width characters, and those that change the direction of the text around them.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}'
        | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}')
}

/// Splits a text of addresses at comma, semicolon, white space and line break (L4). Answers the pieces as they stand.
pub fn split_addresses(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|piece| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_upper_case_or_idn_domain_equals_its_folded_form() {
        let pairs = [
            ("Ana@EXAMPLE.org", "ana@example.org"),
            ("jose@münchen.example", "jose@xn--mnchen-3ya.example"),
            ("x@例え.テスト", "x@xn--r8jz45g.xn--zckzah"),
        ];
        for (left, right) in pairs {
            assert_eq!(EmailAddress::parse(left), EmailAddress::parse(right), "{left}");
        }
    }

    #[test]
    fn a_tag_is_kept() {
        assert_eq!(
            EmailAddress::parse("ana+class@example.org").unwrap().key(),
            "ana+class@example.org"
        );
    }

    #[test]
    fn faults_are_named() {
        let long_local = format!("{}@example.org", "a".repeat(65));
        let long = format!("a@{}.org", "b".repeat(60).as_str().repeat(5));
        for (text, word) in [
            ("", "empty"),
            ("ana", "one @"),
            ("a@b@c.org", "one @"),
            ("@example.org", "both sides"),
            ("Ana <ana@example.org>", "bare"),
            ("ana\n@example.org", "control"),
            ("ana\u{202e}@example.org", "invisible"),
            ("ana\u{200b}@example.org", "invisible"),
            (long_local.as_str(), "64"),
            (long.as_str(), "domain"),
            ("a..b@example.org", "dot"),
            ("ana@localhost", "full domain"),
            ("ana@10.0.0.1", "full domain"),
        ] {
            let fault = EmailAddress::parse(text).expect_err(text);
            assert!(fault.0.contains(word), "{text:?}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_its_folded_form_is_a_fixed_point(text in "\\PC{0,80}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                let again = EmailAddress::parse(address.key()).expect("a folded form is an address");
                prop_assert_eq!(again.key(), address.key());
            }
        }
    }
}
