//! The identity service, as a worker sees it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use usher_platform::Condition;
use usher_platform::grpc::Client;

/// The service whose health counts.
const SERVICE: &str = "usher.identity.v1.WorkService";
/// Between attempts to ask.
const PAUSE: Duration = Duration::from_secs(1);
/// The health stream is opened anew after so long: the client's own deadline is meant for calls.
const STREAM: Duration = Duration::from_hours(1);

/// This process's name in the list of attempts: host, process id, and something that differs between two of the same.
pub fn worker_id() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let host: String = host
        .unwrap_or_default()
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(60)
        .collect();
    let host = if host.is_empty() { "worker" } else { &host };
    format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>())
}

/// Keeps a condition up to date with the health of the identity service's part for workers, until told to stop.
pub(crate) async fn watch(client: Client, condition: Condition, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow(HealthClient::new(client), &condition) => {}
    }
}

async fn follow(mut health: HealthClient<Client>, condition: &Condition) {
    loop {
        let mut request = Request::new(HealthCheckRequest {
            service: SERVICE.into(),
        });
        request.set_timeout(STREAM);
        match health.watch(request).await {
            Ok(answers) => {
                let mut answers = answers.into_inner();
                while let Ok(Some(answer)) = answers.message().await {
                    let serving = answer.status() == ServingStatus::Serving;
                    condition.set(
                        serving,
                        if serving {
                            ""
                        } else {
                            "the identity service is not serving"
                        },
                    );
                }
                // Its end says nothing yet: the service may only spread its connections.
                if let Ok(answers) = health
                    .check(HealthCheckRequest {
                        service: SERVICE.into(),
                    })
                    .await
                    && answers.into_inner().status() == ServingStatus::Serving
                {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                condition.set(false, "the identity service does not answer");
            }
            Err(status) => condition.set(
                false,
                format!("the identity service does not answer: {}", status.message()),
            ),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_workers_of_one_process_have_names_of_their_own_that_fit() {
        let (one, other) = (worker_id(), worker_id());
        assert_ne!(one, other);
        assert!((1..=100).contains(&one.chars().count()), "{one}");
    }
}
