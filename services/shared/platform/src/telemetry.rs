//! Logs on standard error, and traces and logs to an OTLP collector when one is configured.
//!
//! Traces are taken in either case, so that log lines carry a trace id and a caller's trace goes on through this
//! process; without a collector, only those that a caller records cost more than their ids. What `log.level` says is
//! about log lines: a process that logs nothing but errors still takes its part in every trace.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{ExporterBuildError, LogExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn, ParseError};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogConfig, LogFormat, TelemetryConfig};

/// How long the last spans and logs may take to leave.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// What carries the telemetry itself. Recording it would make each export cause another.
const CARRIERS: [&str; 6] = ["h2", "hyper", "hyper_util", "tonic", "tower", "opentelemetry"];

/// What says little at `debug`, and much of it: quiet unless `log.level` names it.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,tower=info,opentelemetry=info";

/// Keeps telemetry open; [`Telemetry::flush`] it before the process ends.
#[derive(Debug)]
#[must_use = "what was recorded last is lost unless it is flushed"]
pub struct Telemetry {
    traces: SdkTracerProvider,
    logs: Option<SdkLoggerProvider>,
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `log.level` cannot be understood.
    #[error("log.level: {0}")]
    Level(#[from] ParseError),
    /// The exporter refuses its settings.
    #[error("telemetry.otlp_endpoint: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// Opens telemetry for the whole process. Call it once, in the binary, inside a tokio runtime.
///
/// When another subscriber is in place already (a test's, say), that one stays.
pub fn init(service: &str, log: &LogConfig, telemetry: &TelemetryConfig) -> Result<Telemetry, TelemetryError> {
    let level = || EnvFilter::builder().parse(format!("{QUIET},{}", log.level));
    let resource = resource(service, &telemetry.service_instance);
    let endpoint = Some(telemetry.otlp_endpoint.as_str()).filter(|endpoint| !endpoint.is_empty());

    let mut traces = SdkTracerProvider::builder().with_resource(resource.clone());
    let mut logs = None;
    if let Some(endpoint) = endpoint {
        let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let records = LogExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
        let root = Sampler::TraceIdRatioBased(telemetry.sample_ratio);
        traces = traces
            .with_batch_exporter(spans)
            .with_sampler(Sampler::ParentBased(Box::new(root)));
        logs = Some(
            SdkLoggerProvider::builder()
                .with_resource(resource)
                .with_batch_exporter(records)
                .build(),
        );
    } else {
        traces = traces.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
    }
    let traces = traces.build();

    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Human => {
            let colour = std::io::stderr().is_terminal();
            lines
                .event_format(tracing_subscriber::fmt::format().compact())
                .with_ansi(colour)
                .boxed()
        }
        LogFormat::Json => lines.fmt_fields(JsonFields::new()).event_format(Traced::new()).boxed(),
    };
    let records = logs.as_ref().map(OpenTelemetryTracingBridge::new);
    let records = records.map(|records| Ok::<_, ParseError>(records.with_filter(level()?.and(FilterFn::new(is_own)))));
    let spans = FilterFn::new(|metadata| is_own(metadata) && *metadata.level() <= Level::INFO);
    let subscriber = tracing_subscriber::registry()
        .with(
            tracing_opentelemetry::layer()
                .with_tracer(traces.tracer("usher"))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(spans.with_max_level_hint(Level::INFO)),
        )
        .with(records.transpose()?)
        .with(lines.with_filter(level()?));
    // Fails only when another subscriber is in place, which then stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(Telemetry { traces, logs })
}

impl Telemetry {
    /// Sends what is left, for at most five seconds, and closes. Off the runtime's threads, because a collector that
    /// hangs would otherwise hang the process.
    pub async fn flush(self) {
        let closing = tokio::task::spawn_blocking(move || {
            // A collector that cannot be reached has been logged by the exporter; there is nothing more to do here.
            let _ = self.traces.shutdown_with_timeout(FLUSH_TIMEOUT / 2);
            let _ = self.logs.map(|logs| logs.shutdown_with_timeout(FLUSH_TIMEOUT / 2));
        });
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, closing).await;
    }
}

fn resource(service: &str, instance: &str) -> Resource {
    let instance = if instance.is_empty() {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    } else {
        instance.to_owned()
    };
    Resource::builder()
        .with_service_name(service.to_owned())
        .with_attributes([
            KeyValue::new("service.namespace", "usher"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

fn is_own(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    !CARRIERS
        .iter()
        .any(|carrier| root == *carrier || root.starts_with("opentelemetry"))
}

/// JSON lines that begin with the ids of the trace and span they were written in.
struct Traced(Format<Json>);

impl Traced {
    fn new() -> Self {
        Self(
            tracing_subscriber::fmt::format()
                .json()
                .flatten_event(true)
                .with_span_list(false),
        )
    }
}

impl<S> FormatEvent<S, JsonFields> for Traced
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    for<'a> JsonFields: FormatFields<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let ids = Context::map_current(|current| {
            let span = current.span().span_context().clone();
            span.is_valid()
                .then(|| format!(r#""trace_id":"{}","span_id":"{}","#, span.trace_id(), span.span_id()))
        });
        let Some(ids) = ids else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let rest = line.strip_prefix('{').unwrap_or(&line);
        write!(writer, "{{{ids}{rest}")
    }
}
