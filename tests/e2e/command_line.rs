//! The real `usher` binary, as an operator runs it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

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

/// Runs it to its end with something on standard input.
pub(crate) async fn usher_reading(input: Vec<u8>, arguments: &[&str]) -> Result<Output> {
    let folder = std::env::var_os(FOLDER_VARIABLE).map_or_else(build_folder, |it| Ok(PathBuf::from(it)))?;
    let mut command = Command::new(folder.join("usher"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = move || {
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        // Whoever reads all of it before it prints cannot hang on a full pipe.
        pipe.map_or(Ok(()), |mut pipe| pipe.write_all(&input))?;
        child.wait_with_output()
    };
    Ok(tokio::task::spawn_blocking(run).await??)
}

/// What it printed.
pub(crate) fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
