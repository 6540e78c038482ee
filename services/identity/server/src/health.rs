//! Health, as probes and clients see it: readiness, mirrored for each service.
//!
//! A watch has no end of its own: one left open would hold a draining server until it is cut off. So all watches end once
//! they were told that nothing is served any more.

use futures::stream::{BoxStream, StreamExt as _, unfold};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::{HealthReporter, HealthService};
use usher_platform::Readiness;

use crate::server::SERVICES;

/// What is told to the health service.
pub(crate) struct Mirror {
    reporter: HealthReporter,
    /// Fires when everybody was told that nothing is served any more.
    ended: CancellationToken,
}

/// The health service, NOT_SERVING until [`Mirror::run`] says otherwise.
pub(crate) async fn service() -> (Mirror, HealthServer<EndingHealth>) {
    let mirror = Mirror {
        reporter: HealthReporter::new(),
        ended: CancellationToken::new(),
    };
    // It starts SERVING by itself.
    mirror.report(false).await;
    let health = EndingHealth {
        inner: HealthService::from_health_reporter(mirror.reporter.clone()),
        ended: mirror.ended.clone(),
    };
    (mirror, HealthServer::new(health))
}

impl Mirror {
    /// Shows readiness as health. Never ends by itself: health is asked for until the last connection is closed.
    pub(crate) async fn run(self, readiness: Readiness, shutdown: CancellationToken) {
        let mut ready = readiness.watch();
        loop {
            let serving = *ready.borrow_and_update() && !shutdown.is_cancelled();
            self.report(serving).await;
            tokio::select! {
                changed = ready.changed() => if changed.is_err() { return std::future::pending().await },
                () = shutdown.cancelled() => {
                    self.report(false).await;
                    self.ended.cancel();
                    return std::future::pending().await;
                }
            }
        }
    }

    async fn report(&self, serving: bool) {
        let status = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for service in SERVICES.into_iter().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

/// tonic's health service, with watches that end.
pub(crate) struct EndingHealth {
    inner: HealthService,
    ended: CancellationToken,
}

#[tonic::async_trait]
impl Health for EndingHealth {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.inner.check(request).await
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watch = self.inner.watch(request).await?.into_inner();
        let stream = unfold((watch, self.ended.clone()), async |(mut watch, ended)| {
            tokio::select! {
                // What was reported last is passed on before the end.
                biased;
                status = watch.next() => Some((status?, (watch, ended))),
                () = ended.cancelled() => None,
            }
        });
        Ok(Response::new(stream.boxed()))
    }
}
