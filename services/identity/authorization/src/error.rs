//! What can be wrong with policies. Each error is one line that names the file.

use std::io;
use std::path::PathBuf;

/// Policies that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file or the folder cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no policy in the folder: nobody could do anything.
    #[error("{}: there is no .cedar file in this folder", .folder.display())]
    Empty {
        /// Which.
        folder: PathBuf,
    },
    /// A file is not Cedar, does not fit the schema, or promises what Usher does not tell.
    #[error("{}:{line}:{column}: {message}", .file.display())]
    Invalid {
        /// Which.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// Characters, from 1.
        column: usize,
        /// The first fault, in one line, and how many more there are.
        message: String,
    },
}
