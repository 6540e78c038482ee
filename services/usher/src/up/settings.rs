//! The settings of `usher up`: the defaults of the identity service with the folder put in, then a file, then the
//! environment, as everywhere.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};
use usher_identity::config as identity;
use usher_mail::{SmtpConfig, SmtpUrl, StartTls};
use usher_platform::config::{ConfigError, if_set, load_with_common};
use usher_platform::{Common, Failure};

use super::{Folder, FolderError};

/// What `usher up` runs with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) common: Common,
    pub(super) identity: identity::Config,
    pub(super) mails: Mails,
}

/// Where mails go.
#[derive(Debug, Clone)]
pub(super) enum Mails {
    /// Into the data folder.
    Folder,
    /// To a mail server.
    Smtp(SmtpConfig),
}

impl fmt::Display for Mails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder => f.write_str("files in the mail folder"),
            Self::Smtp(config) => write!(f, "{:?}", config.url),
        }
    }
}

/// The sections of the identity service, and `[smtp]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    grpc: identity::Grpc,
    database: identity::Database,
    bus: identity::Bus,
    links: identity::Links,
    mail: identity::Mail,
    delivery: identity::Delivery,
    passwords: identity::Passwords,
    retention: identity::Retention,
    audit: identity::Audit,
    authorization: identity::Authorization,
    clock: identity::Clock,
    smtp: Smtp,
}

/// `[smtp]` as the workers have it, but it may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Smtp {
    #[serde(deserialize_with = "if_set")]
    url: Option<SmtpUrl>,
    starttls: StartTls,
    hello_name: String,
    connections: usize,
}

/// Reads the settings. What is wrong with them is a `ConfigError`, which ends the process with 78.
pub(super) fn load(folder: &Folder, smtp: Option<&str>, file: Option<&Path>) -> Result<Settings, Failure> {
    let (common, sections) = load_with_common::<Sections>(&defaults(folder, smtp)?, file)?;
    if !sections.grpc.listen.ip().is_loopback() {
        let problem = "`usher up` listens on the loopback interface only; run `usher-identity` to serve others";
        return Err(ConfigError::invalid("grpc.listen", problem).into());
    }
    if sections.bus.url.is_some() {
        let problem = "`usher up` carries events by itself; run the five processes to use RabbitMQ";
        return Err(ConfigError::invalid("bus.url", problem).into());
    }
    let Smtp {
        url,
        starttls,
        hello_name,
        connections,
    } = sections.smtp;
    let identity = identity::Config {
        grpc: sections.grpc,
        database: sections.database,
        bus: sections.bus,
        links: sections.links,
        mail: sections.mail,
        delivery: sections.delivery,
        passwords: sections.passwords,
        retention: sections.retention,
        audit: sections.audit,
        authorization: sections.authorization,
        clock: sections.clock,
    };
    identity.check_without_bus()?;
    Ok(Settings {
        common,
        identity,
        mails: match url {
            None => Mails::Folder,
            Some(url) => Mails::Smtp(SmtpConfig {
                url,
                starttls,
                hello_name,
                connections,
            }),
        },
    })
}

/// The defaults of the service and of a worker's `[smtp]`, with what the folder knows.
fn defaults(folder: &Folder, smtp: Option<&str>) -> Result<String, FolderError> {
    let parse = |text: &str| text.parse::<Table>().expect("the tests of its crate read the defaults");
    let mut defaults = parse(identity::DEFAULTS);
    if let Some(section) = parse(usher_worker_invitation::DEFAULTS).remove("smtp") {
        defaults.insert("smtp".into(), section);
    }
    let clock = folder.clock().map(|path| path.display().to_string());
    for (section, key, value) in [
        ("log", "level", "warn".to_owned()),
        ("database", "url", folder.database_url()),
        ("links", "key", folder.link_key()?),
        ("audit", "key", folder.audit_key()?),
        ("smtp", "url", smtp.unwrap_or_default().to_owned()),
        ("clock", "rehearsal_file", clock.unwrap_or_default()),
    ] {
        let section = defaults.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(key.into(), Value::String(value));
        }
    }
    Ok(defaults.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_with(file: &str, smtp: Option<&str>) -> Result<Settings, String> {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("settings.toml");
        std::fs::write(&path, file).unwrap();
        let folder = Folder::open(&parent.path().join("data")).unwrap();
        load(&folder, smtp, Some(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn without_any_setting_everything_stays_in_the_folder() {
        let settings = load_with("", None).unwrap();
        assert!(matches!(settings.mails, Mails::Folder));
        assert!(settings.identity.bus.url.is_none());
        assert_eq!(settings.identity.database.url.scheme(), "sqlite");
        assert!(settings.identity.links.keys().is_ok());
        assert_eq!(settings.common.log.level, "warn");
    }

    #[test]
    fn a_mail_server_comes_from_the_command_line_or_from_a_file_which_wins() {
        let settings = load_with("", Some("smtp://127.0.0.1:2525")).unwrap();
        assert!(matches!(settings.mails, Mails::Smtp(_)));
        let settings = load_with("[smtp]\nurl = \"smtp://other\"\n", Some("smtp://127.0.0.1:2525")).unwrap();
        assert!(settings.mails.to_string().contains("other"));
    }

    #[test]
    fn it_listens_to_nobody_else_and_takes_no_broker() {
        let error = load_with("[grpc]\nlisten = \"0.0.0.0:50051\"\n", None).unwrap_err();
        assert!(error.contains("grpc.listen") && error.contains("loopback"), "{error}");
        let error = load_with("[bus]\nurl = \"amqp://127.0.0.1\"\n", None).unwrap_err();
        assert!(error.contains("bus.url"), "{error}");
    }
}
