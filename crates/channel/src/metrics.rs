//! The metrics of a worker.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The metrics of a worker. Clones share their values.
#[derive(Debug, Clone)]
pub(crate) struct WorkerMetrics {
    pub(crate) partitions: Gauge,
    pub(crate) rooms: Gauge,
    pub(crate) waiting_pushes: Gauge,
    pub(crate) events: Counter,
    /// Partitions that were claimed because their owner was dead.
    pub(crate) takeovers: Counter,
    /// Partitions that were handed over.
    pub(crate) moves: Counter,
    pub(crate) removed_rooms: Counter,
    pub(crate) removed_events: Counter,
    pub(crate) slow_rounds: Counter,
    pub(crate) rounds: Histogram,
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self {
            partitions: Gauge::default(),
            rooms: Gauge::default(),
            waiting_pushes: Gauge::default(),
            events: Counter::default(),
            takeovers: Counter::default(),
            moves: Counter::default(),
            removed_rooms: Counter::default(),
            removed_events: Counter::default(),
            slow_rounds: Counter::default(),
            // From 50 µs to a good second and a half.
            rounds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
        }
    }
}

impl WorkerMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("owned_partitions", "Partitions that this worker owns", self.partitions.clone());
        registry.register("live_rooms", "Rooms that this worker has in memory", self.rooms.clone());
        let pushes = "Pushes that are not in the push stream yet";
        registry.register("waiting_pushes", pushes, self.waiting_pushes.clone());
        registry.register("events", "Durable events that were stored and dispatched", self.events.clone());
        let takeovers = "Partitions that were claimed because their owner was dead";
        registry.register("takeovers", takeovers, self.takeovers.clone());
        registry.register("moves", "Partitions that were handed over to another worker", self.moves.clone());
        let removed = "Rooms that were deleted and of which the rest was removed";
        registry.register("removed_rooms", removed, self.removed_rooms.clone());
        registry.register("removed_events", "Events of rooms that were deleted", self.removed_events.clone());
        let slow = "Rounds that took longer than 50 ms and held up all rooms";
        registry.register("slow_rounds", slow, self.slow_rounds.clone());
        registry.register_with_unit("rounds", "Time of the executor's rounds", Unit::Seconds, self.rounds.clone());
    }
}
