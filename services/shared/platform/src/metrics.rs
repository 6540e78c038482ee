//! Metrics: code counts through the `metrics` macros, and `/metrics` shows them in Prometheus' text format.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of histograms named `…_seconds`: from a point read in memory to a mail server that takes its time.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Upper bounds of histograms named `…_size`, which count what went together.
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0];

/// How often histograms are folded, so that they do not grow while nobody looks.
const UPKEEP: Duration = Duration::from_secs(5);

static INSTALLED: OnceLock<MetricsHandle> = OnceLock::new();

/// What has been counted in this process.
#[derive(Debug, Clone)]
pub struct MetricsHandle(PrometheusHandle);

/// Starts counting. Every call answers the same handle.
pub fn install() -> MetricsHandle {
    INSTALLED
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
                .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".into()), &SIZES))
                .unwrap_or_else(|_| PrometheusBuilder::new())
                .build_recorder();
            let handle = MetricsHandle(recorder.handle());
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("metrics already go to another recorder, so /metrics stays empty");
            }
            handle
        })
        .clone()
}

impl MetricsHandle {
    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds histograms for as long as the process runs.
    pub(crate) async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_answers_the_same_metrics() {
        let (first, second) = (install(), install());
        metrics::counter!("usher_test_total").increment(3);
        metrics::histogram!("usher_test_seconds").record(0.004);
        metrics::histogram!("usher_test_size").record(200.0);
        assert!(first.render().contains("usher_test_total 3"));
        let shown = second.render();
        assert!(shown.contains(r#"usher_test_seconds_bucket{le="0.005"} 1"#), "{shown}");
        assert!(shown.contains(r#"usher_test_size_bucket{le="128"} 0"#), "{shown}");
        assert!(shown.contains(r#"usher_test_size_bucket{le="256"} 1"#), "{shown}");
    }
}
