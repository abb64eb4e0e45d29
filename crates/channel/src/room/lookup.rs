//! What requests need from before the tail: nonces that the tail does not know, with how far back in the timeline each
//! one is looked for, and messages that requests are about.

use std::collections::{HashMap, HashSet};

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::FlowRequest;
use sendpi_model::timing::CLOCK_SKEW;
use sendpi_model::{Head, Millis, Nonce, Refusal, UserId, Verb, limits};
use sendpi_store::NonceRow;

use super::{Room, TargetEvent};

/// The result of the look-up of a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonceResult {
    /// The head of the event that was sent with the nonce.
    Found(Head),
    /// There is no such event in what was searched.
    Absent {
        /// The first seq that was searched.
        from: u64,
        /// The last seq that was searched. The tail began after it.
        to: u64,
        /// How far back in time the search went, if that ended it.
        since: Option<Millis>,
        /// The first seq of an event that is still there. What was searched before it has expired.
        kept: u64,
    },
}

/// The results of look-ups, by sender and nonce.
pub(crate) type Lookups = HashMap<(UserId, Nonce), NonceResult>;

/// How far back a timeline is searched for a nonce: to a seq, and to a time if there is one. The farther one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) from: u64,
    pub(crate) since: Option<Millis>,
}

/// What a search looks for, and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The senders and nonces.
    pub(crate) nonces: HashSet<(UserId, Nonce)>,
    /// The seqs of messages, with who asks.
    pub(crate) targets: HashSet<(UserId, u64)>,
}

impl Wanted {
    pub(crate) fn is_empty(&self) -> bool {
        self.nonces.is_empty() && self.targets.is_empty()
    }

    /// Returns for whom it is. A user may occur twice.
    pub(crate) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.nonces.iter().map(|(user, _)| user).chain(self.targets.iter().map(|(user, _)| user))
    }

    /// Drops what is for other users.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(&UserId) -> bool) {
        self.nonces.retain(|(user, _)| is_kept(user));
        self.targets.retain(|(user, _)| is_kept(user));
    }

    /// Returns whether it is for this request.
    pub(crate) fn is_for(&self, FlowRequest { user, verb, .. }: &FlowRequest) -> bool {
        let nonce = verb.event_nonce().map(|nonce| (user.clone(), nonce.clone()));
        let target = verb.target().map(|target| (user.clone(), target));
        nonce.is_some_and(|nonce| self.nonces.contains(&nonce))
            || target.is_some_and(|target| self.targets.contains(&target))
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) nonces: Lookups,
    pub(crate) targets: HashMap<u64, TargetEvent>,
}

/// A search of the timeline for nonces, newest first, and for messages at known places.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    /// How far back it goes.
    pub(crate) reach: Reach,
    /// The first seq of the range, however far back the times reach.
    pub(crate) farthest: u64,
    /// The last seq of the range, which is the last one before the tail.
    pub(crate) to: u64,
    /// What is looked for.
    pub(crate) wanted: Wanted,
    /// The rows have all revisions by events up to this seq.
    pub(crate) as_of: u64,
}

impl Lookup {
    /// Adds a nonce that is looked for as far back as `reach`.
    pub(crate) fn add(&mut self, user: &UserId, nonce: &Nonce, reach: Reach) {
        self.reach.from = self.reach.from.min(reach.from);
        self.reach.since = match (self.reach.since, reach.since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.wanted.nonces.insert((user.clone(), nonce.clone()));
    }

    /// Adds the wanted nonces among `rows`, which count, to `found`.
    pub(crate) fn learn(&self, rows: impl IntoIterator<Item = NonceRow>, found: &mut Lookups) {
        for NonceRow { head, from, nonce, .. } in rows {
            let key = (from, nonce);
            if self.wanted.nonces.contains(&key) {
                found.insert(key, NonceResult::Found(head));
            }
        }
    }

    /// Returns whether the search has gone far enough, with everything from `seq` on read. `at` is the time of the
    /// event there, if there is one.
    pub(crate) fn reached(&self, seq: u64, at: Option<Millis>) -> bool {
        let in_time = self.reach.since.is_none_or(|since| at.is_some_and(|at| at < since));
        seq <= self.farthest || (seq <= self.reach.from && in_time)
    }

    /// Marks every wanted nonce that was not found as absent. `from` is the first seq that was searched, and `kept` the
    /// first one of an event that is still there.
    pub(crate) fn finish(self, mut found: Lookups, (from, kept): (u64, u64)) -> Lookups {
        let absent = NonceResult::Absent { from, to: self.to, since: self.reach.since, kept };
        for key in self.wanted.nonces {
            found.entry(key).or_insert(absent);
        }
        found
    }
}

/// Adds the results of a search to those of earlier ones. A nonce that a search did not find, and one behind it did not
/// either, is absent in all that both looked at.
pub(crate) fn add_lookups(known: &mut Lookups, found: Lookups) {
    for (key, result) in found {
        let both = match (known.get(&key), result) {
            (Some(NonceResult::Absent { from, to, since, kept }), NonceResult::Absent { from: next, to: end, .. })
                if *from < next && next <= to + 1 =>
            {
                NonceResult::Absent { from: *from, to: end.max(*to), since: *since, kept: *kept }
            }
            _ => result,
        };
        known.insert(key, both);
    }
}

impl Room {
    /// Returns an empty look-up in what lies before the tail.
    pub(crate) fn new_lookup(&self) -> Lookup {
        let first = self.tail.first_seq();
        let reach = Reach { from: first, since: None };
        let (to, wanted) = (first.saturating_sub(1), Wanted::default());
        Lookup { reach, farthest: farthest(first), to, wanted, as_of: self.dispatched }
    }

    /// Returns how far back the timeline must be searched for the nonce of a request before the request is decided.
    /// `None` if the tail and `known` suffice, and for every request that was never sent before.
    pub(crate) fn lookup_reach(&self, request: &FlowRequest, known: &Lookups) -> Option<Reach> {
        let retry = if let Verb::Send { retry, .. } = &request.verb { *retry } else { None };
        if retry.is_none() && request.first.is_none() {
            return None;
        }
        let nonce = request.verb.event_nonce()?;
        let first = self.tail.first_seq();
        if first <= 1 || first == u64::MAX || mutant(Mutant::NonceLookupOff) {
            return None;
        }
        if self.tail.find(&request.user, nonce).is_some() {
            return None;
        }
        let by_seq = retry.map(|known| known.saturating_add(1)).filter(|next| *next < first);
        // The first try was stamped by the clock of its node, and events are by the owner's.
        let since = request.first.map(|at| at.before(CLOCK_SKEW));
        let since = since.filter(|at| self.tail.get(first).is_some_and(|event| event.head.at >= *at));
        let reach = Reach { from: by_seq.map_or(first, |next| next.max(farthest(first))), since };
        if reach.from == first && since.is_none() {
            return None;
        }
        match known.get(&(request.user.clone(), nonce.clone())) {
            Some(NonceResult::Found(_)) => None,
            Some(NonceResult::Absent { from, to, since, .. }) if reach.is_within(*from, *since, farthest(first)) => {
                // The tail has moved on since the search.
                (to + 1 < first).then_some(Reach { from: to + 1, since: None })
            }
            _ => Some(reach),
        }
    }

    /// Returns the event that this request made already, if it did.
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
        let found = if lookups.is_empty() { None } else { lookups.get(&(user.clone(), nonce.clone())) };
        match found {
            Some(NonceResult::Found(head)) => Ok(Some(*head)),
            _ if retry.is_some_and(|known| self.has_expired_after(known, found)) => Err(Refusal::new(
                sendpi_model::Code::Conflict,
                "the events of that time have expired: whether this send was done cannot be told",
            )),
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

impl Room {
    /// Returns whether an event has expired that came after the seq that a client knew when it first tried a send.
    fn has_expired_after(&self, known: u64, found: Option<&NonceResult>) -> bool {
        match found {
            Some(NonceResult::Absent { kept, .. }) => known.saturating_add(1) < *kept,
            // An open room knows its newest events, unless they have all expired.
            _ => self.tail.first_seq() == u64::MAX && known < self.head.seq,
        }
    }
}

impl Reach {
    /// Returns whether a search that went back to `from`, or to the time `since`, went as far back as this.
    fn is_within(self, from: u64, since: Option<Millis>, farthest: u64) -> bool {
        let in_time = self.since.is_none_or(|at| from <= farthest || since.is_some_and(|since| since <= at));
        from <= self.from && in_time
    }
}

/// Returns the first seq of a search before a tail that begins at `first`.
fn farthest(first: u64) -> u64 {
    first.saturating_sub(limits::NONCE_LOOKBACK).max(1)
}
