//! The sections that every process has.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tracing_subscriber::EnvFilter;

/// The commented defaults of these sections.
pub const COMMON_DEFAULTS: &str = include_str!("common.toml");

/// The names of these sections at the top of a configuration.
pub(super) const COMMON_SECTIONS: [&str; 4] = ["log", "telemetry", "admin", "shutdown"];

/// What every process can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// `[log]`
    pub log: LogConfig,
    /// `[telemetry]`
    pub telemetry: TelemetryConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[shutdown]`
    pub shutdown: ShutdownConfig,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A level or a list of `target=level`.
    #[serde(deserialize_with = "level")]
    pub level: String,
    /// For people or for programs.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// One compact line, in colour on a terminal.
    Human,
    /// One JSON object a line, with the trace id.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("not a format; expected human or json"),
        }
    }
}

/// Where traces and logs are sent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// An OTLP/gRPC endpoint; empty sends nothing.
    #[serde(deserialize_with = "endpoint")]
    pub otlp_endpoint: String,
    /// `service.instance.id`; empty takes host name and process id.
    pub service_instance: String,
    /// Share of new traces that are recorded, 0 to 1.
    #[serde(deserialize_with = "ratio")]
    pub sample_ratio: f64,
}

/// Where the admin pages answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

/// How the process stops.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownConfig {
    /// How long work under way may take to finish.
    pub drain_seconds: u32,
}

impl ShutdownConfig {
    /// [`Self::drain_seconds`] as a duration.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.into())
    }
}

fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match EnvFilter::builder().parse(&text) {
        Ok(_) if !text.is_empty() => Ok(text),
        _ => Err(serde::de::Error::custom(
            "not a level; expected trace, debug, info, warn, error or a list such as info,usher_store=debug",
        )),
    }
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let usable = url::Url::parse(&text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if text.is_empty() || usable {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(
            "not an endpoint; expected one such as http://collector:4317",
        ))
    }
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(serde::de::Error::custom(
            "out of range; expected a number from 0.0 to 1.0",
        ))
    }
}
