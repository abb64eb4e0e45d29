//! A partition that this worker owns.

use std::collections::{HashMap, HashSet};

use sendpi_bus::lease::Lease;
use sendpi_bus::{Revision, flow};
use sendpi_model::{Millis, RoomId};
use sendpi_store::SettledRow;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use crate::claim::ClaimedPartition;
use crate::executor::Move;
use crate::tenure::Tenure;

/// A partition that this worker owns.
#[derive(Debug)]
pub(crate) struct OwnedPartition {
    pub(crate) tenure: Tenure,
    pub(crate) lease: Lease,
    pub(crate) revision: Revision,
    pub(crate) flows: flow::FlowReceiver,
    /// The newest record of what is settled.
    pub(crate) settled: Option<SettledRow>,
    /// The rooms in which an earlier owner may have left something that is not dispatched again yet.
    pub(crate) recovering: HashSet<RoomId>,
    /// The rooms that could not be opened for so long that what is settled no longer waits for them, each with the
    /// record of what was settled then. If this tenure ends before they can be opened, their events count as settled
    /// without having been pushed.
    late: HashMap<RoomId, Option<SettledRow>>,
    /// Whether the worker does not serve the partition until the lease is written again. It lost the connection to
    /// NATS, or could not refresh its node key in time.
    pub(crate) suspended: bool,
    /// How far it is handed over to another worker, if it is.
    pub(crate) moving: Option<Move>,
    /// How many jobs are under way under this tenure.
    pub(crate) jobs: usize,
    /// Ends the reading of its system events when it is dropped.
    pub(crate) ingest: Option<DropGuard>,
    /// How many events it had since the rate was last measured, and when that was.
    events: (u64, Instant),
    /// Events a second.
    rate: f64,
    /// The time of the last event. It never falls.
    clock: Millis,
    /// Events up to this time count as settled once that is written, so no event may get such a time any more.
    floor: Millis,
    /// The time of the newest event of an earlier epoch that was dispatched again.
    left: Millis,
}

impl OwnedPartition {
    pub(crate) fn new(claimed: ClaimedPartition) -> (Self, Vec<RoomId>) {
        let ClaimedPartition { tenure, lease, revision, settled, active_rooms, .. } = claimed;
        let clock = settled.map_or(Millis(0), |row| row.at);
        let owned = Self {
            tenure,
            lease,
            revision,
            flows: flow::FlowReceiver::default(),
            settled,
            recovering: active_rooms.iter().cloned().collect(),
            late: HashMap::new(),
            suspended: false,
            moving: None,
            jobs: 0,
            ingest: None,
            events: (0, Instant::now()),
            rate: 0.0,
            clock,
            floor: clock,
            left: Millis(0),
        };
        (owned, active_rooms)
    }

    /// Counts events.
    pub(crate) fn count_events(&mut self, events: u64) {
        self.events.0 += events;
    }

    /// Measures how many events a second there were since the last call.
    pub(crate) fn measure(&mut self, now: Instant) {
        let (events, since) = std::mem::replace(&mut self.events, (0, now));
        self.rate = events as f64 / (now - since).as_secs_f64().max(0.001);
    }

    /// Returns the durable events a second, as last measured.
    pub(crate) fn event_rate(&self) -> f64 {
        self.rate
    }

    /// Returns whether further requests are taken.
    pub(crate) fn serves(&self) -> bool {
        !self.suspended && self.moving.is_none()
    }

    /// Returns the record that says which events of a room are settled.
    pub(crate) fn settled_for(&self, room: &RoomId) -> Option<SettledRow> {
        self.late.get(room).copied().unwrap_or(self.settled)
    }

    /// Returns whether a room may have something that is not dispatched again yet.
    pub(crate) fn is_recovering(&self, room: &RoomId) -> bool {
        self.recovering.contains(room) || self.late.contains_key(room)
    }

    /// Returns the rooms that could not be opened, and have something left to dispatch.
    pub(crate) fn late_rooms(&self) -> HashSet<RoomId> {
        self.late.keys().cloned().collect()
    }

    /// Notes that everything of a room was dispatched again.
    pub(crate) fn recovered(&mut self, room: &RoomId) {
        self.recovering.remove(room);
        self.late.remove(room);
    }

    /// Lets what is settled go on without a room that cannot be opened. What the room has left is dispatched again
    /// when it can be.
    pub(crate) fn wait_no_longer_for(&mut self, room: &RoomId) {
        if self.recovering.remove(room) {
            self.late.entry(room.clone()).or_insert(self.settled);
        }
    }

    /// Returns the time for what happens now. It is the wall clock's time, but never below an earlier result, and
    /// always above what is settled.
    pub(crate) fn now(&mut self, wall: Millis) -> Millis {
        self.clock = self.clock.max(wall).max(Millis(self.floor.0 + 1));
        self.clock
    }

    /// Moves the clock on to the time of an event that exists.
    pub(crate) fn saw(&mut self, at: Millis) {
        self.clock = self.clock.max(at);
    }

    /// Notes an event that an earlier epoch left, and that is dispatched again.
    pub(crate) fn left(&mut self, at: Millis) {
        self.left = self.left.max(at);
    }

    /// Returns up to which time everything is settled, given the time of the oldest event that is not. `None` if that
    /// is not further than before, or if nothing may be settled now.
    pub(crate) fn settle(&mut self, oldest: Option<Millis>) -> Option<SettledRow> {
        if !self.recovering.is_empty() || self.suspended {
            return None;
        }
        // An epoch's first record says that everything of the earlier epochs is settled as well.
        let is_first = self.settled.is_none_or(|row| row.epoch < self.tenure.epoch);
        if is_first && oldest.is_some_and(|oldest| oldest <= self.left) {
            return None;
        }
        let at = oldest.map_or(self.clock, |oldest| Millis(oldest.0.saturating_sub(1)));
        if !is_first && self.settled.is_some_and(|row| row.at >= at) {
            return None;
        }
        self.floor = self.floor.max(at);
        let row = SettledRow { epoch: self.tenure.epoch, at };
        self.settled = Some(row);
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use sendpi_model::{NodeId, Partition};

    use super::*;

    fn owned(settled: Option<SettledRow>) -> OwnedPartition {
        let tenure = Tenure { partition: Partition(1), epoch: 5, claim: 7 };
        let lease = Lease { owner: NodeId::parse("w").unwrap(), claim: "c".to_owned(), epoch: 5, released: false };
        let (dead, active_rooms) = (None, Vec::new());
        OwnedPartition::new(ClaimedPartition { tenure, lease, revision: 1, dead, settled, active_rooms }).0
    }

    #[test]
    fn time_never_falls_nor_comes_back_to_what_is_settled() {
        let mut owned = owned(Some(SettledRow { epoch: 4, at: Millis(100) }));
        assert_eq!(owned.now(Millis(50)), Millis(101));
        assert_eq!(owned.now(Millis(200)), Millis(200));
        assert_eq!(owned.now(Millis(150)), Millis(200));
        assert_eq!(owned.settle(None), Some(SettledRow { epoch: 5, at: Millis(200) }));
        assert_eq!(owned.now(Millis(200)), Millis(201));
    }

    #[test]
    fn a_room_that_cannot_be_opened_does_not_hold_up_what_is_settled_and_loses_nothing() {
        let before = Some(SettledRow { epoch: 4, at: Millis(100) });
        let (mut owned, room) = (owned(before), RoomId::parse("r").unwrap());
        owned.recovering.insert(room.clone());
        owned.now(Millis(200));
        assert_eq!(owned.settle(None), None);
        owned.wait_no_longer_for(&room);
        assert_eq!(owned.settle(None), Some(SettledRow { epoch: 5, at: Millis(200) }));
        // What the room has left is judged as it was before that, whenever it can be opened.
        assert!(owned.is_recovering(&room));
        assert_eq!(owned.settled_for(&room), before);
        owned.recovered(&room);
        assert!(!owned.is_recovering(&room));
        assert_eq!(owned.settled_for(&room), owned.settled);
    }

    #[test]
    fn an_epoch_has_no_record_while_anything_of_an_earlier_one_is_not_settled() {
        let mut owned = owned(Some(SettledRow { epoch: 4, at: Millis(100) }));
        owned.saw(Millis(120));
        owned.left(Millis(120));
        assert_eq!(owned.settle(Some(Millis(120))), None);
        assert_eq!(owned.now(Millis(130)), Millis(130));
        assert_eq!(owned.settle(Some(Millis(130))), Some(SettledRow { epoch: 5, at: Millis(129) }));
    }

    #[test]
    fn nothing_is_settled_before_everything_is_handed_out_again() {
        let mut owned = owned(None);
        owned.recovering.insert(RoomId::parse("r").unwrap());
        assert_eq!(owned.settle(None), None);
        owned.recovering.clear();
        owned.now(Millis(10));
        assert_eq!(owned.settle(Some(Millis(8))), Some(SettledRow { epoch: 5, at: Millis(7) }));
        assert_eq!(owned.settle(Some(Millis(8))), None);
    }
}
