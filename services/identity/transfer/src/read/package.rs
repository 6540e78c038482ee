//! Looks at a spreadsheet's package before it is opened: what kind of file it is, and that unpacking it cannot fill the
//! memory (U7 and L10 take files from whoever may import).
//!
//! What a package declares about its sizes is not believed: each part is unpacked once and measured.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};

use zip::ZipArchive;
use zip::result::ZipError;

use super::fault::FileFault;
use super::gauge::{Gauge, Totals};

/// Octets of all parts of a spreadsheet, unpacked.
pub const MAX_UNPACKED: u64 = 512 << 20;
/// Parts of a spreadsheet.
const MAX_PARTS: usize = 10_000;

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text with a separator.
    Csv,
    /// Excel since 2007, and what other programs save as that.
    Xlsx,
}

/// Tells the format by the first octets.
pub(crate) fn tell(file: &mut File) -> Result<Format, FileFault> {
    let mut first = [0; 8];
    let mut length = 0;
    file.rewind()?;
    while length < first.len() {
        match file.read(&mut first[length..])? {
            0 => break,
            read => length += read,
        }
    }
    let answer = match &first[..length] {
        [b'P', b'K', 3, 4, ..] => Ok(Format::Xlsx),
        [b'P', b'K', 5, 6, ..] => Err(FileFault::Damaged("it is an empty archive".into())),
        [0xD0, 0xCF, 0x11, 0xE0, ..] => Err(compound(file)?),
        [b'%', b'P', b'D', b'F', ..] => Err(FileFault::OtherFormat("a PDF document")),
        [0x1F, 0x8B, ..] => Err(FileFault::OtherFormat("an archive")),
        _ => Ok(Format::Csv),
    };
    file.rewind()?;
    answer
}

/// The container of old Excel files, and of new ones with a password.
fn compound(file: &mut File) -> Result<FileFault, FileFault> {
    const NAME: &str = "EncryptedPackage";
    let name: Vec<u8> = NAME.encode_utf16().flat_map(u16::to_le_bytes).collect();
    file.rewind()?;
    let mut buffer = vec![0; 64 * 1024];
    let mut kept = 0;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        if read == 0 {
            return Ok(FileFault::OldExcel);
        }
        let seen = &buffer[..kept + read];
        if seen.windows(name.len()).any(|window| window == name) {
            return Ok(FileFault::Encrypted);
        }
        let keep = seen.len().min(name.len());
        let from = kept + read - keep;
        buffer.copy_within(from..kept + read, 0);
        kept = keep;
    }
}

/// Refuses what is no spreadsheet, or too large a one.
pub(crate) fn check(file: &mut File) -> Result<(), FileFault> {
    file.seek(SeekFrom::Start(0))?;
    let mut archive = ZipArchive::new(BufReader::new(&mut *file)).map_err(damaged)?;
    if archive.len() > MAX_PARTS {
        return Err(FileFault::TooLarge(format!("it has more than {MAX_PARTS} parts")));
    }
    let has = |name: &str| {
        archive
            .file_names()
            .any(|part| part.is_ok_and(|part| part.eq_ignore_ascii_case(name)))
    };
    if has("mimetype") && has("content.xml") {
        return Err(FileFault::OtherFormat("an OpenDocument file"));
    }
    if has("xl/workbook.bin") {
        return Err(FileFault::OtherFormat("in the .xlsb format"));
    }
    if has("word/document.xml") {
        return Err(FileFault::OtherFormat("a Word document"));
    }
    if !has("[Content_Types].xml") {
        return Err(FileFault::OtherFormat("an archive, and no spreadsheet"));
    }
    let mut totals = Totals::default();
    let mut unpacked = 0;
    for index in 0..archive.len() {
        let mut part = archive.by_index(index).map_err(damaged)?;
        measure(&mut part, &mut unpacked, &mut totals)?;
    }
    Ok(())
}

fn measure(part: &mut impl Read, unpacked: &mut u64, totals: &mut Totals) -> Result<(), FileFault> {
    let mut buffer = vec![0; 64 * 1024];
    let mut gauge = Gauge::new(totals);
    let mut is_xml = None;
    loop {
        let length = match part.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FileFault::Damaged(error.to_string())),
        };
        *unpacked += length as u64;
        if *unpacked > MAX_UNPACKED {
            return Err(FileFault::TooLarge(format!(
                "unpacked, it has more than {} MiB",
                MAX_UNPACKED >> 20
            )));
        }
        let bytes = &buffer[..length];
        let begins_a_tag = || {
            let mut visible = bytes
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace() && !matches!(byte, 0xEF | 0xBB | 0xBF));
            visible.next() == Some(&b'<')
        };
        if *is_xml.get_or_insert_with(begins_a_tag) {
            gauge.push(bytes).map_err(|why| FileFault::TooLarge(why.to_owned()))?;
        }
    }
}

fn damaged(error: ZipError) -> FileFault {
    match error {
        ZipError::UnsupportedArchive(why) if why.contains("assword") => FileFault::Encrypted,
        ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => FileFault::Io(error),
        error => FileFault::Damaged(error.to_string()),
    }
}
