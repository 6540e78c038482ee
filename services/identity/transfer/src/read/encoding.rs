//! Finds out a text's encoding in one pass over the file, whatever its size.

use std::io::Read;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use super::fault::FileFault;

/// How a text is to be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judged {
    /// Which encoding it is taken for.
    pub(crate) encoding: &'static Encoding,
    /// Octets of the byte-order mark.
    pub(crate) mark: usize,
    /// Whether it was a guess.
    pub(crate) guessed: bool,
}

/// Decides for the encoding that was named, a byte-order mark, UTF-8, or Windows-1252 (and with it Latin-1) where the
/// bytes speak for it.
pub(crate) fn judge(mut file: impl Read, named: Option<&str>) -> Result<Judged, FileFault> {
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = fill(&mut file, &mut buffer)?;
    let mark = Encoding::for_bom(&buffer[..filled]);
    let length = mark.map_or(0, |(_, length)| length);
    let certain = |encoding| Judged {
        encoding,
        mark: length,
        guessed: false,
    };
    if let Some(name) = named {
        let encoding = Encoding::for_label(name.trim().as_bytes());
        return encoding
            .map(certain)
            .ok_or_else(|| FileFault::UnknownEncoding(name.to_owned()));
    }
    if let Some((encoding, _)) = mark {
        return Ok(certain(encoding));
    }
    let mut bytes = Bytes::new();
    while filled > 0 {
        bytes.push(&buffer[..filled]);
        filled = fill(&mut file, &mut buffer)?;
    }
    if bytes.nul {
        Err(FileFault::Encoding)
    } else if bytes.utf8_letters || !bytes.beyond_ascii {
        // In a UTF-8 file with a few damaged bytes only the rows that have them are at fault.
        Ok(certain(UTF_8))
    } else if bytes.western {
        Ok(Judged {
            guessed: true,
            ..certain(WINDOWS_1252)
        })
    } else {
        Err(FileFault::Encoding)
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize, FileFault> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

/// What was seen of a text's bytes.
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own")]
struct Bytes {
    nul: bool,
    beyond_ascii: bool,
    /// Whether there is a letter beyond ASCII in valid UTF-8: chance hardly makes one in a Western text.
    utf8_letters: bool,
    /// Whether the bytes beyond ASCII look like accented letters of Western Europe: all of them are assigned, and no three
    /// stand together, as they would all the time in Greek, Cyrillic, Hebrew or Arabic.
    western: bool,
    /// The last octets, which may belong to a character that the next ones complete.
    tail: Vec<u8>,
    /// Octets beyond ASCII that stand together at the end.
    run: usize,
}

impl Bytes {
    fn new() -> Self {
        Self {
            nul: false,
            beyond_ascii: false,
            utf8_letters: false,
            western: true,
            tail: Vec::new(),
            run: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.nul |= bytes.contains(&0);
        if bytes.is_ascii() {
            self.tail.clear();
            self.run = 0;
            return;
        }
        self.beyond_ascii = true;
        for byte in bytes {
            self.run = if byte.is_ascii() { 0 } else { self.run + 1 };
            self.western &= self.run < 3 && !matches!(byte, 0x81 | 0x8D | 0x8F | 0x90 | 0x9D);
        }
        if self.utf8_letters {
            return;
        }
        self.tail.extend_from_slice(&bytes[..bytes.len().min(4)]);
        let has_letters = |bytes: &[u8]| bytes.utf8_chunks().any(|chunk| !chunk.valid().is_ascii());
        self.utf8_letters = has_letters(&self.tail) || has_letters(bytes);
        self.tail = bytes[bytes.len().saturating_sub(3)..].to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8], named: Option<&str>) -> Result<(&'static str, bool), String> {
        judge(bytes, named)
            .map(|judged| (judged.encoding.name(), judged.guessed))
            .map_err(|fault| fault.to_string())
    }

    /// Answers one octet at a time, as a slow disk may.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn l10_the_encoding_is_told_by_mark_by_letters_or_by_a_guess_that_is_named() {
        assert_eq!(name(b"email\n", None), Ok(("UTF-8", false)));
        assert_eq!(name("email\nАнна".as_bytes(), None), Ok(("UTF-8", false)));
        assert_eq!(name(b"\xFF\xFEe\0", None), Ok(("UTF-16LE", false)));
        assert_eq!(name(b"\xFE\xFF\0e", None), Ok(("UTF-16BE", false)));
        assert_eq!(name(b"Zo\xEB", None), Ok(("windows-1252", true)));
        assert_eq!(name(b"Zo\xC3\xAB Zo\xEB", None), Ok(("UTF-8", false)));
        assert_eq!(
            name(b"\xC0\xED\xED\xE0", Some(" windows-1251 ")),
            Ok(("windows-1251", false))
        );
        assert_eq!(judge(Slow("Zoë".as_bytes()), None).unwrap().encoding, UTF_8);
    }

    #[test]
    fn l10_what_cannot_be_read_for_certain_is_refused_as_a_whole() {
        // Greek in ISO 8859-7, Russian in Windows-1251, a byte that Windows-1252 leaves open, UTF-16 without a mark.
        for bytes in [
            &b"email\n\xC1\xED\xED\xE1"[..],
            b"email\n\xC8\xE2\xE0\xED",
            b"email\nA\x81",
            b"e\0m\0a\0i\0l\0",
        ] {
            assert!(matches!(judge(bytes, None), Err(FileFault::Encoding)), "{bytes:?}");
        }
        assert!(matches!(
            judge(&b"x"[..], Some("klingon")),
            Err(FileFault::UnknownEncoding(_))
        ));
    }

    #[test]
    fn l10_letters_across_two_blocks_of_the_file_are_seen() {
        let mut file = vec![b'a'; 64 * 1024 - 1];
        file.extend("ë".as_bytes());
        assert_eq!(name(&file, None), Ok(("UTF-8", false)));
        let mut file = vec![b'a'; 64 * 1024 - 2];
        file.extend(b"\xC1\xED\xED");
        assert!(name(&file, None).is_err());
    }
}
