//! The real `usher` binary, as an operator runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::Result;
use usher_tests::environment::build_folder;
use usher_tests::environment::processes::FOLDER_VARIABLE;

/// Runs it to its end.
pub(crate) async fn usher(arguments: &[&str]) -> Result<Output> {
    let folder = std::env::var_os(FOLDER_VARIABLE).map_or_else(build_folder, |it| Ok(PathBuf::from(it)))?;
    let mut command = Command::new(folder.join("usher"));
    command.args(arguments).env_clear();
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

/// What it printed.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
