//! A process that ends with the test process, whichever way that ends.
//!
//! Next to each child runs a small shell that reads from a pipe of which the test process holds the other end. When the test
//! process is gone (a panic, ctrl-C, SIGKILL), the pipe closes, and the shell kills the child's process group and removes
//! its folder. A parent-death signal would not do: it fires when the *thread* that started the child ends, and a test runs
//! on a thread of its own.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Waits for the end of the test process, unless it is told that there is nothing left to do.
const WATCHDOG: &str =
    r#"read -r _ && exit 0; kill -s KILL -- "-$1" 2>/dev/null; [ -z "$2" ] || { sleep 0.3; rm -rf "$2"; }"#;

/// A child in a process group of its own.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    watchdog: std::process::Child,
    exited: Option<ExitStatus>,
    name: String,
}

impl Child {
    /// Starts it with both outputs appended to `log`. `folder` is removed when the test process ends without having
    /// dropped the child.
    pub fn spawn(mut command: Command, log: &Path, folder: Option<&Path>) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0);
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut watchdog = Command::new("sh");
        watchdog
            .args(["-c", WATCHDOG, "watchdog", &process.id().to_string()])
            .arg(folder.unwrap_or(Path::new("")));
        watchdog
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let watchdog = watchdog.spawn().context("cannot start sh")?;
        Ok(Self {
            process,
            watchdog,
            exited: None,
            name,
        })
    }

    /// Its process id, which is its process group's too.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.process.try_wait().ok().flatten();
        }
        self.exited
    }

    /// An error that quotes its log if it has ended.
    pub fn check(&mut self, log: &Path) -> Result<()> {
        let Some(status) = self.exit_status() else {
            return Ok(());
        };
        bail!(
            "{} ended ({status}); its last words in {}:\n{}",
            self.name,
            log.display(),
            tail(log)
        );
    }

    /// SIGKILL to it and all that it started.
    pub fn kill(&mut self) {
        self.signal("KILL");
        if self.exited.is_none() {
            self.exited = self.process.wait().ok();
        }
    }

    /// SIGTERM to it alone, and its exit status once it has ended. Blocks the thread.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        send("TERM", &self.id().to_string());
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                self.kill();
                bail!("{} did not end within {within:?} of SIGTERM", self.name);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal, by its name without `SIG`, to the process group.
    pub fn signal(&self, signal: &str) {
        send(signal, &format!("-{}", self.id()));
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.watchdog.wait();
    }
}

/// The workspace forbids unsafe code, and with it the system call.
fn send(signal: &str, target: &str) {
    let kill = r#"kill -s "$1" -- "$2""#;
    let _ = Command::new("sh")
        .args(["-c", kill, "kill", signal, target])
        .stderr(Stdio::null())
        .status();
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log)
        .map(|it| String::from_utf8_lossy(&it).into_owned())
        .unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Takes charge of a folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
