//! What was seen of the fleet over the last minutes: events a second, and partitions that changed hands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sendpi_bus::lease::Lease;
use sendpi_model::{Millis, NodeId, Partition};
use serde::Serialize;

use super::CtlError;
use super::fleet_view::FleetView;

/// How many looks are kept for charts.
pub(super) const LOOKS: usize = 300;
/// How many changes of owners are kept.
const CHANGES: usize = 200;

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct FleetHistory {
    /// What was seen last.
    pub(super) view: Option<Arc<FleetView>>,
    /// Why the last look failed, if it did.
    pub(super) failure: Option<String>,
    /// Events a second, by look, the newest last.
    pub(super) events: VecDeque<u64>,
    /// The same of each worker that lives.
    pub(super) events_of: BTreeMap<NodeId, VecDeque<u64>>,
    /// The lease of each partition when it was last seen.
    leases: BTreeMap<Partition, Lease>,
    /// Partitions that changed hands, the newest first.
    pub(super) changes: VecDeque<OwnerChange>,
}

/// A partition that changed hands.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct OwnerChange {
    /// When that was seen.
    pub(super) at: Millis,
    pub(super) partition: Partition,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) epoch: u64,
    /// The former owner does not answer any more.
    pub(super) is_gone: bool,
}

impl FleetHistory {
    /// Notes what a look showed.
    pub(super) fn look(&mut self, view: Result<FleetView, CtlError>) {
        let view = match view {
            Ok(view) => view,
            Err(error) => return self.failure = Some(error.to_string()),
        };
        self.failure = None;
        for (partition, lease) in view.leases() {
            let before = self.leases.insert(*partition, lease.clone());
            let Some(before) = before.filter(|before| before.owner != lease.owner) else { continue };
            let is_gone = !view.answers(&before.owner);
            let (at, partition, from, to) = (Millis::now(), *partition, before.owner, lease.owner.clone());
            self.changes.push_front(OwnerChange { at, partition, from, to, epoch: lease.epoch, is_gone });
        }
        self.changes.truncate(CHANGES);
        note(&mut self.events, view.events());
        self.events_of.retain(|node, _| view.is_live(node));
        for (node, events) in view.events_by_worker() {
            note(self.events_of.entry(node.clone()).or_default(), events);
        }
        self.view = Some(Arc::new(view));
    }

    /// Returns how many partitions were seen.
    pub(super) fn partition_count(&self) -> usize {
        self.leases.len()
    }
}

fn note(looks: &mut VecDeque<u64>, events: f64) {
    looks.push_back(events.round() as u64);
    while looks.len() > LOOKS {
        looks.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_hands_is_noted() {
        let mut history = FleetHistory::default();
        history.look(Ok(FleetView::of(&["a?", "b"], &[("a", 1), ("b", 1)])));
        assert!(history.changes.is_empty());
        history.look(Ok(FleetView::of(&["b"], &[("b", 2), ("b", 1)])));
        let id = |name: &str| NodeId::parse(name).unwrap();
        let [change] = history.changes.make_contiguous() else { panic!("{:?}", history.changes) };
        let wanted =
            OwnerChange { at: change.at, partition: Partition(0), from: id("a"), to: id("b"), epoch: 2, is_gone: true };
        assert_eq!(*change, wanted);
        assert_eq!(history.partition_count(), 2);
    }

    #[test]
    fn no_more_looks_are_kept_than_are_shown_and_none_of_who_is_gone() {
        let mut history = FleetHistory::default();
        history.look(Ok(FleetView::of(&["a", "b"], &[("a", 1)])));
        assert_eq!(history.events_of.len(), 2);
        for _ in 0..2 * LOOKS {
            history.look(Ok(FleetView::of(&["a"], &[("a", 1)])));
        }
        assert_eq!((history.events.len(), history.events_of.len()), (LOOKS, 1));
        assert!(history.events_of.values().all(|looks| looks.len() == LOOKS));
    }

    #[test]
    fn what_was_seen_stays_when_a_look_fails() {
        let mut history = FleetHistory::default();
        history.look(Ok(FleetView::of(&["a"], &[("a", 1)])));
        history.look(Err(CtlError::NoNodes));
        assert!(history.failure.as_ref().is_some_and(|why| why.contains("no node")));
        assert!(history.view.is_some());
    }
}
