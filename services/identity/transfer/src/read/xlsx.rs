//! Rows of a spreadsheet, one sheet of it, cell by cell.
//!
//! A parser of its own thread reads ahead by a few rows. So a table can be handed around while the workbook that it
//! borrows from stays where it is; and should the parser panic over a file, that costs the file and no more.

use std::fs::File;
use std::io::BufReader;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use calamine::{DataRef, Reader as _, SheetType, SheetVisible, Xlsx as Workbook, XlsxError};

use super::fault::{CellFault, FileFault};
use super::raw::{Cell, Kind, Layout, MAX_COLUMNS, RawRow, head};
use crate::dates;

/// Characters of a cell, as many as Excel takes.
const MAX_CELL: usize = 32_767;
/// Rows that are handed over at a time, and batches that may wait.
const BATCH: usize = 64;
const WAITING: usize = 4;
/// Octets after which a batch is handed over early.
const BATCH_OCTETS: usize = 1 << 20;

/// A sheet below its header.
pub(crate) struct Xlsx {
    messages: Receiver<Message>,
    batch: std::vec::IntoIter<SheetRow>,
}

/// What was found before the rows.
pub(crate) struct Opened {
    pub(crate) header: Vec<String>,
    pub(crate) is_1904: bool,
    pub(crate) note: Option<String>,
}

struct SheetRow {
    line: u64,
    cells: Vec<Cell>,
}

enum Message {
    Opened(Opened),
    Rows(Vec<SheetRow>),
    Fault(FileFault),
    End,
}

/// Nobody reads any more.
struct Gone;

impl Xlsx {
    /// Opens a sheet, the first visible one unless another is named, and reads its header.
    pub(crate) fn open(file: File, sheet: Option<String>) -> Result<(Self, Opened), FileFault> {
        let (sender, messages) = sync_channel(WAITING);
        std::thread::Builder::new().name("xlsx".into()).spawn(move || {
            let end = match read(file, sheet, &sender) {
                Ok(()) => Message::End,
                Err(Stop::Fault(fault)) => Message::Fault(fault),
                Err(Stop::Gone) => return,
            };
            // Whoever dropped the table does not want to know.
            let _ = sender.send(end);
        })?;
        let xlsx = Self {
            messages,
            batch: Vec::new().into_iter(),
        };
        match xlsx.receive()? {
            Message::Opened(opened) => Ok((xlsx, opened)),
            _ => Err(FileFault::Empty),
        }
    }

    /// The next row that is not empty.
    pub(crate) fn next(&mut self, layout: &Layout) -> Result<Option<RawRow>, FileFault> {
        loop {
            if let Some(row) = self.batch.next() {
                let mut cells = row.cells;
                cells.resize(layout.header.len(), Cell::default());
                return Ok(Some(RawRow {
                    line: row.line,
                    address: cells[layout.email].text.chars().take(320).collect(),
                    cells: check_lines(cells, layout),
                }));
            }
            match self.receive()? {
                Message::Rows(rows) => self.batch = rows.into_iter(),
                _ => return Ok(None),
            }
        }
    }

    fn receive(&self) -> Result<Message, FileFault> {
        match self.messages.recv() {
            Ok(Message::Fault(fault)) => Err(fault),
            Ok(message) => Ok(message),
            Err(_) => Err(FileFault::Damaged("it cannot be read to its end".into())),
        }
    }
}

fn check_lines(cells: Vec<Cell>, layout: &Layout) -> Result<Vec<Cell>, CellFault> {
    let is_broken = |index: usize| layout.single.contains(&index) && cells[index].text.contains(['\n', '\r']);
    match (0..cells.len()).find(|index| is_broken(*index)) {
        Some(index) => Err(CellFault::new(
            head(&layout.header, index),
            "contains a line break; put it on one line",
        )),
        None => Ok(cells),
    }
}

enum Stop {
    Fault(FileFault),
    Gone,
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<XlsxError> for Stop {
    fn from(error: XlsxError) -> Self {
        Self::Fault(match error {
            XlsxError::Password => FileFault::Encrypted,
            XlsxError::Io(error) if !is_content(error.kind()) => FileFault::Io(error),
            error => FileFault::Damaged(error.to_string()),
        })
    }
}

/// Whether the fault is the file's and not the disk's.
fn is_content(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(kind, InvalidData | InvalidInput | Other | UnexpectedEof)
}

/// The thread's work.
fn read(file: File, wanted: Option<String>, to: &SyncSender<Message>) -> Result<(), Stop> {
    let send = |message| to.send(message).map_err(|_| Gone);
    let mut workbook = Workbook::new(BufReader::new(file))?;
    let (sheet, note) = choose(&workbook, wanted).map_err(Stop::Fault)?;
    let is_1904 = workbook.has_1904_epoch();
    let mut rows = Rows::new(&mut workbook, &sheet, is_1904)?;
    let Some(header) = rows.next(usize::MAX)? else {
        return Err(Stop::Fault(FileFault::Empty));
    };
    if header.cells.len() > MAX_COLUMNS {
        return Err(Stop::Fault(FileFault::TooManyColumns(MAX_COLUMNS)));
    }
    let header: Vec<String> = header.cells.into_iter().map(|cell| cell.text).collect();
    let width = header.len();
    send(Message::Opened(Opened { header, is_1904, note }))?;
    let mut batch = Vec::with_capacity(BATCH);
    let mut octets = 0;
    while let Some(row) = rows.next(width)? {
        octets += row.cells.iter().map(|cell| cell.text.len()).sum::<usize>();
        batch.push(row);
        if batch.len() == BATCH || octets > BATCH_OCTETS {
            send(Message::Rows(std::mem::replace(&mut batch, Vec::with_capacity(BATCH))))?;
            octets = 0;
        }
    }
    send(Message::Rows(batch))?;
    Ok(())
}

/// The sheet that is read, and what to say about the others.
fn choose(workbook: &Workbook<BufReader<File>>, wanted: Option<String>) -> Result<(String, Option<String>), FileFault> {
    let sheets = workbook.sheets_metadata();
    let sheets: Vec<_> = sheets
        .iter()
        .filter(|sheet| sheet.typ == SheetType::WorkSheet)
        .collect();
    let names = || sheets.iter().map(|sheet| sheet.name.as_str());
    if let Some(wanted) = wanted {
        let found = names().find(|name| *name == wanted.trim());
        let found = found.map(|name| (name.to_owned(), None));
        return found.ok_or_else(|| FileFault::NoSheet(wanted, names().collect::<Vec<_>>().join(", ")));
    }
    let visible: Vec<&str> = sheets
        .iter()
        .filter(|sheet| sheet.visible == SheetVisible::Visible)
        .map(|sheet| sheet.name.as_str())
        .collect();
    let (first, others) = visible.split_first().ok_or(FileFault::Empty)?;
    let note = (!others.is_empty()).then(|| {
        format!(
            "Only the sheet {first} was read; the file also has: {}.",
            others.join(", ")
        )
    });
    Ok(((*first).to_owned(), note))
}

/// Puts cells together to rows.
struct Rows<'a> {
    cells: calamine::XlsxCellReader<'a, BufReader<File>>,
    is_1904: bool,
    /// By style: how many digits a whole number is shown with at least.
    digits: Vec<usize>,
    /// The first cell of the row after the present one.
    ahead: Option<(u32, u32, Cell)>,
    ended: bool,
}

impl<'a> Rows<'a> {
    fn new(workbook: &'a mut Workbook<BufReader<File>>, sheet: &str, is_1904: bool) -> Result<Self, XlsxError> {
        let cells = workbook.worksheet_cells_reader(sheet)?;
        let digits = cells.styles().iter().map(|style| {
            let code = style
                .number_format
                .as_ref()
                .map_or("", |format| format.format_code.as_str());
            if code.bytes().all(|byte| byte == b'0') {
                code.len()
            } else {
                0
            }
        });
        Ok(Self {
            digits: digits.collect(),
            cells,
            is_1904,
            ahead: None,
            ended: false,
        })
    }

    /// The next row that is not empty: its first `width` columns, without empty ones at the end.
    fn next(&mut self, width: usize) -> Result<Option<SheetRow>, XlsxError> {
        let mut present: Option<(u32, Vec<Cell>)> = None;
        loop {
            let next = match self.ahead.take() {
                Some(ahead) => Some(ahead),
                None if self.ended => None,
                None => self.cell()?,
            };
            self.ended = next.is_none();
            let row = next.as_ref().map(|(row, ..)| *row);
            if let Some((number, cells)) = present.take_if(|(number, _)| Some(*number) != row) {
                self.ahead = next;
                return Ok(Some(SheetRow {
                    line: u64::from(number) + 1,
                    cells,
                }));
            }
            let Some((row, column, cell)) = next else {
                return Ok(None);
            };
            let column = column as usize;
            if column >= width || cell.text.is_empty() {
                continue;
            }
            let (_, cells) = present.get_or_insert_with(|| (row, Vec::new()));
            if cells.len() <= column {
                cells.resize(column + 1, Cell::default());
            }
            cells[column] = cell;
        }
    }

    fn cell(&mut self) -> Result<Option<(u32, u32, Cell)>, XlsxError> {
        let Some((cell, style)) = self.cells.next_cell_with_style_id()? else {
            return Ok(None);
        };
        let (row, column) = cell.get_position();
        let digits = self.digits.get(style).copied().unwrap_or_default();
        Ok(Some((row, column, shown(cell.get_value(), digits, self.is_1904))))
    }
}

/// A cell as a person sees it.
fn shown(value: &DataRef, digits: usize, is_1904: bool) -> Cell {
    let cell = |text: String, kind| Cell { text, kind };
    match value {
        DataRef::Empty => Cell::default(),
        DataRef::SharedString(text) => Cell::text(cut(text)),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => Cell::text(cut(text)),
        DataRef::Bool(value) => Cell::text(value.to_string()),
        DataRef::Error(error) => cell(error.to_string(), Kind::Error),
        DataRef::Int(value) => Cell::text(format!("{value:0digits$}")),
        DataRef::Float(value) => cell(number(*value, digits), Kind::Number(*value)),
        DataRef::DateTime(date) => match dates::from_serial(date.as_f64(), is_1904).filter(|_| date.is_datetime()) {
            Some(at) => cell(dates::show_plain(at.naive_utc()), Kind::Date(at)),
            None => cell(number(date.as_f64(), 0), Kind::Number(date.as_f64())),
        },
    }
}

fn cut(text: &str) -> String {
    text.trim().chars().take(MAX_CELL).collect()
}

/// A number without `.0` and without an exponent; a whole one with the zeros that its format puts before it.
fn number(value: f64, digits: usize) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:0digits$.0}")
    } else {
        value.to_string()
    }
}

#[cfg(test)]
#[path = "xlsx_tests.rs"]
mod tests;
