//! The newest events of a room. They answer repeats of a nonce, and catch-up reads, without the store.

use std::collections::{HashMap, VecDeque};

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Event, Head, Millis, Nonce, UserId};

/// At least this many of the newest events are kept.
pub(crate) const TAIL_MIN: usize = 200;
const TAIL_MAX: usize = 1_000;
const TAIL_BYTES: usize = 2 * 1024 * 1024;

/// The newest events of a room, without a gap, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    events: VecDeque<Event>,
    nonces: HashMap<(UserId, Nonce), Head>,
    bytes: usize,
}

impl Tail {
    /// Appends the next event. The tail is trimmed once the event is dispatched, so that no batch drops what a request
    /// of the same batch repeats.
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += event.frame.len();
        if let Some(nonce) = &event.nonce {
            self.nonces.insert((event.from.clone(), nonce.clone()), event.head);
        }
        self.events.push_back(event);
    }

    /// Puts an event in the place of the one with its seq, if that is here.
    pub(crate) fn replace(&mut self, event: Event) {
        let Some(place) = event.head.seq.checked_sub(self.first_seq()).and_then(|at| usize::try_from(at).ok()) else {
            return;
        };
        if let Some(known) = self.events.get_mut(place) {
            self.bytes = self.bytes - known.frame.len() + event.frame.len();
            *known = event;
        }
    }

    /// Drops the oldest events beyond the limits, but none after `dispatched`.
    pub(crate) fn trim(&mut self, dispatched: u64) {
        while (self.events.len() > TAIL_MAX || (self.bytes > TAIL_BYTES && self.events.len() > TAIL_MIN))
            && self.first_seq() <= dispatched
        {
            self.pop();
        }
    }

    /// Drops the events up to a time, but none after `dispatched`.
    pub(crate) fn forget_until(&mut self, at: Millis, dispatched: u64) {
        while self.events.front().is_some_and(|event| event.head.at <= at && event.head.seq <= dispatched) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        self.bytes -= event.frame.len();
        if let Some(nonce) = event.nonce {
            let key = (event.from, nonce);
            if self.nonces.get(&key) == Some(&event.head) {
                self.nonces.remove(&key);
            }
        }
    }

    /// Returns the event that `user` sent with `nonce`, if it is in the tail.
    pub(crate) fn find(&self, user: &UserId, nonce: &Nonce) -> Option<Head> {
        self.nonces.get(&(user.clone(), nonce.clone())).filter(|_| !mutant(Mutant::NonceOff)).copied()
    }

    /// Returns the seq of the oldest event. `u64::MAX` if there is none.
    pub(crate) fn first_seq(&self) -> u64 {
        self.events.front().map_or(u64::MAX, |event| event.head.seq)
    }

    /// Returns a seq below which everything is settled, given the time up to which it is: that of the oldest event
    /// after it, or `u64::MAX` if there is none. 0 if the tail does not reach back so far.
    pub(crate) fn unsettled_from(&self, at: Millis) -> u64 {
        match self.events.partition_point(|event| event.head.at <= at) {
            0 if !self.events.is_empty() => 0,
            place => self.events.get(place).map_or(u64::MAX, |event| event.head.seq),
        }
    }

    /// Returns the event at `seq`.
    pub(crate) fn get(&self, seq: u64) -> Option<&Event> {
        let place = seq.checked_sub(self.first_seq())?;
        self.events.get(usize::try_from(place).ok()?)
    }

    /// Returns the events, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// Returns the events from `seq` on, oldest first.
    pub(crate) fn from(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Event> {
        let skip = seq.saturating_sub(self.first_seq()).min(self.events.len() as u64) as usize;
        self.events.range(skip..)
    }
}
