//! Measures the XML of a spreadsheet's part while it passes by, before a parser sees it. A parser keeps a whole tag, the
//! whole text of a cell and the whole table of shared strings in memory; here is said how large those may be.

/// Octets of one tag, comment or text.
const MAX_TOKEN: usize = 1 << 20;
/// Octets of the text of one cell. A cell of Excel has 32,767 characters at most.
const MAX_CELL: usize = 4 << 20;
/// Shared strings.
const MAX_STRINGS: u64 = 4 << 20;
/// Octets of the part with the shared strings.
const MAX_STRINGS_PART: u64 = 128 << 20;
/// Formats, sheets, relations and names, of which a parser keeps each.
const MAX_ITEMS: u64 = 250_000;
/// Octets of a tag that are looked at.
const SEEN: usize = 1_024;

const ITEMS: [&[u8]; 10] = [
    b"xf",
    b"font",
    b"fill",
    b"border",
    b"numFmt",
    b"cellStyle",
    b"dxf",
    b"sheet",
    b"Relationship",
    b"definedName",
];

/// What was counted in all parts.
#[derive(Default)]
pub(crate) struct Totals {
    strings: u64,
    items: u64,
}

/// One part.
pub(crate) struct Gauge<'a> {
    totals: &'a mut Totals,
    state: State,
    /// Of the present tag, without its brackets, as far as it is looked at.
    tag: Vec<u8>,
    /// Of the present tag or text.
    length: usize,
    /// Of the present cell.
    cell: Option<usize>,
    octets: u64,
    has_strings: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Text,
    Tag,
    Quoted(u8),
    /// Comments, CDATA and instructions, and their last two octets.
    Special([u8; 2]),
}

impl<'a> Gauge<'a> {
    /// At the beginning of a part.
    pub(crate) fn new(totals: &'a mut Totals) -> Self {
        Self {
            totals,
            state: State::Text,
            tag: Vec::new(),
            length: 0,
            cell: None,
            octets: 0,
            has_strings: false,
        }
    }

    /// Measures what comes next, or says what is too large.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.octets += bytes.len() as u64;
        if self.has_strings && self.octets > MAX_STRINGS_PART {
            return Err("its texts have more than 128 MiB");
        }
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            match self.state {
                State::Text => {
                    let length = rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len());
                    self.count(length)?;
                    if let Some(cell) = &mut self.cell {
                        *cell += length;
                        if *cell > MAX_CELL {
                            return Err("a cell has more than 4 MiB");
                        }
                    }
                    if length < rest.len() {
                        self.state = State::Tag;
                        self.length = 0;
                        self.tag.clear();
                        rest = &rest[length + 1..];
                    } else {
                        rest = &[];
                    }
                }
                State::Tag => {
                    rest = &rest[1..];
                    self.count(1)?;
                    match first {
                        b'>' => self.end_of_tag()?,
                        b'"' | b'\'' if !self.tag.is_empty() => {
                            self.keep(&[*first]);
                            self.state = State::Quoted(*first);
                        }
                        _ => self.keep(&[*first]),
                    }
                    if self.tag == b"!--" || self.tag == b"?" || self.tag == b"![CDATA[" {
                        self.state = State::Special([0; 2]);
                    }
                    if self.tag.eq_ignore_ascii_case(b"!doctype") {
                        return Err("it declares a document type, which no spreadsheet does");
                    }
                }
                State::Quoted(quote) => {
                    let length = rest
                        .iter()
                        .position(|byte| *byte == quote)
                        .map_or(rest.len(), |at| at + 1);
                    self.count(length)?;
                    self.keep(&rest[..length]);
                    if rest[length - 1] == quote {
                        self.state = State::Tag;
                    }
                    rest = &rest[length..];
                }
                State::Special([before, last]) => {
                    rest = &rest[1..];
                    self.count(1)?;
                    let ended = match self.tag.first() {
                        Some(b'?') => last == b'?',
                        _ if self.tag.len() == 3 => [before, last] == *b"--",
                        _ => [before, last] == *b"]]",
                    };
                    if ended && *first == b'>' {
                        self.state = State::Text;
                        self.length = 0;
                    } else {
                        self.state = State::Special([last, *first]);
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, length: usize) -> Result<(), &'static str> {
        self.length += length;
        if self.length > MAX_TOKEN {
            return Err("a tag or text in it has more than 1 MiB");
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let free = SEEN.saturating_sub(self.tag.len());
        self.tag.extend_from_slice(&bytes[..bytes.len().min(free)]);
    }

    fn end_of_tag(&mut self) -> Result<(), &'static str> {
        let is_long = self.length > SEEN;
        self.state = State::Text;
        self.length = 0;
        let (is_end, inner) = match self.tag.split_first() {
            Some((b'/', inner)) => (true, inner),
            _ => (false, &self.tag[..]),
        };
        let name = inner
            .split(|byte| byte.is_ascii_whitespace() || *byte == b'/')
            .next()
            .unwrap_or_default();
        let name = name.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        let holds_text = matches!(name, b"c" | b"si");
        if is_end {
            if holds_text {
                self.cell = None;
            }
            return Ok(());
        }
        if holds_text {
            self.cell = (!inner.ends_with(b"/")).then_some(0);
        }
        if name == b"si" {
            self.totals.strings += 1;
        } else if name == b"sst" {
            self.has_strings = true;
            if is_long || declared(inner).is_some_and(|count| count > MAX_STRINGS) {
                return Err("it declares more texts than it can have");
            }
        } else if ITEMS.contains(&name) {
            self.totals.items += 1;
        }
        if self.totals.strings > MAX_STRINGS {
            return Err("it has more than 4 million different texts");
        }
        if self.totals.items > MAX_ITEMS {
            return Err("it has more than 250,000 formats, links or names");
        }
        Ok(())
    }
}

/// How many shared strings a tag says that there are, for which a parser makes room at once.
fn declared(tag: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(tag);
    let (_, after) = text.split_once("uniqueCount")?;
    let digits = after.trim_start_matches([' ', '\t', '\r', '\n', '=', '"', '\'', '+']);
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(parts: &[&[u8]]) -> Result<(), &'static str> {
        let mut totals = Totals::default();
        let mut gauge = Gauge::new(&mut totals);
        parts.iter().try_for_each(|part| gauge.push(part))
    }

    fn twice_a_mebibyte(of: &[u8]) -> Vec<u8> {
        of.iter().copied().cycle().take(2 << 20).collect()
    }

    #[test]
    fn l10_an_ordinary_part_passes_wherever_it_is_cut() {
        let part =
            b"<?xml version=\"1.0\"?><!-- a > b --><x:sst uniqueCount=\"2\"><si><t a=\">\">A</t></si><si/></x:sst>";
        for cut in 0..part.len() {
            assert_eq!(gauge(&[&part[..cut], &part[cut..]]), Ok(()));
        }
    }

    #[test]
    fn l10_tags_texts_and_tables_that_would_fill_the_memory_are_refused() {
        let text = twice_a_mebibyte(b"a");
        let tags = twice_a_mebibyte(b"<b>");
        for parts in [
            [&b"<t>"[..], &text],
            [b"<t a=\"", &text],
            [b"<t a='", &tags],
            [b"<!--", &tags],
            [b"<![CDATA[", &tags],
            [b"<?", &tags],
            [b"<", &text],
        ] {
            assert!(
                gauge(&parts).is_err_and(|why| why.contains("1 MiB")),
                "{:?}",
                String::from_utf8_lossy(parts[0])
            );
        }
        let half = vec![b'a'; 1 << 19];
        let piece = [b"<t>", &half[..], b"</t>"].concat();
        let mut cell = vec![&b"<c t=\"inlineStr\"><is>"[..]];
        cell.extend(std::iter::repeat_n(&piece[..], 10));
        assert!(gauge(&cell).is_err_and(|why| why.contains("cell")));
        for sst in [
            &b"<sst uniqueCount=\"99999999999999999999999\">"[..],
            b"<sst uniqueCount = '+99000000'>",
        ] {
            assert!(gauge(&[sst]).is_err_and(|why| why.contains("declares more")));
        }
        let sst = [&b"<sst "[..], &b" ".repeat(2_000), b"uniqueCount='99000000'>"].concat();
        assert!(gauge(&[&sst]).is_err());
        assert!(gauge(&[&b"<xf/>".repeat(300_000)]).is_err());
        assert!(gauge(&[b"<!DOCTYPE x>"]).is_err());
    }
}
