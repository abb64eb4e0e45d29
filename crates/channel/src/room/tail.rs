//! The newest events of a room: they tell repeats of a nonce, and answer catch-up reads without the store.

use std::collections::{HashMap, VecDeque};

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Event, Head, Nonce, UserId};

/// At least so many of the newest events are kept.
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
    /// Appends the next event, and drops the oldest ones past the limits.
    pub(crate) fn push(&mut self, event: Event) {
        self.bytes += event.frame.len();
        if let Some(nonce) = &event.nonce {
            self.nonces.insert((event.from.clone(), nonce.clone()), event.head);
        }
        self.events.push_back(event);
        while self.events.len() > TAIL_MAX || (self.bytes > TAIL_BYTES && self.events.len() > TAIL_MIN) {
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

    /// The event that `user` sent with `nonce`, if it is among these.
    pub(crate) fn find(&self, user: &UserId, nonce: &Nonce) -> Option<Head> {
        self.nonces.get(&(user.clone(), nonce.clone())).filter(|_| !mutant(Mutant::NonceOff)).copied()
    }

    /// The seq of the oldest event; `u64::MAX` where there is none.
    pub(crate) fn first_seq(&self) -> u64 {
        self.events.front().map_or(u64::MAX, |event| event.head.seq)
    }

    /// The event at `seq`.
    pub(crate) fn get(&self, seq: u64) -> Option<&Event> {
        let place = seq.checked_sub(self.first_seq())?;
        self.events.get(usize::try_from(place).ok()?)
    }

    /// The events, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// The events from `seq` on, oldest first.
    pub(crate) fn from(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Event> {
        let skip = seq.saturating_sub(self.first_seq()).min(self.events.len() as u64) as usize;
        self.events.range(skip..)
    }
}
