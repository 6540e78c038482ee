//! A running `usher up`, and commands beside it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running `usher up`. It is killed when it is dropped.
pub(crate) struct Up {
    process: Child,
    lines: Receiver<String>,
    server: String,
    pub(crate) data: PathBuf,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_usher"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("USHER")) {
        command.env_remove(name);
    }
    command
}

impl Up {
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut process = program()
            .args(["up", "--data"])
            .arg(data)
            .args(arguments)
            .env("USHER__GRPC__LISTEN", "127.0.0.1:0")
            .env("USHER__ADMIN__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut up = Self {
            process,
            lines,
            server: String::new(),
            data: data.to_owned(),
        };
        up.server = up.line_with("API ").split_whitespace().nth(1).unwrap().into();
        up
    }

    /// The next line that contains a text.
    pub(crate) fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|error| panic!("no line with {text:?}: {error}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = program();
        command
            .args(arguments)
            .env("USHER_SERVER", &self.server)
            .env("USHER_DATA", &self.data);
        command
    }

    /// Runs a command: exit code, standard output, standard error.
    pub(crate) fn run(&self, arguments: &[impl AsRef<OsStr>]) -> (i32, String, String) {
        ended(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// The same with something on its standard input.
    pub(crate) fn run_with(&self, input: &[u8], arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        ended(child.wait_with_output().unwrap())
    }

    pub(crate) fn mails(&self) -> usize {
        let files = std::fs::read_dir(self.data.join("mail")).unwrap();
        files
            .filter(|file| {
                file.as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|end| end == "eml")
            })
            .count()
    }

    /// Waits until a look at the system shows what is expected.
    pub(crate) fn eventually(&self, what: &str, look: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !look(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks it to end, and answers its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.process.wait().unwrap().code()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.process, name);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal(process: &Child, name: &str) {
    let arguments = [format!("-{name}"), process.id().to_string()];
    assert!(Command::new("kill").args(arguments).status().unwrap().success());
}

/// Presses Ctrl-C, and answers what the command said to that.
pub(crate) fn interrupted(process: Child) -> String {
    signal(&process, "INT");
    let (code, _, told) = ended(process.wait_with_output().unwrap());
    assert_eq!(code, 130, "{told}");
    told
}

fn ended(output: Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}
