//! Configuration: defaults, then a file, then the environment, and one clear line when something is wrong.
//!
//! Each binary compiles in a commented TOML of defaults that names **every** key it knows: it is the documentation and
//! the list that other sources are checked against. A table that is empty there is open, that is, it takes keys of the
//! operator's choosing. Above it lie the file given by `--config` or `USHER_CONFIG`, and variables
//! `USHER__SECTION__KEY` (other variables are ignored). A list is separated by commas in the environment.
//!
//! Any text key `foo` may instead be given as `foo_file`, whose contents (without a final line break) become the value:
//! that is how secrets arrive from Docker and Kubernetes.

mod common;
mod error;
mod layers;
mod secret;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;

use serde::de::DeserializeOwned;

pub use self::common::{AdminConfig, COMMON_DEFAULTS, Common, LogConfig, LogFormat, ShutdownConfig, TelemetryConfig};
pub use self::error::ConfigError;
use self::layers::Layers;
pub use self::secret::{Secret, SecretUrl, if_set};

/// A process's own settings.
pub trait Settings: DeserializeOwned {
    /// Finds what only a closer look tells: a key of the wrong length, two values that do not go together. Whoever reads
    /// settings calls it before anything listens.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// What variables that carry configuration begin with.
pub const PREFIX: &str = "USHER";

/// Reads a configuration that consists of nothing but `T`.
pub fn load<T: DeserializeOwned>(defaults_toml: &str, file: Option<&Path>) -> Result<T, ConfigError> {
    Layers::read(&[defaults_toml], file, std::env::vars_os())?.into_one()
}

/// Reads a binary's configuration: the sections that all binaries share, and its own.
///
/// `T` is given its own sections only, so that it may deny unknown fields. `defaults_toml` may override a default of
/// the common sections.
pub fn load_with_common<T: DeserializeOwned>(
    defaults_toml: &str,
    file: Option<&Path>,
) -> Result<(Common, T), ConfigError> {
    load_from(defaults_toml, file, std::env::vars_os())
}

/// [`load_with_common`] with the environment given by the caller, for tests.
pub fn load_from<T: DeserializeOwned>(
    defaults_toml: &str,
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Common, T), ConfigError> {
    Layers::read(&[COMMON_DEFAULTS, defaults_toml], file, environment)?.into_two()
}
