//! K5: what a collector receives, and what a server sees of a client's call.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument;
use usher_platform::config::{LogConfig, LogFormat, TelemetryConfig};
use usher_platform::grpc::{self, ClientOptions};
use usher_platform::telemetry;

/// Keeps everything that it is sent.
#[derive(Clone, Default)]
struct Collector {
    traces: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    logs: Arc<Mutex<Vec<(MetadataMap, ExportLogsServiceRequest)>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.traces.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        self.logs.lock().unwrap().push((metadata, body));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

async fn collector() -> (Collector, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    (collector, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_its_client_span_and_its_log_lines_share_one_trace() {
    let (collector, url) = collector().await;
    let log = LogConfig {
        level: "debug".into(),
        format: LogFormat::Human,
    };
    let to_it = TelemetryConfig {
        otlp_endpoint: url.clone(),
        service_instance: "one".into(),
        sample_ratio: 1.0,
    };
    let telemetry = telemetry::init("usher-test", &log, &to_it).unwrap();

    let options = ClientOptions {
        deadline: Some(Duration::from_millis(1500)),
        ..ClientOptions::default()
    };
    let mut client = LogsServiceClient::new(grpc::channel(&url, &options).unwrap());
    let work = async {
        tracing::info!("calling");
        client.export(ExportLogsServiceRequest::default()).await.unwrap();
    };
    work.instrument(tracing::info_span!("job.example", user_id = "u1"))
        .await;
    let seen = collector.logs.lock().unwrap().remove(0).0;
    telemetry.flush().await;

    let traces = collector.traces.lock().unwrap();
    let resources: Vec<_> = traces.iter().flat_map(|export| &export.resource_spans).collect();
    let service = &resources[0].resource.as_ref().unwrap().attributes;
    assert!(
        service
            .iter()
            .any(|a| a.key == "service.name" && format!("{:?}", a.value).contains("usher-test"))
    );
    let spans: Vec<_> = resources
        .iter()
        .flat_map(|r| &r.scope_spans)
        .flat_map(|s| &s.spans)
        .collect();
    let job = spans.iter().find(|span| span.name == "job.example").unwrap();
    let call = spans
        .iter()
        .find(|span| span.name.ends_with("LogsService/Export"))
        .unwrap();
    assert_eq!((&call.trace_id, &call.parent_span_id), (&job.trace_id, &job.span_id));
    assert_eq!(
        spans.len(),
        2,
        "nothing of what carries the telemetry is recorded: {spans:#?}"
    );

    let trace_id = TraceId::from_bytes(call.trace_id.as_slice().try_into().unwrap());
    let span_id = SpanId::from_bytes(call.span_id.as_slice().try_into().unwrap());
    let expected = format!("00-{trace_id}-{span_id}-01");
    assert_eq!(
        seen.get("traceparent").unwrap(),
        expected.as_str(),
        "the server continues the client's span"
    );
    assert_eq!(seen.get("grpc-timeout").unwrap(), "1500m");

    let logs = collector.logs.lock().unwrap();
    let records = logs
        .iter()
        .flat_map(|(_, export)| &export.resource_logs)
        .flat_map(|r| &r.scope_logs);
    let line = records
        .flat_map(|s| &s.log_records)
        .find(|r| format!("{:?}", r.body).contains("calling"))
        .unwrap();
    assert_eq!((&line.trace_id, &line.span_id), (&job.trace_id, &job.span_id));
}

#[test]
fn a_url_that_no_client_can_use_is_named() {
    let refused = grpc::channel("not a url", &ClientOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("not a url") && refused.contains("http://identity:50051"),
        "{refused}"
    );
}
