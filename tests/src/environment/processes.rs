//! The real binaries, as they are deployed: configured by environment variables, watched through the admin port.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::child::Child;
use super::{build_folder, eventually, free_port, http, new_folder};

/// Where the binaries are, if not beside the test.
pub const FOLDER_VARIABLE: &str = "USHER_TEST_BIN_DIR";

const START: Duration = Duration::from_mins(1);

/// A process with what it needs to be started again.
pub struct Process {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    admin_port: u16,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Describes a process without starting it: the binary's name (`usher-identity`), its arguments, and its configuration as
    /// `USHER__SECTION__KEY`. `USHER__ADMIN__LISTEN` is set to a free port; nothing else is inherited but what a binary
    /// needs to run at all.
    pub fn new(
        binary: &str,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let folder = std::env::var_os(FOLDER_VARIABLE).map_or_else(build_folder, |it| Ok(PathBuf::from(it)))?;
        let path = folder.join(binary);
        if !path.is_file() {
            bail!(
                "{} is missing: build it first (cargo build --bins), or set {FOLDER_VARIABLE}",
                path.display()
            );
        }
        let admin_port = free_port()?;
        let mut environment: Vec<_> = environment.into_iter().collect();
        environment.push(("USHER__ADMIN__LISTEN".to_owned(), format!("127.0.0.1:{admin_port}")));
        Ok(Self {
            binary: path,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            environment,
            admin_port,
            log: new_folder(binary)?.join("output.log"),
            child: None,
        })
    }

    /// [`Self::new`], started and ready.
    pub async fn start(
        binary: &str,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut process = Self::new(binary, arguments, environment)?;
        process.spawn()?;
        process.ready().await?;
        Ok(process)
    }

    /// Starts it, again if need be, without waiting for it to be ready.
    pub fn spawn(&mut self) -> Result<()> {
        self.child = None;
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).env_clear();
        // What the tests' own run may set: where programs are, and what a build is to be watched by.
        for name in [
            "PATH",
            "HOME",
            "TMPDIR",
            "LANG",
            "RUST_BACKTRACE",
            "RUST_LOG",
            "LLVM_PROFILE_FILE",
        ] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.child = Some(Child::spawn(command, &self.log, None)?);
        Ok(())
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&mut self) -> Result<()> {
        let (port, log) = (self.admin_port, self.log.clone());
        let child = self.child.as_mut().context("it is not running")?;
        let ready = eventually("ready", START, async || {
            if let Err(ended) = child.check(&log) {
                return Some(Err(ended));
            }
            let answer = http::get(port, "/readyz").await.ok()?;
            (answer.status == 200).then_some(Ok(()))
        });
        ready
            .await
            .and_then(|it| it)
            .with_context(|| format!("{}, log in {}", self.binary.display(), self.log.display()))
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it has ended by itself.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.exit_status()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child = None;
    }

    /// SIGTERM, and its exit status once it has ended.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        let mut child = self.child.take().context("it is not running")?;
        tokio::task::spawn_blocking(move || child.terminate(within)).await?
    }

    /// Sends a signal, by its name without `SIG` (`STOP` and `CONT` freeze and thaw it).
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.child.as_ref().context("it is not running")?.signal(signal);
        Ok(())
    }

    /// Kills it, starts it again and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.spawn()?;
        self.ready().await
    }

    /// The time that processors spent on it since it was started: unlike the clock on the wall, it hardly depends on what else
    /// the machine does.
    pub fn processor_time(&self) -> Result<Duration> {
        /// Of `/proc`, on every Linux: `getconf CLK_TCK`.
        const TICKS_PER_SECOND: u32 = 100;
        let id = self.id().context("it is not running")?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The name before may have blanks in it. From its end on, `utime` and `stime` are the 12th and the 13th: proc(5).
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let mut ticks = 0;
        for field in fields.split_whitespace().skip(11).take(2) {
            ticks += field.parse::<u32>()?;
        }
        Ok(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
    }

    /// The port of `/livez`, `/readyz` and `/metrics`.
    pub fn admin_port(&self) -> u16 {
        self.admin_port
    }

    /// Prometheus' text.
    pub async fn metrics(&self) -> Result<String> {
        Ok(http::get(self.admin_port, "/metrics").await?.success()?.body)
    }

    /// The file with both its outputs, over all its restarts.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log)
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .unwrap_or_default()
    }
}
