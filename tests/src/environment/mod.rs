//! Throwaway servers. Each test process starts its own PostgreSQL, RabbitMQ and mail server on free loopback ports, with
//! their data below `target/test-env`, and never touches the system's. `USHER_TEST_DATABASE_URL` and `USHER_TEST_AMQP_URL`
//! point the suites at existing ones instead. What is missing on a Debian-like machine is installed, when that may be done;
//! otherwise the error says in one line what to do. Nothing is skipped.
//!
//! Whatever happens to the test process, its servers end with it: see [`child`].

pub mod child;
pub mod http;
pub mod install;
pub mod mail;
pub mod mta;
pub mod postgres;
pub mod processes;
pub mod rabbitmq;
pub mod smtp_sink;

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};
use tokio::time::Instant;

/// A port of the loopback interface that was free a moment ago, and that this process gives out once. It lies below those
/// that the system takes for outgoing connections, so that none of them has it before the server does.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u32 = 12_000;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Processes that run beside each other begin at different places.
        let number = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(number % COUNT)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port from {FIRST} on")
}

/// A new folder for a server of this process: `target/test-env/<process>-<number>-<name>`.
pub fn new_folder(name: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = root()?.join(format!("{}-{number}-{name}", std::process::id()));
    // Left behind by an earlier process with the same number.
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Where the build puts its binaries: beside the running program, or above it if that is a test.
pub fn build_folder() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("a program lies in a folder")?;
    let is_test = folder.file_name().is_some_and(|name| name == "deps");
    let profile = if is_test { folder.parent() } else { Some(folder) };
    Ok(profile.context("a test runs from target/<profile>/deps")?.to_owned())
}

/// `target/test-env`; below `/tmp` if other users, whom some servers run as, cannot get there.
fn root() -> Result<PathBuf> {
    let build = build_folder()?;
    let target = build.parent().context("a profile lies in the target folder")?;
    let open = |folder: &Path| std::fs::metadata(folder).is_ok_and(|it| it.permissions().mode() & 0o001 != 0);
    Ok(if target.ancestors().all(open) {
        target.join("test-env")
    } else {
        PathBuf::from("/tmp/usher-test-env")
    })
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// The first of these users that exists, with user and group id.
fn user(names: &[&str]) -> Option<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    names.iter().find_map(|name| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

/// What somebody does to a database itself: statements, on the one that a URL names.
pub async fn by_hand(url: &str, statements: &str) -> Result<()> {
    let sql = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
    if url.starts_with("sqlite") {
        SqliteConnection::connect(url).await?.execute(sql).await?;
    } else {
        PgConnection::connect(url).await?.execute(sql).await?;
    }
    Ok(())
}

/// Asks again and again until there is an answer, or the time is over. For what can only be polled.
pub async fn eventually<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {within:?}");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
