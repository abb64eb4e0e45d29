//! What is settled: up to which time everything in a partition reached everybody, or was pushed.

use std::collections::HashMap;

use sendpi_model::{Millis, Partition};
use sendpi_store::Row;

use super::Executor;

impl Executor {
    /// Returns the records of up to when everything is settled, for each partition in which that is further than
    /// before: for one partition, or for all.
    pub(super) fn settled_rows(&mut self, which: Option<Partition>) -> Vec<Row> {
        let oldest = self.oldest_unsettled();
        let its = self.partitions.iter_mut().filter(|(partition, _)| which.is_none_or(|which| which == **partition));
        let further = its.filter_map(|(partition, owned)| {
            owned.settle(oldest.get(partition).copied()).map(|row| Row::Settled(*partition, row))
        });
        further.collect()
    }

    /// Writes down up to when everything is settled.
    pub(super) fn settle(&mut self) {
        let rows = self.settled_rows(None);
        if !rows.is_empty() {
            let store = self.context.store.clone();
            tokio::spawn(async move {
                // A record that is not written only means that more is dispatched again after a crash.
                if let Err(error) = store.write(rows).await {
                    tracing::warn!(%error, "cannot write down what is settled");
                }
            });
        }
    }

    /// The time of the oldest event of each partition that is on a link, was sent to a node that was given up, is
    /// pending as a push, or is in a batch under way.
    fn oldest_unsettled(&self) -> HashMap<Partition, Millis> {
        let mut oldest: HashMap<Partition, Millis> = HashMap::new();
        let mut note = |partition: Partition, at: Millis| {
            oldest.entry(partition).and_modify(|known| *known = at.min(*known)).or_insert(at);
        };
        self.links.oldest_unsettled(&mut note);
        self.given_up.iter().for_each(|given_up| given_up.oldest_unsettled(&mut note));
        for partition in self.partitions.keys() {
            if let Some(at) = self.pending.oldest(*partition) {
                note(*partition, at);
            }
        }
        // Events of a batch under way got their times before this moment.
        for entry in self.rooms.values().filter(|entry| entry.is_busy()) {
            if let Some(room) = &entry.room {
                for event in room.tail.from(room.dispatched + 1) {
                    note(entry.partition, event.head.at);
                }
            }
        }
        oldest
    }
}
