//! `usher clock`: moves the time of an `usher up` that was started with --rehearse.

use std::path::PathBuf;

use clap::Subcommand;
use prost_types::Duration;

use crate::failure::{Exit, Failure};
use crate::output;
use crate::time;
use crate::up::{DEFAULT_FOLDER, Folder};

#[derive(Debug, Subcommand)]
pub(crate) enum Clock {
    /// Let time pass: reminders go out and accounts expire as if it had.
    Advance {
        /// For example 90m, 36h, 3d or 2w.
        #[arg(value_parser = time::parse_span)]
        span: Duration,
        /// The folder of `usher up`.
        #[arg(long, env = "USHER_DATA", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
        data: PathBuf,
    },
    /// Say how far the clock runs ahead.
    Show {
        /// The folder of `usher up`.
        #[arg(long, env = "USHER_DATA", default_value = DEFAULT_FOLDER, value_name = "FOLDER")]
        data: PathBuf,
    },
}

pub(super) fn run(command: &Clock) -> Result<Exit, Failure> {
    let (seconds, data) = match command {
        Clock::Advance { span, data } => (span.seconds, data),
        Clock::Show { data } => (0, data),
    };
    let refuse = |error: crate::up::FolderError| Failure::Data(error.to_string());
    let folder = Folder::existing(data).map_err(refuse)?;
    let Some(ahead) = folder.advance(seconds).map_err(refuse)? else {
        let text = format!(
            "the clock of {} cannot be moved; start `usher up --rehearse` first",
            data.display()
        );
        return Err(Failure::Data(text));
    };
    let span = Duration {
        seconds: ahead,
        nanos: 0,
    };
    output::lines([format!("The clock runs {} ahead.", time::show_span(&span))])?;
    Ok(Exit::Done)
}
