//! A throwaway PostgreSQL, and a fresh database for each test.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;
use url::Url;

use super::child::{Child, Folder};
use super::{eventually, free_port, install, is_root, new_folder, user};

/// Points the suites at an existing server; its user must be allowed to create databases.
pub const URL_VARIABLE: &str = "USHER_TEST_DATABASE_URL";

const START: Duration = Duration::from_mins(1);

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// As in production: for benches and fault tests.
    On,
    /// A crash of the machine loses commits; a crash of the server does not.
    Off,
}

/// A PostgreSQL server.
pub struct Postgres {
    /// Of its database `postgres`.
    url: Url,
    own: Option<Own>,
}

struct Own {
    child: Option<Child>,
    program: PathBuf,
    port: u16,
    fsync: Fsync,
    folder: Folder,
}

impl Postgres {
    /// The server that all tests of this process share, started when the first of them asks, without fsync; or the one that
    /// `USHER_TEST_DATABASE_URL` names.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED
            .get_or_try_init(async || match std::env::var(URL_VARIABLE) {
                Ok(url) => {
                    let url = Url::parse(&url).with_context(|| format!("{URL_VARIABLE} is not a URL"))?;
                    Ok(Self { url, own: None })
                }
                Err(_) => Self::start(Fsync::Off).await,
            })
            .await
    }

    /// A server of one's own.
    pub async fn start(fsync: Fsync) -> Result<Self> {
        let (own, port) = tokio::task::spawn_blocking(move || Own::create(fsync)).await??;
        let url = Url::parse(&format!(
            "postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
        ))?;
        let mut server = Self { url, own: Some(own) };
        server.start_again().await?;
        Ok(server)
    }

    /// Creates an empty database and answers its URL.
    pub async fn database(&self) -> Result<String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Unique on a server that several runs share.
        let stamp = u32::from_ne_bytes(stamp());
        let name = format!("usher_test_{}_{number}_{stamp:x}", std::process::id());
        let mut connection = PgConnection::connect(self.url.as_str())
            .await
            .context("the test database server")?;
        connection
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        connection.close().await?;
        let mut url = self.url.clone();
        url.set_path(&name);
        if !url.query_pairs().any(|(key, _)| key == "sslmode") {
            url.query_pairs_mut().append_pair("sslmode", "disable");
        }
        Ok(url.into())
    }

    /// SIGKILL: as if the machine had lost power, but for the page cache.
    pub fn kill(&mut self) -> Result<()> {
        self.own()?.child = None;
        Ok(())
    }

    /// A fast shutdown: sessions are ended, and what was committed is written.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.own()?.child.take() {
            tokio::task::spawn_blocking(move || {
                child.signal("INT");
                child.terminate(Duration::from_secs(30))
            })
            .await??;
        }
        Ok(())
    }

    /// Starts a server that was stopped or killed, on the same port with the same data, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let url = self.url.clone();
        let own = self.own()?;
        let log = own.folder.path().join("server.log");
        own.spawn()?;
        let child = own.child.as_mut().context("just started")?;
        eventually("PostgreSQL answers", START, async || {
            match PgConnection::connect(url.as_str()).await {
                Ok(connection) => Some(connection.close().await.map_err(Into::into)),
                Err(_) => child.check(&log).err().map(Err),
            }
        })
        .await?
    }

    fn own(&mut self) -> Result<&mut Own> {
        self.own
            .as_mut()
            .with_context(|| format!("the server of {URL_VARIABLE} is not ours to stop"))
    }
}

impl Own {
    fn create(fsync: Fsync) -> Result<(Self, u16)> {
        let folders = || {
            let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
                .map(|it| {
                    it.filter_map(Result::ok)
                        .map(|version| version.path().join("bin"))
                        .collect()
                })
                .unwrap_or_default();
            versions.sort();
            versions.reverse();
            versions
        };
        let program = install::programs("postgres", folders, "postgresql")?;
        let initdb = install::programs("initdb", folders, "postgresql")?;
        let folder = Folder::new(new_folder("postgres")?);
        let port = free_port()?;
        let own = Self {
            child: None,
            program,
            port,
            fsync,
            folder,
        };
        own.give_away()?;
        let data = own.folder.path().join("data");
        let output = own
            .unprivileged(&initdb)?
            .arg("--pgdata")
            .arg(&data)
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
            ])
            .output()?;
        if !output.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok((own, port))
    }

    /// PostgreSQL refuses to run as root.
    fn unprivileged(&self, program: &std::path::Path) -> Result<Command> {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path());
        if is_root() {
            let (uid, gid) = owner()?;
            command.uid(uid).gid(gid);
        }
        Ok(command)
    }

    fn give_away(&self) -> Result<()> {
        if is_root() {
            let (uid, gid) = owner()?;
            std::os::unix::fs::chown(self.folder.path(), Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn spawn(&mut self) -> Result<()> {
        let mut command = self.unprivileged(&self.program)?;
        command.arg("-D").arg(self.folder.path().join("data"));
        let fsync = if self.fsync == Fsync::On { "on" } else { "off" };
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "ssl=off",
            "max_connections=300",
            "shared_buffers=256MB",
            "max_wal_size=2GB",
            &format!("port={}", self.port),
            &format!("fsync={fsync}"),
        ] {
            command.args(["-c", setting]);
        }
        let log = self.folder.path().join("server.log");
        self.child = Some(Child::spawn(command, &log, Some(self.folder.path()))?);
        Ok(())
    }
}

fn owner() -> Result<(u32, u32)> {
    user(&["postgres", "nobody"])
        .context("PostgreSQL cannot run as root, and there is neither a user postgres nor nobody")
}

/// Four bytes that differ from run to run.
fn stamp() -> [u8; 4] {
    use std::hash::{BuildHasher, RandomState};
    let [a, b, c, d, ..] = RandomState::new().hash_one(std::process::id()).to_ne_bytes();
    [a, b, c, d]
}
