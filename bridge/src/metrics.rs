//! What the bridge counts, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A gauge of seconds.
type Seconds = Gauge<f64, AtomicU64>;

/// A counter of seconds.
pub type CpuSeconds = Counter<f64, AtomicU64>;

/// Every metric of the process. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    received: Family<ResourceLabels, Counter>,
    skipped: Family<ResourceLabels, Counter>,
    reconnects: Family<ReconnectLabels, Counter>,
    gaps: Family<ResourceLabels, Counter>,
    backfill_requests: Family<ResourceLabels, Counter>,
    recovered: Family<ResourceLabels, Counter>,
    unrecovered: Family<ResourceLabels, Counter>,
    known: Family<ResourceLabels, Gauge>,
    routed: Family<SubscriptionLabels, Counter>,
    filtered: Family<SubscriptionLabels, Counter>,
    filter_failures: Family<SubscriptionLabels, Counter>,
    sent: Family<SubscriptionLabels, Counter>,
    acked: Family<SubscriptionLabels, Counter>,
    retried: Family<SubscriptionLabels, Counter>,
    rejected: Family<SubscriptionLabels, Counter>,
    dropped: Family<SubscriptionLabels, Counter>,
    dead_lettered: Family<SubscriptionLabels, Counter>,
    lag: Family<SubscriptionLabels, Gauge>,
    lag_seconds: Family<SubscriptionLabels, Seconds>,
    left_out: Family<SubscriptionLabels, Counter>,
    blocked: Family<SubscriptionLabels, Gauge>,
    unclassified: Gauge,
    journal_bytes: Gauge,
    /// Commits of the state that failed.
    pub state_failures: Counter,
    /// What the store takes of the CPU.
    pub state_cpu: CpuSeconds,
}

/// What is counted per Watch.
#[derive(Clone, Debug)]
pub struct WatchMetrics {
    /// Objects and deletions that came in.
    pub received: Counter,
    /// What could not be decoded.
    pub skipped: Counter,
    /// Stretches of history that were lost.
    pub gaps: Counter,
    /// Reads of single versions, to recover what lies in such a stretch.
    pub backfill_requests: Counter,
    /// Versions and deletions that were recovered.
    pub recovered: Counter,
    /// Objects of which something could not be recovered.
    pub unrecovered: Counter,
    /// Objects believed to exist.
    pub known: Gauge,
    reconnects: Family<ReconnectLabels, Counter>,
    resource: String,
}

/// What is counted per Subscription.
#[derive(Clone, Debug)]
pub struct DeliveryMetrics {
    /// Changes that the Subscription is told.
    pub routed: Counter,
    /// Changes of its members that its filters left out.
    pub filtered: Counter,
    /// Changes of which a filter could not say whether they are wanted.
    pub filter_failures: Counter,
    /// Attempts.
    pub sent: Counter,
    /// Settled by the broker's word.
    pub acked: Counter,
    /// Attempts that failed and are made again.
    pub retried: Counter,
    /// Events the broker will never take.
    pub rejected: Counter,
    /// Those of them that were left out.
    pub dropped: Counter,
    /// Those of them that the dead letters hold.
    pub dead_lettered: Counter,
    /// Changes decided and not settled.
    pub lag: Gauge,
    /// Age of the oldest of them, in seconds.
    pub lag_seconds: Seconds,
    /// Changes that were left out, because there was no room for them.
    pub left_out: Counter,
    /// Keys held back by a rejected Event.
    pub blocked: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconnectLabels {
    resource: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SubscriptionLabels {
    namespace: String,
    subscription: String,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tidings");
        let received = Family::default();
        registry.register("received", "Objects and deletions received from the API server", received.clone());
        let skipped = Family::default();
        registry.register("skipped", "Objects that could not be decoded and were not told", skipped.clone());
        let reconnects = Family::default();
        registry.register(
            "reconnects",
            "Streams from the API server that ended, by reason",
            reconnects.clone(),
        );
        let gaps = Family::default();
        registry.register("gaps", "Stretches of history that were lost and reconciled", gaps.clone());
        let backfill_requests = Family::default();
        registry.register(
            "backfill_requests",
            "Reads of single versions, to recover what was lost",
            backfill_requests.clone(),
        );
        let recovered = Family::default();
        registry.register(
            "recovered",
            "Versions and deletions recovered from lost history",
            recovered.clone(),
        );
        let unrecovered = Family::default();
        registry.register(
            "unrecovered_objects",
            "Objects of which not every version was recovered from lost history, and that are marked",
            unrecovered.clone(),
        );
        let known = Family::default();
        registry.register("known_objects", "Objects believed to exist", known.clone());
        let routed = Family::default();
        registry.register("routed", "Changes selected by the Subscription", routed.clone());
        let filtered = Family::default();
        registry.register("filtered", "Changes that filters of the Subscription left out", filtered.clone());
        let filter_failures = Family::default();
        registry.register(
            "filter_failures",
            "Changes that were told because a filter could not say whether they are wanted",
            filter_failures.clone(),
        );
        let sent = Family::default();
        registry.register("sent", "Attempts to deliver an Event", sent.clone());
        let acked = Family::default();
        registry.register("acked", "Events the broker said it holds", acked.clone());
        let retried = Family::default();
        registry.register("retried", "Attempts that failed and are made again", retried.clone());
        let rejected = Family::default();
        registry.register(
            "rejected",
            "Events the broker refused for good, or that were given up",
            rejected.clone(),
        );
        let dropped = Family::default();
        registry.register("dropped", "Rejected Events that were left out (onReject: Drop)", dropped.clone());
        let dead_lettered = Family::default();
        registry.register(
            "dead_lettered",
            "Rejected Events that the dead letters hold (onReject: DeadLetter)",
            dead_lettered.clone(),
        );
        let lag = Family::default();
        registry.register("lag_changes", "Changes decided and not yet settled", lag.clone());
        let lag_seconds = Family::<SubscriptionLabels, Seconds>::default();
        registry.register_with_unit(
            "lag",
            "Age of the oldest Change that is not settled",
            Unit::Seconds,
            lag_seconds.clone(),
        );
        let left_out = Family::default();
        registry.register(
            "left_out",
            "Changes left out of a backlog that was over its quota; newer versions of their objects are told",
            left_out.clone(),
        );
        let blocked = Family::default();
        registry.register("blocked_keys", "Keys held back by a rejected Event", blocked.clone());
        let unclassified = Gauge::default();
        registry.register(
            "unclassified_errors",
            "Errors of brokers' clients that were retried only because their meaning is not known",
            unclassified.clone(),
        );
        let journal_bytes = Gauge::default();
        registry.register_with_unit(
            "journal_memory",
            "Memory that Changes take that are neither settled nor stored",
            Unit::Bytes,
            journal_bytes.clone(),
        );
        let state_failures = Counter::default();
        registry.register(
            "state_failures",
            "Attempts to store the state that failed and are made again",
            state_failures.clone(),
        );
        let state_cpu = CpuSeconds::default();
        registry.register_with_unit(
            "state_cpu",
            "CPU time spent in the state store",
            Unit::Seconds,
            state_cpu.clone(),
        );
        Self {
            journal_bytes,
            state_failures,
            state_cpu,
            unclassified,
            registry: Arc::new(registry),
            received,
            skipped,
            reconnects,
            gaps,
            backfill_requests,
            recovered,
            unrecovered,
            known,
            routed,
            filtered,
            filter_failures,
            sent,
            acked,
            retried,
            rejected,
            dropped,
            dead_lettered,
            lag,
            lag_seconds,
            left_out,
            blocked,
        }
    }
}

impl Metrics {
    /// How much memory the Journal takes.
    pub fn journal_memory(&self, bytes: usize) {
        self.journal_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// The handles for one Watch, called as `todos.v1.k8sasbackend.com`.
    pub fn watch(&self, resource: &str) -> WatchMetrics {
        let labels = ResourceLabels { resource: resource.to_owned() };
        WatchMetrics {
            received: self.received.get_or_create(&labels).clone(),
            skipped: self.skipped.get_or_create(&labels).clone(),
            gaps: self.gaps.get_or_create(&labels).clone(),
            backfill_requests: self.backfill_requests.get_or_create(&labels).clone(),
            recovered: self.recovered.get_or_create(&labels).clone(),
            unrecovered: self.unrecovered.get_or_create(&labels).clone(),
            known: self.known.get_or_create(&labels).clone(),
            reconnects: self.reconnects.clone(),
            resource: labels.resource,
        }
    }

    /// The handles for one Subscription, called as `namespace/name`.
    pub fn delivery(&self, subscription: &str) -> DeliveryMetrics {
        let labels = SubscriptionLabels::of(subscription);
        DeliveryMetrics {
            routed: self.routed.get_or_create(&labels).clone(),
            filtered: self.filtered.get_or_create(&labels).clone(),
            filter_failures: self.filter_failures.get_or_create(&labels).clone(),
            sent: self.sent.get_or_create(&labels).clone(),
            acked: self.acked.get_or_create(&labels).clone(),
            retried: self.retried.get_or_create(&labels).clone(),
            rejected: self.rejected.get_or_create(&labels).clone(),
            dropped: self.dropped.get_or_create(&labels).clone(),
            dead_lettered: self.dead_lettered.get_or_create(&labels).clone(),
            lag: self.lag.get_or_create(&labels).clone(),
            lag_seconds: self.lag_seconds.get_or_create(&labels).clone(),
            left_out: self.left_out.get_or_create(&labels).clone(),
            blocked: self.blocked.get_or_create(&labels).clone(),
        }
    }

    /// Forgets a Subscription that is gone, so that it does not show a lag for ever.
    pub fn forget(&self, subscription: &str) {
        let labels = SubscriptionLabels::of(subscription);
        for family in [
            &self.routed,
            &self.filtered,
            &self.filter_failures,
            &self.sent,
            &self.acked,
            &self.retried,
            &self.rejected,
            &self.dropped,
            &self.dead_lettered,
            &self.left_out,
        ] {
            family.remove(&labels);
        }
        self.lag.remove(&labels);
        self.blocked.remove(&labels);
        self.lag_seconds.remove(&labels);
    }

    /// The text Prometheus reads.
    pub fn render(&self) -> String {
        let unclassified = tidings_sinks::sink::unclassified_errors();
        self.unclassified.set(i64::try_from(unclassified).unwrap_or(i64::MAX));
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            // Writing to a String does not fail.
            Err(std::fmt::Error) => String::new(),
        }
    }
}

impl WatchMetrics {
    /// A stream ended for this reason.
    pub fn reconnect(&self, reason: &'static str) {
        self.reconnects.get_or_create(&ReconnectLabels { resource: self.resource.clone(), reason }).inc();
    }
}

impl SubscriptionLabels {
    fn of(subscription: &str) -> Self {
        let (namespace, name) = subscription.split_once('/').unwrap_or(("", subscription));
        Self { namespace: namespace.to_owned(), subscription: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_text_and_a_forgotten_subscription_is_not_shown() {
        let metrics = Metrics::default();
        metrics.watch("todos.v1.k8sasbackend.com").reconnect("expired");
        metrics.delivery("shop/orders").acked.inc();
        let text = metrics.render();
        assert!(text.contains(r#"tidings_acked_total{namespace="shop",subscription="orders"} 1"#), "{text}");
        assert!(text.contains(r#"reason="expired"} 1"#), "{text}");
        assert_eq!(text.matches("# HELP").count(), 25, "{text}");
        metrics.forget("shop/orders");
        assert!(!metrics.render().contains("shop"));
    }
}
