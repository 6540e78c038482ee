//! Around every call: writes down refusals and reads before the answer goes out.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use usher_core::audit::DONE;

use super::methods::{Kind, kind};
use super::{CALL, Call, Noted, Recorder};
use crate::authorize::Caller;
use crate::call::actor;
use crate::parse::Faults;
use crate::status::DOMAIN;

/// The package of the services.
const PACKAGE: &str = "/usher.identity.v1.";
/// Characters of a program's name that are kept.
const MAX_CALLER: usize = 200;
/// Refusals that say nothing about the caller: the service could not, or there is no such tenant to write for.
const NOT_REFUSED: [&str; 4] = ["STORE_UNAVAILABLE", "INTERNAL", "OVERLOADED", "TENANT_NOT_FOUND"];

/// Audits services.
#[derive(Clone)]
pub(crate) struct AuditLayer {
    /// There once the database has answered; no call is answered before.
    pub recorder: Arc<OnceLock<Recorder>>,
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Audit {
            inner,
            recorder: Arc::clone(&self.recorder),
        }
    }
}

/// An audited service.
#[derive(Clone)]
pub(crate) struct Audit<S> {
    inner: S,
    recorder: Arc<OnceLock<Recorder>>,
}

impl<S, B, R> Service<Request<B>> for Audit<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(method) = request.uri().path().strip_prefix(PACKAGE) else {
            return Box::pin(self.inner.call(request));
        };
        let call = Arc::new(Call {
            method: method.to_owned(),
            actor: actor_of(request.headers()),
            caller: caller_of(request.headers()),
            noted: std::sync::Mutex::new(Noted::default()),
        });
        let recorder = self.recorder.get().cloned();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = CALL.scope(Arc::clone(&call), answer).await;
            let told = answer
                .as_ref()
                .ok()
                .map(|answer| Status::from_header_map(answer.headers()));
            if let (Some(status), Some(recorder)) = (told, recorder) {
                recorder.record_refused(&call).await;
                if let Some(outcome) = outcome(&call, status.as_ref(), recorder.service_reads) {
                    recorder.record(&call, &outcome).await;
                }
            }
            answer
        })
    }
}

/// What is written down of a call that ended so; `None`: nothing.
fn outcome(call: &Call, status: Option<&Status>, service_reads: bool) -> Option<String> {
    let kind = kind(&call.method);
    let hidden = call.noted.lock().is_ok_and(|noted| noted.hidden_refusal);
    if hidden {
        return Some("PERMISSION_DENIED".into());
    }
    match status {
        None => {
            let by_person = matches!(Caller::named(&call.actor), Caller::User(_));
            let is_read = match kind {
                Kind::Read => by_person || service_reads,
                Kind::Change => (by_person || service_reads) && call.only_reads(),
                Kind::ReadsAudit => true,
                Kind::Other => false,
            };
            is_read.then(|| DONE.into())
        }
        Some(status) => {
            let details = status.get_error_details();
            let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
            let is_refused = status.code() == Code::PermissionDenied || kind == Kind::Change;
            (is_refused && !NOT_REFUSED.contains(&info.reason.as_str())).then(|| info.reason.clone())
        }
    }
}

fn actor_of(headers: &HeaderMap) -> String {
    let only = headers.get(crate::call::ACTOR).cloned();
    let headers = only.map(|value| (http::HeaderName::from_static(crate::call::ACTOR), value));
    let metadata = MetadataMap::from_headers(headers.into_iter().collect());
    actor(&metadata, &mut Faults::default())
}

/// How a program names itself. Browsers do not let a page say it in the usual place.
fn caller_of(headers: &HeaderMap) -> String {
    let named = headers.get("x-user-agent").or_else(|| headers.get("user-agent"));
    let text = named.and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.chars().take(MAX_CALLER).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use usher_core::change::Refused;
    use usher_core::ids::{TenantId, UserId};
    use uuid::Uuid;

    use super::super::{note_trail, note_user};
    use super::*;
    use crate::operations::engine::Trail;

    /// How a call that succeeded is written down, and its items that were refused.
    async fn told(method: &str, actor: &str, about_one: bool, trail: Trail) -> (Option<String>, Vec<String>) {
        let call = Arc::new(Call {
            method: method.into(),
            actor: actor.into(),
            caller: String::new(),
            noted: Mutex::new(Noted::default()),
        });
        let handler = async {
            if about_one {
                note_user(TenantId(Uuid::nil()), UserId(Uuid::nil()));
            }
            note_trail(trail);
        };
        CALL.scope(Arc::clone(&call), handler).await;
        let refused = call.refused(chrono::DateTime::UNIX_EPOCH);
        let refused = refused.into_iter().map(|entry| entry.outcome).collect();
        (outcome(&call, None, false), refused)
    }

    /// B14: a status that is asked for and holds already answers the whole account; so does a repeat, and a mere try.
    #[tokio::test]
    async fn b14_a_change_that_changes_nothing_is_a_read_of_the_person() {
        let person = Uuid::from_u128(7).to_string();
        let trail = |written| Trail {
            written,
            refused: Vec::new(),
        };
        for (actor, about_one, written, expected) in [
            (person.as_str(), true, false, Some(DONE)),
            (person.as_str(), true, true, None),
            (person.as_str(), false, false, None),
            ("a-service", true, false, None),
        ] {
            let (outcome, _) = told("UserService/ReactivateUser", actor, about_one, trail(written)).await;
            assert_eq!(outcome.as_deref(), expected, "{actor} {about_one} {written}");
        }
    }

    /// B14: what is only tried writes nothing; that an item was refused is written down all the same.
    #[tokio::test]
    async fn b14_items_that_are_refused_while_nothing_is_written_are_told() {
        let trail = Trail {
            written: false,
            refused: vec![Refused {
                tenant: TenantId(Uuid::nil()),
                user: None,
                outcome: "PERMISSION_DENIED",
            }],
        };
        let (_, refused) = told("InvitationService/InviteUsers", "a-service", false, trail).await;
        assert_eq!(refused, ["PERMISSION_DENIED"]);
    }
}
