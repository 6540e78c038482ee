//! Passwords: asked for on a terminal without showing them, or read from standard input.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Args;

use crate::failure::Failure;

/// Where a password comes from.
#[derive(Debug, Args)]
pub(crate) struct Password {
    /// The password. Others on this machine can see it in the list of processes: better let it be asked for, or use
    /// --password-stdin.
    #[arg(long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from the first line of standard input.
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
}

impl Password {
    /// The password that was given, if any.
    pub(crate) fn given(&self) -> Result<Option<String>, Failure> {
        if !self.password_stdin {
            return Ok(self.password.clone());
        }
        from_stdin().map(Some)
    }

    /// The password that was given, or the one that the person types.
    pub(crate) fn known_or_asked(&self) -> Result<String, Failure> {
        self.given()?.map_or_else(|| ask("Password: ", true), Ok)
    }

    /// The password that was given, or the one that the person types twice.
    pub(crate) fn given_or_asked(&self) -> Result<String, Failure> {
        self.given()?.map_or_else(new, Ok)
    }
}

/// The next line of standard input.
pub(crate) fn from_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|cause| Failure::io("cannot read the password from standard input", cause))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A new password, which the person types twice.
pub(crate) fn new() -> Result<String, Failure> {
    let password = ask("New password (10 to 128 characters): ", true)?;
    if ask("Again: ", true)? == password {
        Ok(password)
    } else {
        Err(Failure::Data("the two passwords differ; try again".into()))
    }
}

/// Asks for a line on the terminal.
pub(crate) fn ask(question: &str, secretly: bool) -> Result<String, Failure> {
    let terminal = console::Term::stderr();
    if !std::io::stdin().is_terminal() || !terminal.is_term() {
        return Err(Failure::Usage(format!(
            "{}is needed, and there is no terminal to ask on; see --help",
            question.replace(": ", " ")
        )));
    }
    let failed = |cause| Failure::io("cannot read from the terminal", cause);
    terminal.write_str(question).map_err(failed)?;
    if secretly {
        terminal.read_secure_line()
    } else {
        terminal.read_line()
    }
    .map_err(failed)
}
