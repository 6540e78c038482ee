//! Sends the reminders to those who have not accepted yet (L14).
//!
//! Each `reminder.due` names one mail. What is done with it is [`MailHandler`]: claim it at the identity service, which checks that
//! it is still wanted and writes it; send it; report how that ended.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::Deserialize;
use usher_bus::REMINDER;
use usher_mail::{SmtpConfig, SmtpTransport, Transport};
use usher_platform::config::{ConfigError, Settings};
use usher_platform::{Context, Failure};
use usher_worker_runtime::{BusConfig, Concurrency, IdentityConfig, MailHandler, Parts, Worker, connect};

/// The defaults, as commented TOML.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The settings of the process. Their meaning stands in `config.default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "documented in config.default.toml")]
pub struct Config {
    pub identity: IdentityConfig,
    pub bus: BusConfig,
    pub smtp: SmtpConfig,
    pub worker: Concurrency,
}

impl Settings for Config {
    fn check(&self) -> Result<(), ConfigError> {
        self.bus.check()?;
        self.smtp
            .check()
            .map_err(|error| ConfigError::invalid("smtp.url", error.0))
    }
}

/// The worker as a process: RabbitMQ and SMTP.
pub async fn main(config: Config, context: Context) -> Result<(), Failure> {
    let parts = connect(&context.name, &config.bus, &config.identity)?;
    let transport = SmtpTransport::try_new(&config.smtp).map_err(|error| ConfigError::invalid("smtp.url", error.0))?;
    run(parts, Arc::new(transport), config.worker.concurrency, &context).await;
    Ok(())
}

/// The worker as a part of any process, on any bus and any transport, until the context's `shutdown`.
pub async fn run(parts: Parts, transport: Arc<dyn Transport>, concurrency: NonZeroUsize, context: &Context) {
    let handler = MailHandler::new(parts.identity.clone(), Arc::clone(&transport), context.shutdown.clone());
    let worker = Worker::new("reminder", REMINDER, parts.subscriber, handler, concurrency, context);
    usher_worker_runtime::run(worker, parts.identity, context).await;
    transport.close().await;
}
