//! An OTLP collector that keeps what it is sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span and the process that sent it.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) process: String,
    pub(super) span: Span,
}

impl Recorded {
    /// An attribute as text.
    pub(super) fn attribute(&self, key: &str) -> String {
        text(&self.span.attributes, key)
    }
}

/// A log line and the process that sent it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) process: String,
    pub(super) trace: String,
    pub(super) text: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Collector {
    spans: Arc<Mutex<Vec<Recorded>>>,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Collector {
    /// Starts one; with it comes its URL. It ends with the test's runtime.
    pub(super) async fn start() -> Result<(Self, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let collector = Self::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Ok((collector, url))
    }

    /// The spans of one trace so far.
    pub(super) fn trace(&self, id: &str) -> Vec<Recorded> {
        self.spans(|recorded| hex(&recorded.span.trace_id) == id)
    }

    /// The spans of other traces that link to this one.
    pub(super) fn linked_to(&self, id: &str) -> Vec<Recorded> {
        self.spans(|recorded| recorded.span.links.iter().any(|link| hex(&link.trace_id) == id))
    }

    /// The log lines of one trace so far.
    pub(super) fn lines(&self, trace: &str) -> Vec<Line> {
        lock(&self.lines)
            .iter()
            .filter(|line| line.trace == trace)
            .cloned()
            .collect()
    }

    fn spans(&self, wanted: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
        lock(&self.spans)
            .iter()
            .filter(|recorded| wanted(recorded))
            .cloned()
            .collect()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let process = process(resource.resource.as_ref());
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            lock(&self.spans).extend(spans.map(|span| Recorded {
                process: process.clone(),
                span,
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        for resource in request.into_inner().resource_logs {
            let process = process(resource.resource.as_ref());
            let records = resource.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            lock(&self.lines).extend(records.map(|record| Line {
                process: process.clone(),
                trace: hex(&record.trace_id),
                text: shown(record.body.as_ref()),
            }));
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// An id as it is written in a trace parent.
pub(super) fn hex(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    octets.concat()
}

fn process(resource: Option<&Resource>) -> String {
    resource.map_or(String::new(), |resource| text(&resource.attributes, "service.name"))
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let attribute = attributes.iter().find(|attribute| attribute.key == key);
    shown(attribute.and_then(|attribute| attribute.value.as_ref()))
}

fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
