//! Trace context across process boundaries, in the W3C form `00-<trace id>-<span id>-<flags>`.
//!
//! A request carries it in metadata; an outbox row and a message carry it as text. Work that a message causes for the
//! first time continues the trace ([`set_remote_parent`]); work on a redelivered message links to it
//! ([`link_remote`]), since continuing it twice would make one trace out of two runs.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::MetadataMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

/// The current span as text, or empty outside of any trace.
pub fn current_trace_parent() -> String {
    let mut carrier = One(String::new());
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.0
}

/// Makes `span` a child of the span that `traceparent` names. Call it before the span is entered.
///
/// A text that is empty or not a trace parent changes nothing.
pub fn set_remote_parent(span: &Span, traceparent: &str) {
    set_parent(span, parse(traceparent));
}

/// Makes `span` a child of what [`extract`] found. Call it before the span is entered.
pub fn set_parent(span: &Span, parent: Context) {
    if parent.span().span_context().is_valid() {
        // It fails when no traces are taken, or when the span's level is filtered out: nothing is lost then.
        let _ = span.set_parent(parent);
    }
}

/// Notes on `span` that it has to do with the span that `traceparent` names, without continuing that trace.
pub fn link_remote(span: &Span, traceparent: &str) {
    let linked = parse(traceparent);
    if linked.span().span_context().is_valid() {
        span.add_link(linked.span().span_context().clone());
    }
}

/// Whether the trace that `traceparent` belongs to is recorded: whether a span in it is worth its cost.
pub fn is_recorded(traceparent: &str) -> bool {
    let flags = traceparent.rsplit('-').next().unwrap_or_default();
    u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)
}

/// [`is_recorded`] for the trace of a span.
pub fn is_span_recorded(span: &Span) -> bool {
    span.context().span().span_context().is_sampled()
}

/// Writes the current span into a request's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    let parent = current_trace_parent();
    if let Ok(value) = parent.parse()
        && !parent.is_empty()
    {
        metadata.insert(TRACEPARENT, value);
    }
}

/// Writes a span into HTTP headers.
pub(crate) fn inject_span(span: &Span, headers: &mut http::HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Headers(headers));
}

/// Reads the caller's span from HTTP headers; see [`set_parent`].
pub fn extract(headers: &http::HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeadersRead(headers))
}

fn parse(traceparent: &str) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent.to_owned()))
}

/// A carrier of nothing but the trace parent.
struct One(String);

impl Injector for One {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = value;
        }
    }
}

impl Extractor for One {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Headers<'a>(&'a mut http::HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(name, value);
        }
    }
}

struct HeadersRead<'a>(&'a http::HeaderMap);

impl Extractor for HeadersRead<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
