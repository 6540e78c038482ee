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
            if let (Some(status), Some(recorder)) = (told, recorder)
                && let Some(outcome) = outcome(&call, status.as_ref(), &recorder)
            {
                recorder.record(&call, &outcome).await;
            }
            answer
        })
    }
}

/// What is written down of a call that ended so; `None`: nothing.
fn outcome(call: &Call, status: Option<&Status>, recorder: &Recorder) -> Option<String> {
    let kind = kind(&call.method);
    let hidden = call.noted.lock().is_ok_and(|noted| noted.hidden_refusal);
    if hidden {
        return Some("PERMISSION_DENIED".into());
    }
    match status {
        None => {
            let by_person = matches!(Caller::named(&call.actor), Caller::User(_));
            let is_read = match kind {
                Kind::Read => by_person || recorder.service_reads,
                Kind::ReadsAudit => true,
                Kind::Change | Kind::Other => false,
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
