//! Takes erasures on that are due (S12): after their cool-off, and after the deadline of the services that are asked.
//!
//! The identity service does the work, step by step; this worker asks it to. Many are often due at the same instant, so messages
//! are gathered into few calls.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use async_trait::async_trait;
use tonic::Status;
use usher_bus::ERASURE;
use usher_platform::grpc::Client;
use usher_platform::{Context, Failure};
use usher_proto::identity::v1::work_service_client::WorkServiceClient;
use usher_proto::identity::v1::{DueErasure, EraseUsersRequest};
use usher_worker_runtime::{Gather, Parts, PassOn, PassingOn, Work, Worker, connect};

/// The settings of the process.
pub use usher_worker_runtime::WorkerConfig as Config;

/// The defaults, as commented TOML.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// One call takes at most so many, and waits at most so long for more.
const GATHER: Gather = Gather {
    most: 100,
    wait: Duration::from_millis(200),
};

/// The worker as a process: RabbitMQ.
pub async fn main(config: Config, context: Context) -> Result<(), Failure> {
    let parts = connect(&context.name, &config.bus, &config.identity)?;
    run(parts, config.worker.concurrency, &context).await;
    Ok(())
}

/// The worker as a part of any process, on any bus, until the context's `shutdown`. `concurrency` counts calls.
pub async fn run(parts: Parts, concurrency: NonZeroUsize, context: &Context) {
    let handler = PassingOn(Erasures {
        work: WorkServiceClient::new(parts.identity.clone()),
    });
    let worker = Worker::batching(
        "erasure",
        ERASURE,
        parts.subscriber,
        handler,
        GATHER,
        concurrency,
        context,
    );
    usher_worker_runtime::run(worker, parts.identity, context).await;
}

/// Passes on which erasures are due.
struct Erasures {
    work: WorkServiceClient<Client>,
}

#[async_trait]
impl PassOn for Erasures {
    type Item = DueErasure;

    /// Each erasure once.
    fn due(batch: &[Work]) -> Vec<Self::Item> {
        let asked: BTreeSet<_> = batch
            .iter()
            .map(|work| (work.event.tenant_id.as_str(), work.event.erasure_id.as_str()))
            .collect();
        asked
            .into_iter()
            .map(|(tenant, erasure)| DueErasure {
                tenant_id: tenant.to_owned(),
                erasure_id: erasure.to_owned(),
            })
            .collect()
    }

    fn id(item: &Self::Item) -> &str {
        &item.erasure_id
    }

    async fn pass_on(&self, items: Vec<Self::Item>) -> Result<(), Status> {
        let asked = items.len();
        let request = EraseUsersRequest { items };
        let answer = self.work.clone().erase_users(request).await?.into_inner();
        tracing::info!(
            asked,
            advanced = answer.advanced_count,
            unchanged = answer.unchanged_count,
            "erasures"
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

    fn work(tenant: &str, erasure: &str) -> Work {
        Work {
            envelope: Envelope {
                id: uuid::Uuid::nil(),
                event_type: "usher.erasure.due.v1".into(),
                routing_key: "erasure.due".into(),
                subject: String::new(),
                tenant: uuid::Uuid::nil(),
                time: chrono::DateTime::UNIX_EPOCH,
                trace_parent: String::new(),
                must_route: true,
                data: Bytes::new(),
            },
            event: LifecycleEvent {
                tenant_id: tenant.into(),
                erasure_id: erasure.into(),
                ..LifecycleEvent::default()
            },
            redelivered: false,
        }
    }

    #[test]
    fn an_erasure_that_is_due_twice_is_asked_for_once() {
        let items: Vec<_> = Erasures::due(&[work("a", "1"), work("a", "1"), work("b", "1")])
            .into_iter()
            .map(|item| (item.tenant_id, item.erasure_id))
            .collect();
        assert_eq!(
            items,
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]
        );
    }
}
