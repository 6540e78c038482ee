//! Writes down that users have expired (S5).
//!
//! Nobody waits for this worker to be refused: the effective status is computed from the clock at each read. What it adds is
//! the row and the event. Many users often expire at the same instant, so messages are gathered into few calls.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use tonic::Status;
use usher_bus::EXPIRATION;
use usher_platform::grpc::Client;
use usher_platform::{Context, Failure};
use usher_proto::identity::v1::work_service_client::WorkServiceClient;
use usher_proto::identity::v1::{DueExpiration, ExpireUsersRequest};
use usher_worker_runtime::{Gather, Parts, PassOn, PassingOn, Work, Worker, connect};

/// The settings of the process.
pub use usher_worker_runtime::WorkerConfig as Config;

/// The defaults, as commented TOML.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// One call takes at most so many, and waits at most so long for more.
const GATHER: Gather = Gather {
    most: 200,
    wait: Duration::from_millis(100),
};

/// The worker as a process: RabbitMQ.
pub async fn main(config: Config, context: Context) -> Result<(), Failure> {
    let parts = connect(&context.name, &config.bus, &config.identity)?;
    run(parts, config.worker.concurrency, &context).await;
    Ok(())
}

/// The worker as a part of any process, on any bus, until the context's `shutdown`. `concurrency` counts calls.
pub async fn run(parts: Parts, concurrency: NonZeroUsize, context: &Context) {
    let handler = PassingOn(Expirations {
        work: WorkServiceClient::new(parts.identity.clone()),
    });
    let worker = Worker::batching(
        "expiration",
        EXPIRATION,
        parts.subscriber,
        handler,
        GATHER,
        concurrency,
        context,
    );
    usher_worker_runtime::run(worker, parts.identity, context).await;
}

/// Passes on which expirations are due.
struct Expirations {
    work: WorkServiceClient<Client>,
}

#[async_trait]
impl PassOn for Expirations {
    type Item = DueExpiration;

    /// Each user once, with the last of the expirations that were due. Of two that were due, the older was moved since.
    fn due(batch: &[Work]) -> Vec<Self::Item> {
        let mut items = BTreeMap::new();
        for Work { envelope, event, .. } in batch {
            let Some(expire_time) = event.expire_time else {
                tracing::error!(event = %envelope.id, "an expiration that says nothing of when; left out");
                continue;
            };
            let item = DueExpiration {
                tenant_id: event.tenant_id.clone(),
                user_id: event.user_id.clone(),
                expire_time: Some(expire_time),
            };
            let at = (expire_time.seconds, expire_time.nanos);
            let last = items
                .entry((event.tenant_id.as_str(), event.user_id.as_str()))
                .or_insert((at, item.clone()));
            if last.0 < at {
                *last = (at, item);
            }
        }
        items.into_values().map(|(_, item)| item).collect()
    }

    fn id(item: &Self::Item) -> &str {
        &item.user_id
    }

    async fn pass_on(&self, items: Vec<Self::Item>) -> Result<(), Status> {
        let asked = items.len();
        let answer = self
            .work
            .clone()
            .expire_users(ExpireUsersRequest { items })
            .await?
            .into_inner();
        tracing::info!(
            asked,
            expired = answer.expired_count,
            unchanged = answer.unchanged_count,
            "expirations"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use usher_bus::Envelope;
    use usher_proto::events::v1::LifecycleEvent;

    use super::*;

    fn work(tenant: &str, user: &str, due: Option<i64>) -> Work {
        let event = LifecycleEvent {
            tenant_id: tenant.into(),
            user_id: user.into(),
            ..LifecycleEvent::default()
        };
        let envelope = Envelope {
            id: uuid::Uuid::nil(),
            event_type: "usher.expiration.due.v1".into(),
            routing_key: "expiration.due".into(),
            subject: user.into(),
            tenant: uuid::Uuid::nil(),
            time: chrono::DateTime::UNIX_EPOCH,
            trace_parent: String::new(),
            must_route: true,
            data: Bytes::new(),
        };
        let mut work = Work {
            envelope,
            event,
            redelivered: false,
        };
        work.event.expire_time = due.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
        work
    }

    #[test]
    fn a_user_who_is_due_twice_is_asked_for_once_with_the_last_date_and_one_without_a_date_not_at_all() {
        let batch = [
            work("a", "1", Some(10)),
            work("a", "1", Some(30)),
            work("a", "1", Some(20)),
            work("b", "1", Some(10)),
            work("b", "2", None),
        ];
        let items: Vec<_> = Expirations::due(&batch)
            .into_iter()
            .map(|item| (item.tenant_id, item.user_id, item.expire_time.map(|time| time.seconds)))
            .collect();
        assert_eq!(
            items,
            [
                ("a".to_owned(), "1".to_owned(), Some(30)),
                ("b".to_owned(), "1".to_owned(), Some(10)),
            ]
        );
    }
}
