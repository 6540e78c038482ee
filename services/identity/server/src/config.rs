//! The settings of the identity service. Their defaults and meaning stand in `config.default.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use chrono::TimeDelta;
use http::HeaderValue;
use serde::Deserialize;
use usher_authorization::Authorizer;
use usher_core::audit::{AuditKey, AuditKeys};
use usher_core::change::Leases;
use usher_core::email::EmailAddress;
use usher_core::role::Permission;
use usher_core::token::{LinkKey, LinkKeys};
use usher_platform::config::{ConfigError, Secret, SecretUrl, Settings, if_set};

use crate::authorize::Permissions;

/// The defaults, as commented TOML.
pub const DEFAULTS: &str = include_str!("config.default.toml");

/// All settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Config {
    pub grpc: Grpc,
    pub database: Database,
    pub bus: Bus,
    pub links: Links,
    pub mail: Mail,
    pub delivery: Delivery,
    pub passwords: Passwords,
    pub retention: Retention,
    pub audit: Audit,
    pub authorization: Authorization,
    pub clock: Clock,
}

impl Settings for Config {
    fn check(&self) -> Result<(), ConfigError> {
        let Some(bus) = &self.bus.url else {
            let problem = "is required: amqp://user:password@host:5672/vhost";
            return Err(ConfigError::invalid("bus.url", problem));
        };
        bus.require_scheme("bus.url", &["amqp", "amqps"])?;
        self.check_without_bus()
    }
}

impl Config {
    /// [`Settings::check`] where everything runs in one process, without a broker.
    pub fn check_without_bus(&self) -> Result<(), ConfigError> {
        let databases = ["postgres", "postgresql", "sqlite"];
        self.database.url.require_scheme("database.url", &databases)?;
        self.links.keys()?;
        self.links.check()?;
        self.audit.keys()?;
        self.grpc.origins()?;
        self.authorization.permissions()?;
        EmailAddress::parse(&self.mail.from_address)
            .map_err(|error| ConfigError::invalid("mail.from_address", error.to_string()))?;
        if self.retention.responses_hours < 24 {
            return Err(ConfigError::invalid(
                "retention.responses_hours",
                "must be at least 24 (B1)",
            ));
        }
        Ok(())
    }
}

/// The API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Grpc {
    pub listen: SocketAddr,
    pub allowed_origins: Vec<String>,
    pub max_concurrent_streams: u32,
    pub max_connection_age_seconds: u64,
}

/// The database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Database {
    pub url: SecretUrl,
    pub max_connections: u32,
    pub migrate: bool,
}

/// Who may do what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Authorization {
    pub policies_folder: PathBuf,
    pub services: Vec<String>,
}

impl Authorization {
    /// The policies, read and validated.
    pub(crate) fn permissions(&self) -> Result<Permissions, ConfigError> {
        let authorizer = if self.policies_folder.as_os_str().is_empty() {
            Authorizer::embedded()
        } else {
            Authorizer::load(&self.policies_folder)
                .map_err(|error| ConfigError::invalid("authorization.policies_folder", error.to_string()))?
        };
        let unknown = |name: &&String| *name != "*" && Permission::from_name(name).is_none();
        if let Some(name) = self.services.iter().find(unknown) {
            let names: Vec<&str> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
            let problem = format!("{name:?} is no permission; there are \"*\" (all), {}", names.join(", "));
            return Err(ConfigError::invalid("authorization.services", problem));
        }
        Ok(Permissions::new(
            Arc::new(authorizer),
            self.services.iter().cloned().collect(),
        ))
    }
}

/// The broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// `None` only where everything runs in one process.
    #[serde(default, deserialize_with = "if_set")]
    pub url: Option<SecretUrl>,
}

/// What links are made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Links {
    pub key: Secret,
    pub key_id: u8,
    #[serde(default, deserialize_with = "if_set")]
    pub former_key: Option<Secret>,
    pub former_key_id: u8,
    #[serde(default, deserialize_with = "if_set")]
    pub retired_keys: Option<Secret>,
    pub accept_url: String,
    pub sign_in_url: String,
}

/// What stands on mails.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Mail {
    pub from_address: String,
    pub message_id_domain: String,
}

/// How long claims hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Delivery {
    pub claim_lease_seconds: u32,
    pub transmit_lease_seconds: u32,
}

/// Password hashing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Passwords {
    pub workers: usize,
}

/// How long things are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Retention {
    pub events_days: u32,
    pub responses_hours: u32,
    pub jobs_days: u32,
    pub audit_days: u32,
}

/// The audit log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Audit {
    pub key: Secret,
    pub key_id: u8,
    #[serde(default, deserialize_with = "if_set")]
    pub former_keys: Option<Secret>,
    pub service_reads: bool,
    pub seal: bool,
}

/// The clock.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Clock {
    pub rehearsal_file: PathBuf,
}

impl Grpc {
    /// [`Self::allowed_origins`] as headers.
    pub fn origins(&self) -> Result<Vec<HeaderValue>, ConfigError> {
        let header = |origin: &String| {
            // What a browser sends: scheme, host and port, without a path.
            let usable = HeaderValue::from_str(origin).ok().filter(|_| {
                let parts = origin.split_once("://");
                parts.is_some_and(|(scheme, host)| {
                    matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains('/')
                })
            });
            usable.ok_or_else(|| {
                let problem = format!("{origin:?} is not an origin; write for example https://admin.example.org");
                ConfigError::invalid("grpc.allowed_origins", problem)
            })
        };
        self.allowed_origins.iter().map(header).collect()
    }
}

impl Links {
    /// The keys that links are signed with.
    pub fn keys(&self) -> Result<LinkKeys, ConfigError> {
        let key = |name: &str, id: u8, secret: &Secret| {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(secret.expose().trim())
                .map_err(|_| ConfigError::invalid(name, "is not base64; make one with `openssl rand -base64 48`"))?;
            Ok::<_, ConfigError>(LinkKey { id, secret: bytes })
        };
        let signing = key("links.key", self.key_id, &self.key)?;
        let former = self
            .former_key
            .as_ref()
            .map(|secret| key("links.former_key", self.former_key_id, secret))
            .transpose()?;
        let keys = LinkKeys::try_new(signing, former).map_err(|fault| ConfigError::invalid("links.key", fault))?;
        let retired = self.retired_keys.as_ref().map_or("", |keys| keys.expose());
        LinkKeys::parse_retired(retired)
            .and_then(|retired| keys.with_retired(retired))
            .map_err(|fault| ConfigError::invalid("links.retired_keys", fault))
    }

    /// Refuses a page address without its places.
    pub fn check(&self) -> Result<(), ConfigError> {
        for place in ["{tenant}", "{token}"] {
            if !self.accept_url.contains(place) {
                return Err(ConfigError::invalid(
                    "links.accept_url",
                    format!("lacks {place}; it is put in there"),
                ));
            }
        }
        Ok(())
    }
}

impl Audit {
    /// The keys that the log is sealed with.
    pub fn keys(&self) -> Result<AuditKeys, ConfigError> {
        let secret = base64::engine::general_purpose::STANDARD
            .decode(self.key.expose().trim())
            .map_err(|_| ConfigError::invalid("audit.key", "is not base64; make one with `openssl rand -base64 48`"))?;
        let signing =
            AuditKey::try_new(self.key_id, &secret).map_err(|fault| ConfigError::invalid("audit.key", fault))?;
        let former = self.former_keys.as_ref().map_or("", |keys| keys.expose());
        let former =
            AuditKeys::parse_former(former).map_err(|fault| ConfigError::invalid("audit.former_keys", fault))?;
        AuditKeys::try_new(signing, former).map_err(|fault| ConfigError::invalid("audit.former_keys", fault))
    }
}

impl Delivery {
    /// How long claims hold.
    pub fn leases(&self) -> Leases {
        Leases {
            claim: TimeDelta::seconds(i64::from(self.claim_lease_seconds.max(1))),
            transmit: TimeDelta::seconds(i64::from(self.transmit_lease_seconds.max(1))),
        }
    }
}
