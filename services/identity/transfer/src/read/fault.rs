//! Why a file cannot be read, and what is wrong with a row of one that can. Each says in one line what to do about it.

use std::io;

/// Why nothing of a file can be imported, or nothing more of it.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// There is nothing in it.
    #[error("the file is empty; its first line must name the columns")]
    Empty,
    /// A text in an encoding that cannot be told.
    #[error("the file is not UTF-8, and no other encoding is certain; save it as UTF-8, or name its encoding")]
    Encoding,
    /// The encoding that was named is none.
    #[error("{0} is not an encoding that is known; write for example windows-1252, iso-8859-15 or utf-16le")]
    UnknownEncoding(String),
    /// A quote in the header that is not closed.
    #[error("the first line, which must name the columns, opens a quote and does not close it; correct it")]
    Header,
    /// More columns than a list of users can have.
    #[error("the first line names more than {0} columns; remove those that are not needed")]
    TooManyColumns(usize),
    /// No column is known to hold addresses.
    #[error("no column holds e-mail addresses; the file has: {0}. Name that column `email`; nothing was imported")]
    NoEmail(String),
    /// Only user names, and those are no addresses.
    #[error(
        "no column holds e-mail addresses; `{head}` holds for example `{example}`. Add a column `email`; nothing was \
         imported"
    )]
    UsernamesOnly {
        /// The column of the user names.
        head: String,
        /// One of them.
        example: String,
    },
    /// Two columns for the same thing.
    #[error("the columns `{0}` and `{1}` mean the same; rename or remove one of them; nothing was imported")]
    Twice(String, String),
    /// The mapping names a column that is not there.
    #[error("the mapping names the column `{0}`, which the file does not have; the file has: {1}")]
    MappedColumn(String, String),
    /// The mapping names a field that is none.
    #[error("the mapping gives the column `{0}` to `{1}`, which is not a field; the fields are: {2}")]
    MappedField(String, String, String),
    /// A spreadsheet that needs a password.
    #[error("the file is protected with a password; save it without one")]
    Encrypted,
    /// The format of Excel before 2007.
    #[error("the file is in the old .xls format; save it as .xlsx or CSV")]
    OldExcel,
    /// Another program's format.
    #[error("the file is {0}; save it as .xlsx or CSV")]
    OtherFormat(&'static str),
    /// A spreadsheet whose parts cannot be read.
    #[error("the spreadsheet is damaged ({0}); open it, save it again as .xlsx, and try that one")]
    Damaged(String),
    /// A spreadsheet that would need more memory than an import may take.
    #[error("the spreadsheet is too large: {0}; split it, or save it as CSV")]
    TooLarge(String),
    /// No sheet of that name.
    #[error("the spreadsheet has no sheet `{0}`; it has: {1}")]
    NoSheet(String, String),
    /// The disk failed.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

/// What is wrong with a cell, or with the row where there is no column to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellFault {
    /// The column's head, as it stands in the file; empty: the row as a whole.
    pub column: String,
    /// The fault and the way out.
    pub reason: String,
}

impl CellFault {
    /// Names a column and its fault.
    pub fn new(column: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            column: column.into(),
            reason: reason.into(),
        }
    }
}
