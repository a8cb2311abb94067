//! What the webhook counts, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// Every metric of the process. Cheap to clone; all clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
    /// Connections that stand.
    pub(crate) connections: Gauge,
    /// Handshakes of TLS that failed.
    pub(crate) handshake_failures: Counter,
    access: Family<AccessLabels, Counter>,
    expiry: Family<ExpiryLabels, Seconds>,
    repairs: Family<RepairLabels, Counter>,
    /// Looks at whether the API server can reach the webhook that found that it cannot.
    pub(crate) probe_failures: Counter,
    fail: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    operation: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AccessLabels {
    answer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ExpiryLabels {
    certificate: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RepairLabels {
    field: &'static str,
}

/// In seconds: most are answered within a few milliseconds, and none may take more than five seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0];

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidings_webhook");
        let requests = Family::default();
        registry.register("requests", "Requests of the API server, by what became of them", requests.clone());
        let duration = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "duration",
            "Time to answer the API server",
            Unit::Seconds,
            duration.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Connections that stand", connections.clone());
        let handshake_failures = Counter::default();
        registry.register(
            "handshake_failures",
            "Connections on which no TLS came to be",
            handshake_failures.clone(),
        );
        let access = Family::default();
        registry.register(
            "access_reviews",
            "Questions whether somebody may read something, by the answer",
            access.clone(),
        );
        let expiry = Family::<ExpiryLabels, Seconds>::default();
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When a certificate ends, since 1970: the serving one, and the newest authority",
            Unit::Seconds,
            expiry.clone(),
        );
        let repairs = Family::default();
        registry.register(
            "configuration_repairs",
            "Writes of the ValidatingWebhookConfiguration, by the field that was not as it has to be",
            repairs.clone(),
        );
        let probe_failures = Counter::default();
        registry.register(
            "probe_failures",
            "Looks at whether the webhook can be reached that found that it cannot",
            probe_failures.clone(),
        );
        let fail = Gauge::default();
        registry.register(
            "failure_policy_fail",
            "Whether the API server refuses what the webhook cannot be asked about",
            fail.clone(),
        );
        let registry = Arc::new(registry);
        Self {
            registry,
            requests,
            duration,
            connections,
            handshake_failures,
            access,
            expiry,
            repairs,
            probe_failures,
            fail,
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn request(
        &self,
        kind: &'static str,
        operation: &'static str,
        verdict: &'static str,
        took: Duration,
    ) {
        self.requests.get_or_create(&RequestLabels { kind, operation, verdict }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// It was asked whether somebody may do something, or that was known.
    pub(crate) fn access(&self, answer: &'static str) {
        self.access.get_or_create(&AccessLabels { answer }).inc();
    }

    /// A certificate ends then.
    #[allow(clippy::cast_precision_loss, reason = "exact for the next 200 million years")]
    pub(crate) fn expiry(&self, certificate: &'static str, unix_seconds: u64) {
        self.expiry.get_or_create(&ExpiryLabels { certificate }).set(unix_seconds as f64);
    }

    /// This was not as it has to be.
    pub(crate) fn repair(&self, field: &'static str) {
        self.repairs.get_or_create(&RepairLabels { field }).inc();
    }

    /// What the configuration says.
    pub(crate) fn failure_policy(&self, fail: bool) {
        self.fail.set(i64::from(fail));
    }

    /// The text Prometheus reads.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_text() {
        let metrics = Metrics::default();
        metrics.request("Subscription", "CREATE", "invalid", Duration::from_millis(1));
        metrics.access("allowed");
        metrics.expiry("serving", 1_800_000_000);
        metrics.repair("caBundle");
        let text = metrics.render();
        assert!(
            text.contains(
                r#"tidings_webhook_requests_total{kind="Subscription",operation="CREATE",verdict="invalid"} 1"#
            ),
            "{text}"
        );
        let expiry =
            r#"tidings_webhook_certificate_expiry_timestamp_seconds{certificate="serving"} 1800000000"#;
        assert!(text.contains(expiry), "{text}");
        assert_eq!(text.matches("# HELP").count(), 9, "{text}");
    }
}
