//! The sections that all workers have.

use std::num::NonZeroUsize;

use serde::{Deserialize, Deserializer};
use url::Url;
use usher_platform::config::{ConfigError, SecretUrl, Settings};

/// The settings of a worker that needs nothing else. Their meaning stands in its `config.default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct WorkerConfig {
    pub identity: IdentityConfig,
    pub bus: BusConfig,
    pub worker: Concurrency,
}

impl Settings for WorkerConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.bus.check()
    }
}

/// `[identity]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityConfig {
    /// Where the identity service answers, such as `http://identity:50051`.
    #[serde(deserialize_with = "http_url")]
    pub url: String,
}

/// `[bus]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// `amqp://user:password@host:5672/vhost`.
    pub url: SecretUrl,
}

impl BusConfig {
    /// Refuses the URL of something else.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.url.require_scheme("bus.url", &["amqp", "amqps"])
    }
}

/// `[worker]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// How much is worked on at once: 1 to 1,000. The broker is never asked for more than that.
    #[serde(deserialize_with = "at_most_1000")]
    pub concurrency: NonZeroUsize,
}

fn http_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(
            "not a URL of the identity service; expected one such as http://identity:50051",
        ))
    }
}

fn at_most_1000<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroUsize, D::Error> {
    match NonZeroUsize::new(usize::deserialize(deserializer)?) {
        Some(concurrency) if concurrency.get() <= 1000 => Ok(concurrency),
        _ => Err(serde::de::Error::custom("out of range; expected 1 to 1000")),
    }
}
