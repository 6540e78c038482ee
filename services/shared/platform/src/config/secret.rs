//! Settings that must not be seen: they print as `***`, and an error about them never quotes them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use serde::de::{DeserializeOwned, Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use url::Url;

use super::ConfigError;

/// A password or a key that has to be given.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(given(deserializer)?.into()))
    }
}

/// A URL that may hold a password; it has to be given and to be well-formed.
///
/// `Display` and `Debug` show scheme, host, port and path only.
#[derive(Clone)]
pub struct SecretUrl {
    text: SecretString,
    redacted: String,
}

impl SecretUrl {
    /// Accepts a well-formed URL; the error does not quote it.
    pub fn try_new(text: String) -> Result<Self, InvalidUrl> {
        let url = Url::parse(&text).map_err(InvalidUrl)?;
        Ok(Self {
            redacted: redact(&url),
            text: text.into(),
        })
    }

    /// The whole URL, password included, for the one call that needs it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }

    /// Refuses a URL that is not of one of these schemes; `key` is where it is configured.
    pub fn require_scheme(&self, key: &str, schemes: &[&str]) -> Result<(), ConfigError> {
        if schemes.contains(&self.scheme()) {
            return Ok(());
        }
        let expected: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
        let problem = format!("begins with {}: and not with {}", self.scheme(), expected.join(" or "));
        Err(ConfigError::invalid(key, problem))
    }

    /// What stands before the first colon, such as `postgres`.
    pub fn scheme(&self) -> &str {
        self.redacted.split(':').next().unwrap_or_default()
    }
}

/// Why a text is not a URL, without the text.
#[derive(Debug, thiserror::Error)]
#[error("not a URL ({0}); expected scheme://user:password@host:port/path")]
pub struct InvalidUrl(url::ParseError);

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_new(given(deserializer)?).map_err(D::Error::custom)
    }
}

/// For `#[serde(deserialize_with = "usher_platform::config::if_set")]`: an empty text is `None`.
pub fn if_set<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        Ok(None)
    } else {
        T::deserialize(text.into_deserializer()).map(Some)
    }
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        Err(D::Error::custom("a value is required"))
    } else {
        Ok(text)
    }
}

/// Drops user, password, query and fragment: credentials hide in each of them.
fn redact(url: &Url) -> String {
    let mut shown = format!("{}:", url.scheme());
    if let Some(host) = url.host_str() {
        shown.push_str("//");
        shown.push_str(host);
        if let Some(port) = url.port() {
            shown.push(':');
            shown.push_str(&port.to_string());
        }
    }
    shown.push_str(url.path());
    shown
}
