//! Requests that are repeated until they are confirmed: detaches and bounces.

use sendpi_model::{RoomId, UserId, Verb};

use crate::arena::{Arena, Key};

/// Requests that may wait to be confirmed at one time.
const WAITING: usize = 1_000_000;

/// A request that is repeated until it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repeat {
    pub(crate) room: RoomId,
    pub(crate) user: UserId,
    pub(crate) what: What,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// The user's last session with this sign-in number has ended.
    Detach { signin: u64 },
    /// No device of the user here took this event, which came in message `number` of a link.
    Bounce { seq: u64, link: u32, number: u64 },
}

impl Repeat {
    /// What the owner is asked.
    pub(crate) fn verb(&self) -> Verb {
        match self.what {
            What::Detach { signin } => Verb::Detach { signin },
            What::Bounce { seq, .. } => Verb::Bounce { seq },
        }
    }
}

/// All that is repeated.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    waiting: Arena<Repeat>,
    /// Asked without a confirmation: to be asked again.
    again: Vec<Key>,
}

impl Repeats {
    /// Adds a request that is asked now; `None` where too many wait.
    pub(crate) fn add(&mut self, repeat: Repeat) -> Option<Key> {
        (self.waiting.len() < WAITING).then(|| self.waiting.insert(repeat))
    }

    /// The owner has confirmed it.
    pub(crate) fn confirmed(&mut self, key: Key) -> Option<Repeat> {
        self.waiting.remove(key)
    }

    /// It was not confirmed.
    pub(crate) fn failed(&mut self, key: Key) {
        self.again.push(key);
    }

    /// What is to be asked again now.
    pub(crate) fn take_again(&mut self) -> Vec<(Key, Repeat)> {
        let again = std::mem::take(&mut self.again);
        again.into_iter().filter_map(|key| self.waiting.get(key).map(|repeat| (key, repeat.clone()))).collect()
    }

    /// How many wait to be confirmed.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_confirmed_is_asked_again_until_it_is() {
        let mut repeats = Repeats::default();
        let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("u").unwrap());
        let key = repeats.add(Repeat { room, user, what: What::Detach { signin: 3 } }).unwrap();
        assert!(repeats.take_again().is_empty());
        repeats.failed(key);
        assert_eq!(repeats.take_again().len(), 1);
        repeats.failed(key);
        assert!(repeats.confirmed(key).is_some());
        assert!(repeats.take_again().is_empty() && repeats.len() == 0);
    }
}
