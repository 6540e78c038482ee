//! Finds people in texts: by their ids and addresses, wherever these stand, by their external ids where those stand alone, and in
//! what somebody wrote by their full names.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;
use usher_core::erasure::Erasure;
use usher_core::ports::StoreError;

use crate::error::unreadable;

/// An external id that is shorter is looked for in its own field only: it may be any word.
const SHORTEST_WORD: usize = 3;

/// Where a needle counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needle {
    /// Everywhere: the id of a user.
    Id,
    /// Where no letter goes on before or after it.
    Address,
    /// A whole field of a document.
    Field,
    /// A word of a text.
    Word,
    /// Words of what somebody wrote.
    Name,
}

/// Looks for several people at a time.
#[derive(Debug)]
pub(super) struct Finder {
    automaton: AhoCorasick,
    /// Of each pattern: whose, and where it counts.
    needles: Vec<(usize, Needle)>,
}

impl Finder {
    /// Looks for the people of these erasures; they are named by their place.
    pub(super) fn new(erasures: &[Erasure]) -> Result<Self, StoreError> {
        let mut patterns = Vec::new();
        let mut needles = Vec::new();
        let mut add = |whose: usize, needle: Needle, text: String| {
            needles.push((whose, needle));
            patterns.push(text);
        };
        for (whose, erasure) in erasures.iter().enumerate() {
            add(whose, Needle::Id, erasure.user.to_string());
            for trace in &erasure.traces {
                add(whose, Needle::Address, trace.to_lowercase());
            }
            if let Some(id) = &erasure.external_id {
                let id = id.to_lowercase();
                let field = serde_json::to_string(&id).map_err(|error| unreadable("an external id", error))?;
                add(whose, Needle::Field, format!("\"external_id\":{field}"));
                if id.chars().count() >= SHORTEST_WORD {
                    add(whose, Needle::Word, id);
                }
            }
            for name in &erasure.names {
                add(whose, Needle::Name, name.clone());
            }
        }
        let automaton = AhoCorasick::new(&patterns).map_err(|error| StoreError::Internal(error.to_string()))?;
        Ok(Self { automaton, needles })
    }

    /// Whom octets name, by id or address. What goes before and after says nothing there: it may be a length. Rather too many.
    pub(super) fn in_octets(&self, octets: &[u8]) -> BTreeSet<usize> {
        let text = String::from_utf8_lossy(octets).to_lowercase();
        self.found(&text, |needle, _, _| matches!(needle, Needle::Id | Needle::Address))
    }

    /// Whom a row of a file is about: addresses, and the field with the external id.
    pub(super) fn in_row(&self, row: &str) -> BTreeSet<usize> {
        self.found(&row.to_lowercase(), |needle, before, after| match needle {
            Needle::Id | Needle::Field => true,
            Needle::Address => stands_alone(before, after),
            Needle::Word | Needle::Name => false,
        })
    }

    /// Whom a report names, in whatever words.
    pub(super) fn in_report(&self, report: &str) -> BTreeSet<usize> {
        self.found(&report.to_lowercase(), |needle, before, after| match needle {
            Needle::Id | Needle::Field => true,
            Needle::Address => stands_alone(before, after),
            Needle::Word => is_word(before, after),
            Needle::Name => false,
        })
    }

    /// Whom somebody's words name: the reason of a call.
    pub(super) fn in_words(&self, words: &str) -> BTreeSet<usize> {
        self.found(&words.to_lowercase(), |needle, before, after| match needle {
            Needle::Id | Needle::Field => true,
            Needle::Address => stands_alone(before, after),
            Needle::Word | Needle::Name => is_word(before, after),
        })
    }

    fn found(&self, text: &str, counts: impl Fn(Needle, &str, &str) -> bool) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        for hit in self.automaton.find_overlapping_iter(text) {
            let (whose, needle) = self.needles[hit.pattern().as_usize()];
            if counts(needle, &text[..hit.start()], &text[hit.end()..]) {
                found.insert(whose);
            }
        }
        found
    }
}

fn is_word(before: &str, after: &str) -> bool {
    !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
}

/// `joana@example.org` is not `ana@example.org`, and `ana@example.org.uk` is not either.
fn stands_alone(before: &str, after: &str) -> bool {
    let continues = |c: char| c.is_alphanumeric() || "!#$%&*+-=^_`|~".contains(c);
    let mut next = after.chars();
    let goes_on = match next.next() {
        Some('.') => next.next().is_some_and(char::is_alphanumeric),
        Some(c) => c.is_alphanumeric() || c == '-',
        None => false,
    };
    !before.ends_with(|c| continues(c) || c == '.') && !goes_on
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_within_another_is_not_taken_for_it() {
        assert!(stands_alone("\"", "\""));
        assert!(stands_alone("to <", "> refused"));
        assert!(stands_alone("", ". Try later"));
        assert!(!stands_alone("jo", "\""));
        assert!(!stands_alone("first.", "\""));
        assert!(!stands_alone("\"", ".uk"));
        assert!(!stands_alone("\"", "a"));
    }
}
