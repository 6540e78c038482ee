//! Clients of gRPC services: connected when first used, kept alive, bounded in time, and part of the caller's trace.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tower::Service;
use tracing::Instrument;
use tracing::field::Empty;

use crate::trace;

const GRPC_TIMEOUT: &str = "grpc-timeout";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What generated clients are built with: `UserServiceClient::new(client)`.
pub type Client = TracedChannel;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long a call may take when it does not say so itself. `None` for streams that stay open.
    pub deadline: Option<Duration>,
    /// A PEM certificate to trust instead of the public authorities, with `https`.
    pub certificate_authority: Option<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            deadline: Some(Duration::from_secs(10)),
            certificate_authority: None,
        }
    }
}

/// A URL or a certificate that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {url}: {cause}; expected a URL such as http://identity:50051")]
pub struct ChannelError {
    url: String,
    #[source]
    cause: tonic::transport::Error,
}

/// A client of the service at `url`, `http` or `https`. It connects when it is first used, and again when it has to.
pub fn channel(url: &str, options: &ClientOptions) -> Result<Client, ChannelError> {
    let failed = |cause| ChannelError {
        url: url.to_owned(),
        cause,
    };
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(failed)?
        .user_agent(program())
        .map_err(failed)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if url.starts_with("https:") {
        let tls = match &options.certificate_authority {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_webpki_roots(),
        };
        endpoint = endpoint.tls_config(tls).map_err(failed)?;
    }
    Ok(TracedChannel {
        inner: endpoint.connect_lazy(),
        deadline: options.deadline.map(timeout_header),
    })
}

/// How this program names itself to servers, which write it down: `usher-worker-invitation/0.1.0`.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
    let name = name.filter(|name| name.bytes().all(|octet| octet.is_ascii_graphic()));
    format!("{}/{}", name.as_deref().unwrap_or("usher"), env!("CARGO_PKG_VERSION"))
}

/// A channel that wraps each call in a span, tells the server which trace it belongs to, and until when it is wanted.
#[derive(Clone)]
pub struct TracedChannel {
    inner: Channel,
    deadline: Option<HeaderValue>,
}

impl fmt::Debug for TracedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedChannel")
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for TracedChannel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        let span = tracing::info_span!(
            "rpc.call",
            otel.name = path,
            otel.kind = "client",
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = method,
            rpc.grpc.status_code = Empty,
            otel.status_code = Empty,
        );
        let headers = request.headers_mut();
        trace::inject_span(&span, headers);
        if let Some(deadline) = &self.deadline {
            // A deadline that the call itself has set is the better one.
            headers.entry(GRPC_TIMEOUT).or_insert_with(|| deadline.clone());
        }
        let answer = self.inner.call(request);
        let recorded = span.clone();
        let call = async move {
            let answer = answer.await;
            match &answer {
                Ok(response) => record_status(&recorded, response),
                Err(_) => drop(recorded.record("otel.status_code", "ERROR")),
            }
            answer
        };
        Box::pin(call.instrument(span))
    }
}

/// An answer without a body carries its status in the headers: that is how refusals arrive.
fn record_status(span: &tracing::Span, response: &Response<Body>) {
    let Some(status) = response
        .headers()
        .get("grpc-status")
        .and_then(|status| status.to_str().ok())
    else {
        return;
    };
    span.record("rpc.grpc.status_code", status);
    if status != "0" {
        span.record("otel.status_code", "ERROR");
    }
}

/// At most eight digits and a unit, as the gRPC protocol over HTTP/2 has it.
fn timeout_header(deadline: Duration) -> HeaderValue {
    let millis = deadline.as_millis().clamp(1, 99_999_999);
    HeaderValue::try_from(format!("{millis}m")).unwrap_or_else(|_| HeaderValue::from_static("10S"))
}
