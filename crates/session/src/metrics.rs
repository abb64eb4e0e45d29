//! The metrics of the user tier, read when they are asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::handle::UserTier;

/// Reads the metrics of a user tier.
#[derive(Debug)]
struct UserTierMetrics(UserTier);

impl Collector for UserTierMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let node = self.0.context();
        let (sessions, users, unconfirmed) = {
            let state = node.state.lock();
            (state.sessions(), state.users_here(), state.unconfirmed_events())
        };
        let unanswered = node.flows.lock().unanswered();
        for (name, help, value) in [
            ("sessions", "Open sessions of this node, signed in or not.", sessions),
            ("users", "Users with a session on this node.", users),
            ("unconfirmed_events", "Events that not every session has confirmed.", unconfirmed),
            ("unanswered_requests", "Requests to rooms that are not answered yet.", unanswered),
        ] {
            let gauge = ConstGauge::new(value as i64);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

impl UserTier {
    /// Registers the metrics of the user tier.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(UserTierMetrics(self.clone())));
    }

    /// Returns what the node lacks to serve clients, as sentences. Empty if it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let node = self.context();
        let up = [
            (node.bus.connection().borrow().up, "there is no connection to NATS"),
            (node.store.health().borrow().is_up, "the store is closed"),
            (!node.state.lock().is_draining(), "the node is being drained"),
        ];
        up.into_iter().filter(|(is_up, _)| !is_up).map(|(_, what)| what).collect()
    }
}
