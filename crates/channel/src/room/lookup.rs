//! Nonces that the tail does not know, and how far back in the timeline each one is looked for.

use std::collections::HashMap;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Event, Head, Millis, Nonce, Refusal, UserId, Verb, limits};

use super::{QueuedRequest, Room};

/// The result of the look-up of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonceResult {
    /// The head of the event that was sent with the nonce.
    Found(Head),
    /// There is no such event as far back as it can be.
    Absent,
}

/// The results of look-ups, by sender and nonce.
pub(crate) type Lookups = HashMap<(UserId, Nonce), NonceResult>;

/// A range of the timeline to be searched, newest first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    /// The first seq of the range.
    pub(crate) from: u64,
    /// The last seq of the range, which is the last one before the tail.
    pub(crate) to: u64,
    /// How far back in time the search goes, if no seq is known.
    pub(crate) since: Option<Millis>,
    /// The senders and nonces that are looked for.
    pub(crate) wanted: Vec<(UserId, Nonce)>,
}

impl Lookup {
    /// Adds the wanted nonces that `events` have to `found`.
    pub(crate) fn learn<'a>(&self, events: impl IntoIterator<Item = &'a Event>, found: &mut Lookups) {
        for event in events {
            let Some(nonce) = &event.nonce else { continue };
            let key = (event.from.clone(), nonce.clone());
            if self.wanted.contains(&key) {
                found.insert(key, NonceResult::Found(event.head));
            }
        }
    }

    /// Marks every wanted nonce that was not found as absent.
    pub(crate) fn finish(self, mut found: Lookups) -> Lookups {
        for key in self.wanted {
            found.entry(key).or_insert(NonceResult::Absent);
        }
        found
    }
}

impl Room {
    /// Returns the look-up that these requests need before they can be admitted. `None` if the tail and `known`
    /// suffice.
    pub(crate) fn lookup<'a>(
        &self,
        waiting: impl IntoIterator<Item = &'a QueuedRequest>,
        known: &Lookups,
    ) -> Option<Lookup> {
        if mutant(Mutant::NonceLookupOff) {
            return None;
        }
        let first = self.tail.first_seq();
        if first <= 1 || first == u64::MAX {
            return None;
        }
        let farthest = first.saturating_sub(limits::NONCE_LOOKBACK).max(1);
        let (mut from, mut since, mut wanted) = (first, None::<Millis>, Vec::new());
        // A known seq decides how far back the search goes, whatever the time.
        let mut any_by_seq = false;
        for QueuedRequest { request, .. } in waiting {
            let Verb::Send { nonce: Some(nonce), retry, .. } = &request.verb else { continue };
            let key = (request.user.clone(), nonce.clone());
            if self.tail.find(&request.user, nonce).is_some() || known.contains_key(&key) {
                continue;
            }
            let by_seq = retry.map(|known| known.saturating_add(1)).filter(|next| *next < first);
            let by_time = request.first.filter(|at| self.tail.get(first).is_some_and(|event| event.head.at >= *at));
            if let Some(next) = by_seq {
                from = from.min(next.max(farthest));
                any_by_seq = true;
            }
            if let Some(at) = by_time {
                from = farthest;
                since = Some(since.map_or(at, |s| s.min(at)));
            }
            if by_seq.is_some() || by_time.is_some() {
                wanted.push(key);
            }
        }
        let since = since.filter(|_| !any_by_seq);
        (!wanted.is_empty()).then_some(Lookup { from, to: first - 1, since, wanted })
    }

    /// Returns the event that this send made already, if it did.
    pub(super) fn repeat_of(
        &self,
        user: &UserId,
        nonce: &Nonce,
        retry: Option<u64>,
        lookups: &Lookups,
    ) -> Result<Option<Head>, Refusal> {
        if let Some(head) = self.tail.find(user, nonce) {
            return Ok(Some(head));
        }
        match lookups.get(&(user.clone(), nonce.clone())) {
            Some(NonceResult::Found(head)) => Ok(Some(*head)),
            _ if retry.is_some_and(|known| self.head.seq.saturating_sub(known) > limits::NONCE_LOOKBACK) => {
                Err(Refusal::new(
                    sendpi_model::Code::Conflict,
                    format!(
                        "this send was first tried more than {} events ago: whether it was done cannot be told",
                        limits::NONCE_LOOKBACK
                    ),
                ))
            }
            _ => Ok(None),
        }
    }
}
