//! The admin pages, for probes and for Prometheus: `/livez`, `/readyz`, `/metrics`.
//!
//! `/livez` answers as long as the process can answer at all. `/readyz` is 200 or 503 with the list of conditions. They
//! keep answering while the process drains, and have a port of their own that needs not be reachable from outside.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::metrics::MetricsHandle;
use crate::readiness::{Readiness, Report};

/// How long [`healthcheck`] waits for an answer.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    conditions: Vec<Report>,
}

/// The pages as a router.
pub fn router(readiness: Readiness, metrics: MetricsHandle) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(show_metrics).with_state(metrics))
}

/// Serves the pages until the future is dropped.
pub async fn serve(listener: TcpListener, readiness: Readiness, metrics: MetricsHandle) -> io::Result<()> {
    axum::serve(listener, router(readiness, metrics)).await
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let shown = Ready {
        ready: readiness.is_ready(),
        conditions: readiness.report(),
    };
    let status = if shown.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_string(&shown).unwrap_or_default();
    (status, [(CONTENT_TYPE, "application/json")], body)
}

async fn show_metrics(State(metrics): State<MetricsHandle>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics.render(),
    )
}

/// Asks the `/readyz` of a process of this machine; the error says why it is not ready.
///
/// It stands in for `curl` in images that have no shell.
pub fn healthcheck(admin: SocketAddr) -> Result<(), NotReady> {
    let address = SocketAddr::new(reachable(admin.ip()), admin.port());
    let mut stream = TcpStream::connect_timeout(&address, HEALTHCHECK_TIMEOUT)?;
    stream.set_read_timeout(Some(HEALTHCHECK_TIMEOUT))?;
    write!(
        stream,
        "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        Err(NotReady::Said(body.trim().to_owned()))
    }
}

/// Why [`healthcheck`] failed.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// Nobody answers on the admin port.
    #[error("the admin port does not answer: {0}")]
    NoAnswer(#[from] io::Error),
    /// The process answers that it is not ready.
    #[error("not ready: {0}")]
    Said(String),
}

/// A process that listens on all addresses is asked on loopback.
fn reachable(listening: IpAddr) -> IpAddr {
    match listening {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        given => given,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_health_check_follows_the_conditions_and_names_those_that_fail() {
        crate::metrics::install();
        let readiness = Readiness::new();
        let broker = readiness.condition("broker");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, readiness, crate::metrics::install()));
        let ask = || async move { tokio::task::spawn_blocking(move || healthcheck(address)).await.unwrap() };

        broker.set(false, "connection refused");
        let refused = ask().await.unwrap_err().to_string();
        assert!(
            refused.contains("broker") && refused.contains("connection refused"),
            "{refused}"
        );
        broker.set(true, "");
        ask().await.unwrap();
        assert!(
            crate::metrics::install()
                .render()
                .contains(r#"usher_ready{condition="broker"} 1"#)
        );
        server.abort();
    }

    #[test]
    fn the_health_check_says_when_nobody_listens() {
        assert!(matches!(
            healthcheck(([127, 0, 0, 1], 1).into()),
            Err(NotReady::NoAnswer(_))
        ));
    }
}
