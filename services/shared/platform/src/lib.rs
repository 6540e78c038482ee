//! What every process does before and around its own work, so that each `main.rs` is a few lines.
//!
//! A process reads its configuration ([`config`]), opens its logs and traces ([`telemetry`], [`trace`]) and its metrics
//! ([`metrics`]), serves `/livez`, `/readyz` and `/metrics` ([`admin`], [`readiness`]), and stops in order when told to
//! ([`lifecycle`]). [`run_main`] does all of that and calls the process's one function. [`grpc`] sets up clients.
//!
//! ```no_run
//! # #[derive(serde::Deserialize)]
//! # struct Config {}
//! # impl usher_platform::config::Settings for Config {}
//! fn main() -> std::process::ExitCode {
//!     usher_platform::run_main("usher-example", "# no settings of its own", |_config: Config, context| async move {
//!         context.readiness.condition("example").set(true, "");
//!         context.shutdown.cancelled().await;
//!         Ok(())
//!     })
//! }
//! ```

pub mod admin;
mod args;
pub mod config;
pub mod grpc;
pub mod lifecycle;
pub mod metrics;
pub mod readiness;
mod run;
pub mod telemetry;
pub mod trace;

pub use self::config::{Common, ConfigError};
pub use self::readiness::{Condition, Readiness};
pub use self::run::{Context, Failure, exit_with, run, run_main};
