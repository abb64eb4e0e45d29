//! What one user in one room is owed: a detach, and the ranges of events that no device of the user took.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use sendpi_model::{Partition, RoomId, UserId};
use tokio::time::Instant;

use crate::keys::LinkId;

/// The most separate ranges of one entry. Beyond that, the last two become one, with what lies between them.
pub(super) const RANGES: usize = 8;

/// For how long a bounce that its owner refuses holds up what is settled on its link, if other events come meanwhile.
pub(super) const HOLDS_UP: Duration = Duration::from_mins(1);

/// Where an event came from: a link, and the number of a message on it.
pub(crate) type Origin = (LinkId, u64);

/// A range of a room's events that no device of a user took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UntakenRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The first message with an event of the range, of each link that brought any. Nearly always there is one.
    pub(crate) origins: Vec<Origin>,
    /// How often the owner has refused it, and since when.
    refusals: u32,
    refused_since: Option<Instant>,
    /// Whether some of it counts as settled although the owner has not taken it, so that nobody else makes the bounce.
    pub(super) released: bool,
}

impl UntakenRange {
    /// Returns the range of what one message of a link brought.
    pub(crate) fn of(seqs: RangeInclusive<u64>, origin: Origin) -> Self {
        let ((first, last), origins) = (seqs.into_inner(), vec![origin]);
        Self { first, last, origins, refusals: 0, refused_since: None, released: false }
    }

    /// Adds to the range what another message brought.
    pub(crate) fn add(&mut self, seqs: RangeInclusive<u64>, origin: Origin) {
        self.first = self.first.min(*seqs.start());
        self.last = self.last.max(*seqs.end());
        self.note(origin);
    }

    /// Notes an origin. Returns the one that the range does not need, if it has an earlier one of the same link.
    fn note(&mut self, origin: Origin) -> Option<Origin> {
        match self.origins.iter_mut().find(|known| known.0 == origin.0) {
            Some(known) if known.1 <= origin.1 => Some(origin),
            Some(known) => Some(std::mem::replace(known, origin)),
            None => {
                self.origins.push(origin);
                None
            }
        }
    }

    /// Adds another range, with what lies between both. Returns the origins that are not needed any more.
    fn join(&mut self, other: Self) -> Vec<Origin> {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.released |= other.released;
        other.origins.into_iter().filter_map(|origin| self.note(origin)).collect()
    }

    /// Returns whether no event lies between this range and a later or overlapping one.
    fn touches(&self, other: &Self) -> bool {
        other.first <= self.last.saturating_add(1) && self.first <= other.last.saturating_add(1)
    }
}

/// A request that an owner is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Detach { signin: u64 },
    Bounce(UntakenRange),
}

/// What one user in one room is owed.
#[derive(Debug)]
pub(super) struct QueueEntry {
    pub(super) room: RoomId,
    pub(super) user: UserId,
    pub(super) partition: Partition,
    pub(super) detach: Option<u64>,
    /// How often the owner has refused the detach.
    pub(super) refusals: u32,
    /// Those that the owner has refused are behind the others.
    pub(super) bounces: VecDeque<UntakenRange>,
    pub(super) under_way: Option<Told>,
    /// From when it may be sent again, if it waits for that.
    pub(super) again_at: Option<Instant>,
}

impl QueueEntry {
    pub(super) fn new(room: RoomId, user: UserId, partition: Partition) -> Self {
        let bounces = VecDeque::new();
        Self { room, user, partition, detach: None, refusals: 0, bounces, under_way: None, again_at: None }
    }

    /// Returns how often the owner has refused what is asked next.
    pub(super) fn next_refusals(&self) -> u32 {
        match self.detach {
            Some(_) => self.refusals,
            None => self.bounces.front().map_or(0, |range| range.refusals),
        }
    }

    pub(super) fn has_work(&self) -> bool {
        self.detach.is_some() || !self.bounces.is_empty()
    }

    pub(super) fn next(&mut self) -> Option<Told> {
        match self.detach.take() {
            Some(signin) => Some(Told::Detach { signin }),
            None => self.bounces.pop_front().map(Told::Bounce),
        }
    }

    /// Puts what is under way back, because the owner refused it, or because it was not sent or not answered. `None` if
    /// nothing is under way.
    pub(super) fn not_confirmed(
        &mut self,
        refused: bool,
        now: Instant,
        others_go_on: impl FnOnce(Instant) -> bool,
        release: impl FnMut(Origin),
    ) -> Option<()> {
        match self.under_way.take()? {
            Told::Detach { signin } => {
                self.detach = self.detach.max(Some(signin));
                self.refusals = self.refusals.saturating_add(u32::from(refused));
            }
            Told::Bounce(range) if !refused => self.put_back(range),
            Told::Bounce(mut range) => {
                range.refusals = range.refusals.saturating_add(1);
                let since = *range.refused_since.get_or_insert(now);
                if now - since >= HOLDS_UP && others_go_on(since + HOLDS_UP / 2) {
                    range.released = true;
                    range.origins.drain(..).for_each(release);
                }
                self.bounces.push_back(range);
            }
        }
        Some(())
    }

    /// Puts a range back that was not asked, or not answered.
    fn put_back(&mut self, range: UntakenRange) {
        let at = if range.refusals == 0 { 0 } else { self.fresh() };
        self.bounces.insert(at, range);
    }

    /// Returns the number of ranges that the owner has not refused.
    fn fresh(&self) -> usize {
        self.bounces.partition_point(|range| range.refusals == 0)
    }

    /// Adds a range. Returns the origins that are not needed, because an earlier range stands for them. It becomes one
    /// with a range that the owner has refused only if there are too many.
    pub(super) fn bounce(&mut self, range: UntakenRange) -> Vec<Origin> {
        let fresh = self.fresh();
        let last = fresh.checked_sub(1).and_then(|last| self.bounces.get_mut(last));
        if let Some(last) = last.filter(|last| last.touches(&range)) {
            return last.join(range);
        }
        if self.bounces.len() >= RANGES
            && let Some(last) = self.bounces.get_mut(fresh.max(1) - 1)
        {
            return last.join(range);
        }
        self.bounces.insert(fresh, range);
        Vec::new()
    }
}
