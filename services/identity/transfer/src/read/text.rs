//! A text on disk, seen through a window: as much of what comes next as a record can take, and no more in memory.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use encoding_rs::{CoderResult, Decoder};

use super::encoding::Judged;
use super::fault::FileFault;

/// Octets that one row can have at most, and so how far an unclosed quote is followed.
pub(crate) const MAX_RECORD: usize = 1 << 20;

/// A text that is read from the front.
pub(crate) struct Text {
    file: File,
    decoder: Decoder,
    raw: Vec<u8>,
    pending: std::ops::Range<usize>,
    decoded: String,
    at: usize,
    ended: bool,
}

impl Text {
    /// Begins after the byte-order mark.
    pub(crate) fn open(mut file: File, judged: Judged) -> Result<Self, FileFault> {
        file.seek(SeekFrom::Start(judged.mark as u64))?;
        Ok(Self {
            file,
            decoder: judged.encoding.new_decoder_without_bom_handling(),
            raw: vec![0; 64 * 1024],
            pending: 0..0,
            decoded: String::new(),
            at: 0,
            ended: false,
        })
    }

    /// What comes next: all the rest, or at least as much as a row can have. Also whether it is all the rest.
    pub(crate) fn rest(&mut self) -> Result<(&str, bool), FileFault> {
        if !self.ended && self.decoded.len() - self.at < MAX_RECORD {
            self.decoded.drain(..self.at);
            self.at = 0;
            self.decoded.reserve(2 * MAX_RECORD + 4 * self.raw.len());
            while !self.ended && self.decoded.len() < 2 * MAX_RECORD {
                self.decode()?;
            }
        }
        Ok((&self.decoded[self.at..], self.ended))
    }

    /// Goes on by some octets of what `rest` answered.
    pub(crate) fn skip(&mut self, length: usize) {
        self.at += length;
    }

    fn decode(&mut self) -> Result<(), FileFault> {
        if self.pending.is_empty() {
            let length = loop {
                match self.file.read(&mut self.raw) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            self.pending = 0..length;
        }
        let last = self.pending.is_empty();
        let bytes = &self.raw[self.pending.clone()];
        // Twice the octets and a little is not always enough, so it may take another round.
        self.decoded.reserve(bytes.len() * 3 + 16);
        let (result, read, _) = self.decoder.decode_to_string(bytes, &mut self.decoded, last);
        self.pending.start += read;
        self.ended = last && result == CoderResult::InputEmpty;
        Ok(())
    }
}
