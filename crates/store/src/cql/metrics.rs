//! What operators are told of the statements: how long each took, how many tries failed, and how many rows were
//! written.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

type ByQuery<M, C> = Family<[(&'static str, &'static str); 1], M, C>;

/// The metrics of all statements. Clones share their values.
#[derive(Debug, Clone)]
pub(super) struct QueryMetrics {
    took: ByQuery<Histogram, fn() -> Histogram>,
    failed: ByQuery<Counter, fn() -> Counter>,
    rows: ByQuery<Counter, fn() -> Counter>,
}

impl Default for QueryMetrics {
    fn default() -> Self {
        // From a quarter of a millisecond to 8 s.
        let new: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let counter = || Family::new_with_constructor(Counter::default as fn() -> Counter);
        Self { took: Family::new_with_constructor(new), failed: counter(), rows: counter() }
    }
}

impl QueryMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let took = "Time of a try of a statement, by the statement's name";
        registry.register_with_unit("queries", took, Unit::Seconds, self.took.clone());
        let failed = "Tries of a statement that were not answered as done, by the statement's name";
        registry.register("failed_queries", failed, self.failed.clone());
        let rows = "Rows of the writes that were answered as done, by the statement's name";
        registry.register("written_rows", rows, self.rows.clone());
    }

    pub(super) fn note_rows(&self, name: &'static str, rows: usize) {
        self.rows.get_or_create(&[("query", name)]).inc_by(rows as u64);
    }

    pub(super) fn note(&self, name: &'static str, took: Duration, done: bool) {
        self.took.get_or_create(&[("query", name)]).observe(took.as_secs_f64());
        if !done {
            self.failed.get_or_create(&[("query", name)]).inc();
        }
    }
}
