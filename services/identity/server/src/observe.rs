//! A span and a measurement for every call: `rpc.<Service>/<Method>`, continuing the caller's trace (K5); and the deadline
//! that the caller set.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::Instrument as _;

/// The header that carries a deadline.
const TIMEOUT: &str = "grpc-timeout";

/// Observes a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObserveLayer;

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Observe { inner }
    }
}

/// An observed service.
#[derive(Debug, Clone)]
pub(crate) struct Observe<S> {
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Observe<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    R: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        if !method.starts_with("usher.") {
            return Box::pin(self.inner.call(request));
        }
        let name = method
            .rsplit_once('.')
            .map_or(method.as_str(), |(_, name)| name)
            .to_owned();
        let span = tracing::info_span!(
            "rpc",
            otel.name = format!("rpc.{name}"),
            otel.kind = "server",
            rpc.method = name
        );
        usher_platform::trace::set_parent(&span, usher_platform::trace::extract(request.headers()));
        let measured = Measured {
            method: name,
            began: Instant::now(),
            code: Code::Cancelled.into(),
        };
        let deadline = deadline(request.headers());
        let answer = self.inner.call(request);
        let observed = async move {
            let mut measured = measured;
            let answer = match deadline {
                None => answer.await,
                Some(deadline) => match tokio::time::timeout(deadline, answer).await {
                    Ok(answer) => answer,
                    Err(_) => Ok(Status::deadline_exceeded(TOO_LATE).into_http()),
                },
            };
            measured.code = answer.as_ref().map_or(Code::Unknown.into(), code);
            answer
        };
        Box::pin(observed.instrument(span))
    }
}

/// What a caller is told whose deadline passed.
const TOO_LATE: &str = "no answer by the deadline that the call came with; a change may still be carried out: repeat it with \
                        the same request_id";

/// Answering this much before the deadline gets the answer to the caller in time, and before tonic's own timer, which would
/// say CANCELLED.
const MARGIN: Duration = Duration::from_millis(5);

/// How long the caller waits: the header `grpc-timeout`, at most eight digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let deadline = match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(deadline.saturating_sub(MARGIN))
}

/// Refusals answer with headers only; the status of all others stands in the trailers and is 0.
fn code<R>(answer: &Response<R>) -> i32 {
    let status = answer.headers().get("grpc-status").and_then(|code| code.to_str().ok());
    status
        .map_or(Some(0), |code| code.parse().ok())
        .unwrap_or(Code::Unknown.into())
}

/// Counts a call when it ends; one that its caller gave up is CANCELLED.
struct Measured {
    method: String,
    began: Instant,
    code: i32,
}

impl Drop for Measured {
    fn drop(&mut self) {
        let (method, code) = (self.method.clone(), self.code.to_string());
        metrics::counter!("usher_rpc_total", "method" => method.clone(), "code" => code).increment(1);
        metrics::histogram!("usher_rpc_seconds", "method" => method).record(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn a_deadline_is_read_as_the_protocol_has_it_and_a_damaged_one_is_none() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(TIMEOUT), text.parse().unwrap())]);
            deadline(&headers)
        };
        for (text, expected) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("3S", Duration::from_secs(3)),
            ("1500m", Duration::from_millis(1500)),
            ("99999999u", Duration::from_micros(99_999_999)),
        ] {
            assert_eq!(read(text), Some(expected.saturating_sub(MARGIN)), "{text}");
        }
        assert_eq!(read("1n"), Some(Duration::ZERO));
        for damaged in ["", "S", "1", "1x", "-1S", "123456789S"] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
    }
}
