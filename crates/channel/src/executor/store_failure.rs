//! A store that failed: what goes on while it is closed, and what is claimed anew once it is open again.
//!
//! | the store | requests | typing, links | jobs |
//! |---|---|---|---|
//! | is up | are served | go on | are started |
//! | is closed | are refused | go on in the channels that were active | none is started; those under way end |
//! | is open again | are refused | the same | once none is under way, all partitions are claimed anew |
//!
//! A claim has a higher epoch, because what was under way when the store failed is unknown. The rooms in memory are
//! forgotten, and what is not settled is dispatched again, as after a crash.

use std::collections::BTreeSet;

use sendpi_model::{NodeId, Partition, Refusal};

use super::Executor;

/// The answer to requests while the store is closed.
pub(super) fn refusal() -> Refusal {
    Refusal::unavailable("the store is closed until its disk can be written again", 1000)
}

impl Executor {
    /// Returns whether rooms may ask the store for anything. They may not from when it failed until their partitions
    /// are claimed anew.
    pub(super) fn store_serves(&self) -> bool {
        let health = *self.health.borrow();
        health.is_up && health.failures == self.failures
    }

    /// Handles that the store failed or was opened again. Also called at each tick, because jobs under way when the
    /// store is open again must end first.
    pub(super) async fn store_changed(&mut self) {
        let health = *self.health.borrow();
        if health.failures == self.failures {
            return;
        }
        if !health.is_up && !self.store_closed {
            self.store_closed = true;
            tracing::error!(
                "the store failed: requests are refused until it is open again; typing and live sessions go on"
            );
        }
        // What is under way would find a higher epoch, and take that for another worker's.
        if health.is_up && self.tenured_jobs == 0 {
            (self.store_closed, self.failures) = (false, health.failures);
            self.claim_anew().await;
        }
    }

    /// Forgets all rooms, and claims the partitions again. Flows resend what was not answered.
    async fn claim_anew(&mut self) {
        tracing::warn!(partitions = self.partitions.len(), "the store is open again: all partitions are claimed anew");
        self.unsubscribe_requests().await;
        let mut refused: BTreeSet<(Partition, NodeId)> = BTreeSet::new();
        for (_, mut entry) in std::mem::take(&mut self.rooms) {
            if let Some(room) = entry.close() {
                self.links.end_audience(&room);
            }
            // A bounce of the worker's own is of events that are not settled, and are dispatched again.
            refused.extend(entry.queue.into_iter().filter_map(|waiting| waiting.to).map(|to| (to.partition, to.node)));
        }
        self.ready.clear();
        self.slowed.clear();
        self.recovered.clear();
        self.postponed.clear();
        for (partition, _) in std::mem::take(&mut self.partitions) {
            self.pending.forget(partition);
            self.pushes.forget(partition);
            refused.extend(self.reads.forget(partition).into_iter().map(|node| (partition, node)));
        }
        for (partition, node) in refused {
            self.refuse_flow(&node, partition).await;
        }
        self.claim_rightful();
    }
}
