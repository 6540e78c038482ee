//! What a worker stands on, whether it is a process of its own or a part of one.

use std::sync::Arc;

use usher_bus::Subscriber;
use usher_bus::rabbitmq::RabbitMq;
use usher_platform::Context;
use usher_platform::config::ConfigError;
use usher_platform::grpc::{self, Client, ClientOptions};

use crate::identity::watch;
use crate::{BusConfig, IdentityConfig, Worker};

/// The bus and the identity service.
#[derive(Clone)]
pub struct Parts {
    /// Where messages come from.
    pub subscriber: Arc<dyn Subscriber>,
    /// Whom to ask.
    pub identity: Client,
}

/// The parts of a process of its own. Nothing is contacted yet.
pub fn connect(name: &str, bus: &BusConfig, identity: &IdentityConfig) -> Result<Parts, ConfigError> {
    let rabbit = RabbitMq::new(bus.url.expose().into(), name);
    let identity = grpc::channel(&identity.url, &ClientOptions::default())
        .map_err(|error| ConfigError::invalid("identity.url", error.to_string()))?;
    Ok(Parts {
        subscriber: Arc::new(rabbit.subscriber()),
        identity,
    })
}

/// Runs a worker until the context's `shutdown`. The conditions `bus` and `identity` of its readiness tell whether those are
/// there.
pub async fn run(worker: Worker, identity: Client, context: &Context) {
    let (bus, there) = (
        context.readiness.condition("bus"),
        context.readiness.condition("identity"),
    );
    tokio::join!(worker.run(bus), watch(identity, there, context.shutdown.clone()));
}
