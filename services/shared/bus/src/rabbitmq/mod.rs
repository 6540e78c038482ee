//! The bus on RabbitMQ.
//!
//! Publishing and consuming never share a connection: a broker that runs short of memory or disk stops reading from
//! connections that publish, and acknowledgements must not be caught up in that. lapin's automatic recovery stays off: a
//! connection that failed is dropped, and the next call opens a new one and declares the topology again.

mod consumer;
mod publisher;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use secrecy::{ExposeSecret, SecretString};

pub use self::consumer::RabbitSubscriber;
pub use self::publisher::RabbitPublisher;
pub use self::topology::{DEAD_LETTER_EXCHANGE, DEAD_LETTER_QUEUE};

/// How long connecting may take, topology included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a readiness check may take.
const PING_DEADLINE: Duration = Duration::from_secs(2);
/// Seconds between heartbeats, unless the URL says otherwise (`?heartbeat=`). Two missed ones end a connection.
const HEARTBEAT_SECONDS: u16 = 10;

/// Why the broker cannot be used. Never holds the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum RabbitError {
    /// What was configured is not `amqp://user:password@host:port/vhost`.
    #[error("the broker's URL is not an AMQP URL")]
    Url,
    /// The broker or the way to it.
    #[error(transparent)]
    Lapin(#[from] lapin::Error),
    /// No answer in time.
    #[error("no answer from the broker within {0:?}")]
    Deadline(Duration),
}

/// Where the broker is, and who asks. Cheap to clone; holds no connection.
#[derive(Debug, Clone)]
pub struct RabbitMq {
    url: SecretString,
    connection_name: Arc<str>,
}

impl RabbitMq {
    /// Looks at nothing yet. The connection's name is what an operator sees in the broker's list of connections.
    pub fn new(url: SecretString, connection_name: impl Into<Arc<str>>) -> Self {
        Self {
            url,
            connection_name: connection_name.into(),
        }
    }

    /// A publisher with a connection of its own, opened when it is first needed.
    pub fn publisher(&self) -> RabbitPublisher {
        RabbitPublisher::new(self.clone())
    }

    /// Opens consumers, each with a connection of its own.
    pub fn subscriber(&self) -> RabbitSubscriber {
        RabbitSubscriber::new(self.clone())
    }

    /// For readiness: whether one can connect and open a channel, within 2 s.
    pub async fn ping(&self) -> Result<(), RabbitError> {
        within(PING_DEADLINE, async {
            let connection = self.connect("ping").await?;
            // Kept until the end: dropped at once, its closing would be in the way of the connection's.
            let _channel = connection.create_channel().await?;
            connection.close(200, "OK".into()).await?;
            Ok(())
        })
        .await
    }

    /// A connection and a channel on it, with the topology declared.
    async fn open(&self, role: &str) -> Result<Link, RabbitError> {
        within(CONNECT_DEADLINE, async {
            let connection = self.connect(role).await?;
            let channel = connection.create_channel().await?;
            topology::declare(&channel).await?;
            Ok(Link { channel, connection })
        })
        .await
    }

    async fn connect(&self, role: &str) -> Result<Connection, RabbitError> {
        let mut uri: AMQPUri = self.url.expose_secret().parse().map_err(|_| RabbitError::Url)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let milliseconds = u64::try_from(CONNECT_DEADLINE.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout.get_or_insert(milliseconds);
        let name = format!("{} {role}", self.connection_name);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        Ok(Connection::connect_uri(uri, properties).await?)
    }
}

/// A connection with its one channel. Dropped, both close, and the broker requeues what was not settled.
struct Link {
    channel: Channel,
    connection: Connection,
}

impl Link {
    fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Whether the broker has said that it reads nothing from this connection for now.
    fn is_blocked(&self) -> bool {
        self.is_open() && self.connection.status().blocked()
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = Result<T, RabbitError>>) -> Result<T, RabbitError> {
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or(Err(RabbitError::Deadline(deadline)))
}
