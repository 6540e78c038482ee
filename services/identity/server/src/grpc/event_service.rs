//! What changed, as a stream (B5).

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use usher_core::event::Event;
use usher_core::ids::TenantId;
use usher_core::ports::{Cursor, Followed};
use usher_core::refusal::Refusal;
use usher_core::role::Permission;
use usher_proto::identity::v1::event_service_server::EventService;
use usher_proto::identity::v1::{WatchEventsRequest, WatchEventsResponse};

use crate::app::App;
use crate::authorize::Caller;
use crate::call::{finish, tenant as parse_tenant};
use crate::convert;
use crate::operations::engine::Failure;
use crate::parse::Faults;
use crate::status::{failed, refused};

/// Events that wait for one slow client.
const BUFFER: usize = 256;
/// Events in one read.
const READ: u32 = 500;
/// How often the outbox is looked at, if nothing wakes the stream.
const PERIOD: Duration = Duration::from_millis(500);
/// Prefixes of one request at most.
const MAX_PREFIXES: usize = 20;

/// Streams events; ends with the service.
#[derive(Clone)]
pub(crate) struct Watch {
    /// The service.
    pub app: App,
    /// Ends all streams.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl EventService for Watch {
    type WatchEventsStream = ReceiverStream<Result<WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let caller = Caller::of(request.metadata())?;
        let body = request.into_inner();
        let mut faults = Faults::default();
        let tenant = parse_tenant(&body.tenant_id, &mut faults);
        if body.type_prefixes.len() > MAX_PREFIXES {
            faults.add("type_prefixes", format!("has more than {MAX_PREFIXES} entries"));
        }
        finish(faults)?;
        self.app.permit(&caller, tenant, Permission::EventsWatch).await?;
        self.app.tenant(tenant).await?;
        let cursor = match (body.after.as_str(), body.from_beginning) {
            ("", true) => self.app.store.beginning().await.map_err(Failure::from)?,
            ("", false) => self.app.store.end().await.map_err(Failure::from)?,
            (after, _) => Cursor(after.to_owned()),
        };
        // A cursor that cannot be followed is refused at once, not in mid-stream.
        self.read(&cursor, tenant).await?;
        let (sender, receiver) = mpsc::channel(BUFFER);
        let stream = Stream {
            watch: self.clone(),
            tenant,
            prefixes: body.type_prefixes,
            sender,
        };
        let commits = self.app.engine.commits();
        tokio::spawn(async move { stream.run(cursor, commits).await });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Watch {
    async fn read(&self, after: &Cursor, tenant: TenantId) -> Result<Followed, Status> {
        let followed = self
            .app
            .store
            .follow(after, Some(tenant), READ)
            .await
            .map_err(Failure::from)
            .map_err(failed)?;
        followed.ok_or_else(|| refused(&Refusal::CursorTooOld))
    }
}

struct Stream {
    watch: Watch,
    tenant: TenantId,
    prefixes: Vec<String>,
    sender: mpsc::Sender<Result<WatchEventsResponse, Status>>,
}

impl Stream {
    async fn run(self, mut cursor: Cursor, mut commits: watch::Receiver<u64>) {
        // Tells the client at once where the stream begins, so that it can come back to there.
        if self.sender.send(Ok(position(&cursor))).await.is_err() {
            return;
        }
        loop {
            let followed = match self.watch.read(&cursor, self.tenant).await {
                Ok(followed) => followed,
                Err(status) => {
                    let _ = self.sender.send(Err(status)).await;
                    return;
                }
            };
            let mut told = cursor.clone();
            for (at, event) in &followed.events {
                if self.is_wanted(event) {
                    told = at.clone();
                    if !self.tell(response(at, event)).await {
                        return;
                    }
                }
            }
            let passed_over = !followed.events.is_empty() && told != followed.cursor;
            if passed_over && !self.tell(position(&followed.cursor)).await {
                return;
            }
            cursor = followed.cursor;
            if followed.more && !self.watch.shutdown.is_cancelled() {
                continue;
            }
            tokio::select! {
                () = self.watch.shutdown.cancelled() => {
                    let ending = Status::unavailable("the service is stopping; go on from the last cursor");
                    let _ = self.sender.try_send(Err(ending));
                    return;
                }
                () = self.sender.closed() => return,
                _ = commits.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Hands an answer to the client. `false`: it is gone, or too slow for a service that is stopping.
    async fn tell(&self, answer: WatchEventsResponse) -> bool {
        tokio::select! {
            biased;
            sent = self.sender.send(Ok(answer)) => sent.is_ok(),
            () = self.watch.shutdown.cancelled() => false,
        }
    }

    fn is_wanted(&self, event: &Event) -> bool {
        let name = event.kind.as_str();
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }
}

fn response(at: &Cursor, event: &Event) -> WatchEventsResponse {
    WatchEventsResponse {
        cursor: at.0.clone(),
        event_id: event.id.to_string(),
        event_type: event.kind.as_str().to_owned(),
        time: Some(convert::time(event.at)),
        event: Some(convert::event(event)),
    }
}

fn position(at: &Cursor) -> WatchEventsResponse {
    WatchEventsResponse {
        cursor: at.0.clone(),
        ..WatchEventsResponse::default()
    }
}
