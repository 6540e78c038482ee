//! A throwaway RabbitMQ node, and a virtual host for each test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapin::ConnectionProperties;
use tokio::sync::OnceCell;
use url::Url;

use super::child::{Child, Folder};
use super::http::{self, Response};
use super::{eventually, free_port, install, new_folder};

/// Points the suites at an existing broker, whose user must be allowed to create virtual hosts.
pub const URL_VARIABLE: &str = "USHER_TEST_AMQP_URL";
/// Its management API, if that is not at port 15672 of the same host.
pub const MANAGEMENT_VARIABLE: &str = "USHER_TEST_AMQP_MANAGEMENT_URL";

const START: Duration = Duration::from_mins(2);
/// The share of the machine's memory past which publishers are blocked.
const HIGH_WATERMARK: &str = "0.9";
const STOP: Duration = Duration::from_mins(1);

/// A RabbitMQ node.
pub struct Broker {
    /// Of its default virtual host.
    url: Url,
    management: Url,
    own: Option<Own>,
}

struct Own {
    /// The node's address book; it outlives the node's restarts.
    _epmd: Child,
    child: Option<Child>,
    program: PathBuf,
    ports: Ports,
    folder: Folder,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    management: u16,
    distribution: u16,
    epmd: u16,
}

impl Broker {
    /// The broker that all tests of this process share, started when the first of them asks; or the one that
    /// `USHER_TEST_AMQP_URL` names. Not for tests that stop it.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Broker> = OnceCell::const_new();
        SHARED
            .get_or_try_init(async || match std::env::var(URL_VARIABLE) {
                Ok(url) => Self::existing(&url),
                Err(_) => Self::start().await,
            })
            .await
    }

    /// A broker of one's own, to be stopped and killed at will.
    pub async fn start() -> Result<Self> {
        let own = tokio::task::spawn_blocking(Own::create).await??;
        let url = Url::parse(&format!("amqp://guest:guest@127.0.0.1:{}", own.ports.amqp))?;
        let management = Url::parse(&format!("http://127.0.0.1:{}", own.ports.management))?;
        let mut broker = Self {
            url,
            management,
            own: Some(own),
        };
        broker.start_again().await?;
        Ok(broker)
    }

    fn existing(url: &str) -> Result<Self> {
        let url = Url::parse(url).with_context(|| format!("{URL_VARIABLE} is not a URL"))?;
        let host = url
            .host_str()
            .with_context(|| format!("{URL_VARIABLE} names no host"))?;
        let management = std::env::var(MANAGEMENT_VARIABLE).unwrap_or_else(|_| format!("http://{host}:15672"));
        let management = Url::parse(&management).with_context(|| format!("{MANAGEMENT_VARIABLE} is not a URL"))?;
        Ok(Self {
            url,
            management,
            own: None,
        })
    }

    /// Creates an empty virtual host and answers its AMQP URL.
    pub async fn vhost(&self) -> Result<String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "usher-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let user = self.user();
        // An existing broker may still have one of an earlier process with the same number.
        self.management("DELETE", &format!("vhosts/{name}"), "").await?;
        self.management("PUT", &format!("vhosts/{name}"), "{}")
            .await?
            .success()?;
        let all = r#"{"configure":".*","write":".*","read":".*"}"#;
        self.management("PUT", &format!("permissions/{name}/{user}"), all)
            .await?
            .success()?;
        let mut url = self.url.clone();
        url.set_path(&name);
        Ok(url.into())
    }

    /// A request to the management API, for example `PUT`, `policies/vhost/name`.
    pub async fn management(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        let host = self.management.host_str().context("the management API has no host")?;
        let host = format!("{host}:{}", self.management.port_or_known_default().unwrap_or(15672));
        let credentials = format!("{}:{}", self.user(), self.url.password().unwrap_or("guest"));
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        http::request(&host, method, &format!("/api/{path}"), Some(&authorization), body)
            .await
            .with_context(|| format!("the broker's management API at {host} (needed for a virtual host per test)"))
    }

    /// Bounds every queue of a virtual host to this many messages.
    pub async fn limit_queues(&self, url: &str, length: u32) -> Result<()> {
        let vhost = vhost_of(url)?;
        let policy = format!(r#"{{"pattern":"^usher\\.","definition":{{"max-length":{length}}},"apply-to":"queues"}}"#);
        self.management("PUT", &format!("policies/{vhost}/limit"), &policy)
            .await?
            .success()?;
        Ok(())
    }

    /// Sets off the broker's memory alarm, or calls it off: while it lasts, nothing is read from connections that publish.
    pub async fn block_publishers(&self, blocked: bool) -> Result<()> {
        let own = self
            .own
            .as_ref()
            .with_context(|| format!("the broker of {URL_VARIABLE} is not ours to block"))?;
        let ctl = own.program.with_file_name("rabbitmqctl");
        let mut command = own.configured(&ctl);
        command.args([
            "set_vm_memory_high_watermark",
            if blocked { "0" } else { HIGH_WATERMARK },
        ]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        anyhow::ensure!(
            output.status.success(),
            "rabbitmqctl: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.own()?.child = None;
        Ok(())
    }

    /// An orderly stop.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.own()?.child.take() {
            tokio::task::spawn_blocking(move || {
                // The script passes on nothing but what it was told itself, so the whole group is told.
                child.signal("TERM");
                child.terminate(STOP)
            })
            .await??;
        }
        Ok(())
    }

    /// Starts a broker that was stopped or killed, on the same ports with the same data, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let url = self.url.clone();
        let own = self.own()?;
        let log = own.folder.path().join("server.log");
        own.spawn()?;
        let child = own.child.as_mut().context("just started")?;
        eventually("RabbitMQ answers", START, async || {
            let connecting = lapin::Connection::connect(url.as_str(), ConnectionProperties::default());
            match tokio::time::timeout(Duration::from_secs(5), connecting).await {
                Ok(Ok(connection)) => Some(connection.close(200, "OK".into()).await.map_err(Into::into)),
                _ => child.check(&log).err().map(Err),
            }
        })
        .await??;
        eventually("RabbitMQ's management API answers", START, async || {
            self.management("GET", "overview", "").await.ok()?.success().ok()
        })
        .await?;
        Ok(())
    }

    /// [`Self::stop`] and [`Self::start_again`].
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    fn user(&self) -> &str {
        if self.url.username().is_empty() {
            "guest"
        } else {
            self.url.username()
        }
    }

    fn own(&mut self) -> Result<&mut Own> {
        self.own
            .as_mut()
            .with_context(|| format!("the broker of {URL_VARIABLE} is not ours to stop"))
    }
}

/// The virtual host in an AMQP URL.
pub fn vhost_of(url: &str) -> Result<String> {
    Ok(Url::parse(url)?.path().trim_start_matches('/').to_owned())
}

impl Own {
    fn create() -> Result<Self> {
        // Debian's script of that name in PATH changes to the user rabbitmq and the system's folders: not that one.
        let folders = [PathBuf::from("/usr/lib/rabbitmq/bin")];
        let program = install::program("rabbitmq-server", &folders, "rabbitmq-server")?;
        let epmd = install::program("epmd", &[], "erlang-base")?;
        let folder = Folder::new(new_folder("rabbitmq")?);
        let ports = Ports {
            amqp: free_port()?,
            management: free_port()?,
            distribution: free_port()?,
            epmd: free_port()?,
        };
        let file = |name: &str, content: String| std::fs::write(folder.path().join(name), content);
        let Ports { amqp, management, .. } = ports;
        file(
            "rabbitmq.conf",
            format!(
                "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
                 management.tcp.ip = 127.0.0.1\n\
                 management.tcp.port = {management}\n\
                 vm_memory_high_watermark.relative = {HIGH_WATERMARK}\n\
                 disk_free_limit.absolute = 1MB\n"
            ),
        )?;
        file("enabled_plugins", "[rabbitmq_management].\n".to_owned())?;
        let mut command = Command::new(epmd);
        command.args(["-address", "127.0.0.1", "-port", &ports.epmd.to_string()]);
        let epmd = Child::spawn(command, &folder.path().join("epmd.log"), Some(folder.path()))?;
        Ok(Self {
            _epmd: epmd,
            child: None,
            program,
            ports,
            folder,
        })
    }

    /// A program of RabbitMQ's that means this node and no other.
    fn configured(&self, program: &Path) -> Command {
        let folder = self.folder.path();
        let mut command = Command::new(program);
        command.current_dir(folder).env("HOME", folder);
        for (name, path) in [
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_BASE", ""),
            ("RABBITMQ_MNESIA_BASE", "data"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_PID_FILE", "pid"),
            ("RABBITMQ_CONF_ENV_FILE", "no-such-file"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "no-such-file"),
        ] {
            command.env(name, folder.join(path));
        }
        // The data lie under the node's name, so it must stay the same over restarts.
        command
            .env("RABBITMQ_NODENAME", format!("usher{}@localhost", self.ports.amqp))
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.to_string())
            .env("ERL_EPMD_PORT", self.ports.epmd.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1}",
            )
            .env_remove("NOTIFY_SOCKET");
        command
    }

    fn spawn(&mut self) -> Result<()> {
        let (command, folder) = (self.configured(&self.program), self.folder.path());
        self.child = Some(Child::spawn(command, &folder.join("server.log"), Some(folder))?);
        Ok(())
    }
}
