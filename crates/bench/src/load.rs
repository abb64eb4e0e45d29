//! What all connections of a case share: the clock, the counts, and the check that every member receives every event.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::BenchError;
use crate::histogram::Histogram;

/// The phases of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// There is load, but it is not counted until everything runs evenly.
    Warm = 0,
    /// The load is counted.
    Counted = 1,
    /// No new messages are sent. Those that are under way still arrive.
    Over = 2,
}

/// A room under load.
#[derive(Debug, Clone)]
pub(crate) struct LoadRoom {
    pub(crate) name: String,
    /// The highest seq in an answer to a sender.
    pub(crate) done: u64,
}

/// What the connections have counted and found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The deliveries in the counted time.
    pub(crate) deliveries: u64,
    /// The messages that were answered in the counted time.
    pub(crate) answered: u64,
    /// The times from sending a message to each of its deliveries.
    pub(crate) latency: Histogram,
    /// The times from sending a message to its answer.
    pub(crate) answers: Histogram,
    /// How many events a member did not receive although it received a later one.
    pub(crate) gaps: u64,
    /// How many events a member received a second time or too late.
    pub(crate) repeats: u64,
    /// How many messages were answered or refused, whether that was counted or not.
    pub(crate) ended: u64,
    /// How many messages were refused. A closed loop sends another one instead.
    pub(crate) refused: u64,
    /// What first ended a connection, or first showed that something was missed.
    pub(crate) trouble: Option<String>,
    pub(crate) rooms: Vec<LoadRoom>,
    /// For each member: its room and the seq of its last event.
    pub(crate) members: Vec<(usize, u64)>,
    /// The read buffer, which the connections use one after the other.
    pub(crate) scratch: Vec<u8>,
}

impl Tally {
    /// Receives an event for a member, and counts an error if it is not the next one.
    pub(crate) fn event(&mut self, member: usize, seq: u64) {
        let Some((_, last)) = self.members.get_mut(member) else { return };
        match seq.checked_sub(*last + 1) {
            Some(0) => {}
            Some(gap) => self.gaps += gap,
            None => {
                self.repeats += 1;
                return;
            }
        }
        *last = seq;
    }

    /// Returns how many answered events members have not received yet, summed over all members.
    pub(crate) fn missing(&self) -> u64 {
        self.members.iter().map(|(room, last)| self.rooms[*room].done.saturating_sub(*last)).sum()
    }
}

#[derive(Debug)]
pub(crate) struct Load {
    epoch: Instant,
    phase: AtomicU8,
    sent: AtomicU64,
    tally: Mutex<Tally>,
}

impl Load {
    pub(crate) fn new(rooms: Vec<String>) -> Self {
        let rooms = rooms.into_iter().map(|name| LoadRoom { name, done: 0 }).collect();
        let tally = Tally { rooms, scratch: vec![0; 64 * 1024], ..Tally::default() };
        Self { epoch: Instant::now(), phase: AtomicU8::new(0), sent: AtomicU64::new(0), tally: Mutex::new(tally) }
    }

    /// Returns the nanoseconds since the case began.
    pub(crate) fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Returns a number that no other message of this case has.
    pub(crate) fn nonce(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Warm,
            1 => Phase::Counted,
            _ => Phase::Over,
        }
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Locks the tally. Nobody ever waits here, because all connections run on one thread.
    pub(crate) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many messages were sent and neither answered nor refused.
    pub(crate) fn unanswered(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.tally().ended)
    }

    /// Returns an error if something went wrong on a connection.
    pub(crate) fn check(&self) -> Result<(), BenchError> {
        self.tally().trouble.clone().map_or(Ok(()), |trouble| Err(BenchError::Deliveries(trouble)))
    }

    /// Records what went wrong, unless something else went wrong before.
    pub(crate) fn trouble(&self, what: impl Into<String>) {
        self.tally().trouble.get_or_insert(what.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(seqs: &[u64]) -> Tally {
        let mut tally =
            Tally { rooms: vec![LoadRoom { name: "r".into(), done: 8 }], members: vec![(0, 3)], ..Tally::default() };
        seqs.iter().for_each(|seq| tally.event(0, *seq));
        tally
    }

    #[test]
    fn each_event_once_and_in_order_is_right() {
        let tally = tally(&[4, 5, 6, 7, 8]);
        assert_eq!((tally.gaps, tally.repeats, tally.missing()), (0, 0, 0));
    }

    #[test]
    fn what_is_left_out_repeated_or_late_is_noticed() {
        let left_out = tally(&[4, 7, 8]);
        assert_eq!((left_out.gaps, left_out.repeats), (2, 0));
        let repeated = tally(&[4, 4, 5, 3]);
        assert_eq!((repeated.gaps, repeated.repeats, repeated.missing()), (0, 2, 3));
    }
}
