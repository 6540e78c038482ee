//! Traces and logs of a process, without a collector and with one.

use tracing::Instrument;
use usher_platform::config::{LogConfig, LogFormat, TelemetryConfig};
use usher_platform::{telemetry, trace};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// K5: one process hands a trace on, also when it sends nothing anywhere itself.
#[tokio::test]
async fn a_trace_passes_through_a_process_that_has_no_collector() {
    let log = LogConfig {
        level: "info".into(),
        format: LogFormat::Json,
    };
    let nowhere = TelemetryConfig {
        otlp_endpoint: String::new(),
        service_instance: String::new(),
        sample_ratio: 1.0,
    };
    let opened = telemetry::init("test", &log, &nowhere).unwrap();
    // A second component of the same process may open it too.
    telemetry::init("test", &log, &nowhere).unwrap().flush().await;

    assert_eq!(trace::current_trace_parent(), "");
    let span = tracing::info_span!("job.example");
    trace::set_remote_parent(&span, CALLER);
    let passed_on = async {
        tracing::info!("inside");
        trace::current_trace_parent()
    };
    let passed_on = passed_on.instrument(span).await;
    assert!(
        passed_on.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && passed_on.ends_with("-01"),
        "{passed_on}"
    );
    assert_ne!(passed_on, CALLER);

    let own = tracing::info_span!("job.own");
    trace::set_remote_parent(&own, "not a trace parent");
    trace::link_remote(&own, CALLER);
    let own = async { trace::current_trace_parent() }.instrument(own).await;
    assert!(
        !own.is_empty() && !own.contains("0af7651916cd43dd8448eb211c80319c"),
        "{own}"
    );

    let mut headers = http::HeaderMap::new();
    headers.insert("traceparent", CALLER.parse().unwrap());
    let served = tracing::info_span!("rpc.example");
    trace::set_parent(&served, trace::extract(&headers));
    let mut metadata = tonic::metadata::MetadataMap::new();
    served.in_scope(|| trace::inject(&mut metadata));
    assert!(
        metadata
            .get("traceparent")
            .unwrap()
            .to_str()
            .unwrap()
            .contains("0af7651916cd43dd8448eb211c80319c")
    );
    opened.flush().await;
}
