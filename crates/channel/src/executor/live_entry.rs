//! A room in the live table, and the stage that it is in.
//!
//! A room has at most one job of these under way. While it has one, its requests wait in the entry and other rooms go
//! on. A search for nonces (`aside`) is none of them: it holds up only the users whose requests need it.
//!
//! | stage | job under way | its result, in `results` or `evict` | next stage |
//! |---|---|---|---|
//! | `Closed` | none | | `Opening`, at the first request |
//! | `Opening` | `job/open`: row, starts, tail, members, fence | `opened` | `Ready`, or `Evicting` if its row lags |
//! | `Ready` | none | | any of the next four, or out of the table if it is not active and nothing waits |
//! | `Counting` | `job/read`: in how many rooms those are for whom a room is made | `counted` | `Ready` |
//! | `Activating` | `job`: order rows, then presence behind the barrier | `activated` | `Ready` |
//! | `Committing` | `job/commit`: a batch, then the fence | `committed` | `Ready` |
//! | `Evicting` | `evict`: the fence, then the head rows | `evicted` | out of the table, or `Ready` if something came |
//!
//! A job that failed takes the room back to `Closed`, or out of the table (`room_failed`). While the store is closed,
//! a room whose job failed stays `Ready`, for typing alone, until all rooms are forgotten (`store_failure`).

use std::collections::{HashMap, VecDeque};

use sendpi_bus::presence::Online;
use sendpi_model::{Partition, UserId};
use sendpi_store::PushedRow;
use tokio::time::Instant;

use super::aside::{Aside, Prepared};
use crate::job::{CommittedBatch, LeftEvents};
use crate::room::{IdleClock, Lookups, PushedLog, QueuedRequest, Room};

/// What happens to a room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing of the room is in memory.
    Closed,
    /// It is being read from the store.
    Opening,
    /// It is in memory, and no job is under way.
    Ready,
    /// The rooms of those for whom the room is made are counted.
    Counting,
    /// Its channel is being activated.
    Activating,
    /// A batch is on its way to the store.
    Committing,
    /// Its head is on its way to the store, after which the channel ends.
    Evicting,
}

impl Stage {
    /// Returns whether a job is under way.
    pub(super) fn is_busy(self) -> bool {
        !matches!(self, Self::Closed | Self::Ready)
    }

    /// Returns whether a job that leads to `next` may begin.
    fn may_become(self, next: Self) -> bool {
        match next {
            Self::Opening => self == Self::Closed,
            Self::Counting | Self::Activating | Self::Committing | Self::Evicting => self == Self::Ready,
            Self::Closed | Self::Ready => false,
        }
    }
}

/// A room in the live table.
#[derive(Debug)]
pub(super) struct LiveEntry {
    pub(super) partition: Partition,
    stage: Stage,
    /// Present in every stage but `Closed` and `Opening`.
    pub(super) room: Option<Box<Room>>,
    /// The queued requests, in order.
    pub(super) queue: VecDeque<QueuedRequest>,
    /// The requests that cannot be decided yet.
    pub(super) aside: Aside,
    /// Where those are online whom queued requests make members.
    pub(super) prepared: HashMap<UserId, Prepared>,
    /// What look-ups found for the queued requests.
    pub(super) lookups: Lookups,
    /// Whether the room is among those that the executor looks at next.
    pub(super) is_ready: bool,
    /// Events that an earlier owner may not have dispatched to everybody.
    pub(super) left: Option<LeftEvents>,
    /// What of them the earlier owner pushed.
    pub(super) pushed_before: Option<PushedRow>,
    /// What this owner pushed.
    pub(super) pushed: PushedLog,
    /// A batch that is in the store, behind the fence, and with it where its new members are online. Its order rows
    /// grew too old meanwhile: it is dispatched once there are new ones.
    pub(super) stored: Option<(CommittedBatch, Online)>,
    /// Whether the rows that eviction writes are behind the timeline.
    pub(super) lags: bool,
    /// Since when the room is only kept because more may be asked of it.
    pub(super) lingers: Option<Instant>,
    pub(super) idle: Option<IdleClock>,
    /// The minute for which `active_rooms` has this room.
    pub(super) active_minute: u64,
}

impl LiveEntry {
    pub(super) fn new(partition: Partition) -> Self {
        Self {
            partition,
            stage: Stage::Closed,
            room: None,
            queue: VecDeque::new(),
            aside: Aside::default(),
            prepared: HashMap::new(),
            lookups: Lookups::new(),
            is_ready: false,
            left: None,
            pushed_before: None,
            pushed: PushedLog::default(),
            stored: None,
            lags: false,
            lingers: None,
            idle: None,
            active_minute: 0,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn is_busy(&self) -> bool {
        self.stage.is_busy()
    }

    /// Begins a job.
    pub(super) fn begin(&mut self, job: Stage) {
        assert!(self.stage.may_become(job), "a room that is {:?} cannot be {job:?}", self.stage);
        debug_assert_eq!(self.room.is_some(), self.stage == Stage::Ready);
        self.stage = job;
    }

    /// Ends the job of this stage, which succeeded. Returns `false`, and changes nothing, if the room has another
    /// stage by now. The result then belongs to an earlier tenure, and means nothing any more.
    #[must_use]
    pub(super) fn end(&mut self, job: Stage) -> bool {
        let ends = self.stage == job;
        if ends {
            self.stage = Stage::Ready;
        } else {
            let (partition, stage) = (self.partition, self.stage);
            tracing::warn!(%partition, ?job, ?stage, "dropped the result of a job that is over");
        }
        ends
    }

    /// Ends a job that failed, but keeps the audience, so that typing goes on while the store is closed. Nothing else
    /// may be done with the room any more, because it may count events that were not stored.
    pub(super) fn keep_audience(&mut self) {
        self.stage = if self.room.is_some() { Stage::Ready } else { Stage::Closed };
        self.lookups.clear();
    }

    /// Forgets what is in memory. The requests stay, all of them in the queue.
    pub(super) fn close(&mut self) -> Option<Box<Room>> {
        self.stage = Stage::Closed;
        self.lookups.clear();
        self.prepared.clear();
        // The batch that had the minute's row may not have been written.
        self.active_minute = 0;
        let mut requests: VecDeque<QueuedRequest> = self.aside.close().into();
        requests.append(&mut self.queue);
        self.queue = requests;
        self.room.take()
    }

    /// Returns whether anything can be done for the room now.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.left.is_some()
    }

    /// Returns how many requests wait for the room.
    pub(super) fn requests(&self) -> usize {
        self.queue.len() + self.aside.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_is_not_of_the_present_stage_changes_nothing() {
        let mut entry = LiveEntry::new(Partition(1));
        assert!(!entry.end(Stage::Committing) && entry.stage() == Stage::Closed);
        entry.begin(Stage::Opening);
        assert!(entry.is_busy() && !entry.end(Stage::Evicting) && entry.stage() == Stage::Opening);
        assert!(entry.end(Stage::Opening) && !entry.is_busy());
    }

    #[test]
    fn the_first_batch_after_a_failed_one_writes_its_minute_again() {
        let mut entry = LiveEntry::new(Partition(1));
        entry.active_minute = 7;
        entry.close();
        assert_eq!(entry.active_minute, 0);
    }

    #[test]
    #[should_panic(expected = "a room that is Opening cannot be Committing")]
    fn a_room_has_one_job_at_a_time() {
        let mut entry = LiveEntry::new(Partition(1));
        entry.begin(Stage::Opening);
        entry.begin(Stage::Committing);
    }
}
