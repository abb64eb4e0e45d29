//! The metrics of a push worker.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sendpi_bus::push_log::PushOutcome;

/// The label of what became of a push.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabel {
    outcome: String,
}

/// The metrics of a push worker. Clones share their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct PushMetrics {
    pub(crate) waiting: Gauge,
    settled: Family<OutcomeLabel, Counter>,
}

impl PushMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let waiting = "Users for whom a notification waits at this worker or is being posted";
        registry.register("waiting_notifications", waiting, self.waiting.clone());
        registry.register("notifications", "Notifications that were settled, by outcome", self.settled.clone());
    }

    /// Counts what became of a push.
    pub(crate) fn settled(&self, outcome: PushOutcome) {
        let outcome = serde_json::to_value(outcome).ok().and_then(|outcome| outcome.as_str().map(str::to_owned));
        self.settled.get_or_create(&OutcomeLabel { outcome: outcome.unwrap_or_default() }).inc();
    }
}
