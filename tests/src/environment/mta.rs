//! A real mail server: Debian's exim4 with a configuration, queue and logs of its own. It takes mail for any recipient and
//! delivers it into a maildir on disk. The local part `unknown` is refused at any domain, as a server does that knows its
//! users.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::child::{Child, Folder};
use super::mail::ParsedMail;
use super::{eventually, free_port, install, is_root, new_folder, user};

const START: Duration = Duration::from_secs(20);

/// A mail server with a mailbox on disk.
pub struct Mta {
    port: u16,
    /// Mails that were read already, by file.
    read: Mutex<HashMap<PathBuf, ParsedMail>>,
    child: Child,
    folder: Folder,
}

impl Mta {
    /// Starts one on a free port of the loopback interface.
    pub async fn start() -> Result<Self> {
        let mut mta = tokio::task::spawn_blocking(Self::spawn).await??;
        let (port, log) = (mta.port, mta.folder.path().join("server.log"));
        let child = &mut mta.child;
        eventually("the mail server answers", START, async || match greeting(port).await {
            Ok(line) => line.starts_with("220").then_some(Ok(())),
            Err(_) => child.check(&log).err().map(Err),
        })
        .await??;
        Ok(mta)
    }

    /// Where it takes mail by SMTP, without TLS and without credentials.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The mails that were delivered to an address, oldest first.
    pub fn mailbox(&self, address: &str) -> Result<Vec<ParsedMail>> {
        let to = |mail: &ParsedMail| {
            mail.header("Envelope-to")
                .is_some_and(|it| it.eq_ignore_ascii_case(address))
        };
        Ok(self.all()?.into_iter().filter(to).collect())
    }

    /// Every mail that was delivered, oldest first.
    pub fn all(&self) -> Result<Vec<ParsedMail>> {
        let new = self.folder.path().join("mail/new");
        if !new.exists() {
            return Ok(Vec::new());
        }
        // A file's name starts with the time of its delivery.
        let mut files: Vec<_> = std::fs::read_dir(new)?
            .map(|it| it.map(|it| it.path()))
            .collect::<Result<_, _>>()?;
        files.sort();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        files
            .into_iter()
            .map(|file| {
                if let Some(mail) = read.get(&file) {
                    return Ok(mail.clone());
                }
                let mail = ParsedMail::parse(&std::fs::read(&file)?).context("not a mail")?;
                read.insert(file, mail.clone());
                Ok(mail)
            })
            .collect()
    }

    fn spawn() -> Result<Self> {
        let program = install::program("exim4", &[], "exim4-daemon-light")?;
        let folder = Folder::new(new_folder("mta")?);
        let path = folder.path();
        let own = std::fs::metadata(path)?;
        // Started as root it delivers as someone else: exim never writes a mailbox as root.
        let someone = user(&["Debian-exim", "nobody"]).filter(|_| is_root());
        let (uid, gid) = someone.unwrap_or((own.uid(), own.gid()));
        for name in ["", "spool", "log", "mail"] {
            std::fs::create_dir_all(path.join(name))?;
            chown(path.join(name), Some(uid), Some(gid))?;
        }
        let config = path.join("exim.conf");
        std::fs::write(&config, configuration(&path.display().to_string(), uid, gid))?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command
            .arg("-C")
            .arg(&config)
            .args(["-bdf", "-q5s", "-oX", &format!("127.0.0.1.{port}")]);
        let child = Child::spawn(command, &path.join("server.log"), Some(path))?;
        Ok(Self {
            port,
            read: Mutex::default(),
            child,
            folder,
        })
    }
}

async fn greeting(port: u16) -> Result<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line)
}

/// No bound on mails per connection or at once that a test could run into, and no look-up that leaves the machine.
fn configuration(folder: &str, uid: u32, gid: u32) -> String {
    format!(
        r"
primary_hostname = mx.usher.test
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/exim.pid
exim_user = {uid}
exim_group = {gid}
local_interfaces = 127.0.0.1
keep_environment =
tls_advertise_hosts =
host_lookup =
rfc1413_hosts =
smtputf8_advertise_hosts = *
smtp_accept_max = 200
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
check_spool_space = 0
check_log_space = 0
check_spool_inodes = 0
check_log_inodes = 0
acl_smtp_rcpt = recipient
acl_smtp_data = content

begin acl
recipient:
  deny local_parts = unknown
       message = no such user here
  accept
content:
  accept

begin routers
everyone:
  driver = accept
  transport = maildir

begin transports
maildir:
  driver = appendfile
  maildir_format
  directory = {folder}/mail
  envelope_to_add
  return_path_add
  delivery_date_add
  user = {uid}
  group = {gid}
  mode = 0644

begin retry
* * F,1m,1s
"
    )
}
