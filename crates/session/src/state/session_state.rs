//! A session as the state knows it: its outbound queue, what it has confirmed, and what is held back for it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sendpi_bus::Revision;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{CloseCode, DeviceId, Millis, RoomId};
use tokio::time::Instant;

use crate::client::node_budget::BudgetShare;
use crate::client::outbound::Outbound;
use crate::keys::UserKey;
use crate::state::effects::Effects;

/// With so many floors, those of rooms of which nothing came yet are forgotten. It is more than a resume names.
const UNKNOWN_FLOORS: usize = 400;

/// A frame that is delivered to a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) room: &'a RoomId,
    /// The event's seq. 0 for a frame that is not a durable event.
    pub(crate) seq: u64,
    /// The event's position in the log of unconfirmed events, or one before it. `None` for a frame that is not in
    /// the log.
    pub(crate) position: Option<u64>,
    pub(crate) frame: &'a Bytes,
    pub(crate) ephemeral: bool,
}

/// One session.
#[derive(Debug)]
pub(crate) struct SessionState {
    pub(crate) outbound: Arc<Outbound>,
    /// The user, once signed in.
    pub(crate) user: Option<UserKey>,
    pub(crate) device: Option<DeviceId>,
    /// The place of the session among those of its device on all nodes (`state/devices`). `None` until it is known.
    pub(crate) stamp: Option<Revision>,
    /// The highest stamp of a session of the same device that asked before this one's own was known.
    pub(crate) outranked: Revision,
    /// When the token was issued. `None` if it does not say.
    pub(crate) issued_at: Option<Millis>,
    pub(crate) expires_at: Millis,
    pub(crate) beat: Heartbeat,
    /// The tick of the session's only entry in the timer wheel that counts.
    pub(crate) due: Option<u64>,
    /// The position at which the log ended when the session joined its user channel.
    pub(crate) started: u64,
    /// The position before which everything is confirmed.
    pub(crate) confirmed: u64,
    /// The position before which an answer to the heartbeat under way will confirm everything.
    pub(crate) pinged: u64,
    pub(crate) hold: Option<Box<Hold>>,
    /// The number of the session's last replay. That of its `hello` has 0.
    pub(crate) last_replay: u64,
    /// The seqs up to which the welcome or a replay covered rooms whose live events have not got there yet.
    #[expect(clippy::box_collection, reason = "nearly all sessions have none, and there are many sessions")]
    floors: Option<Box<HashMap<RoomId, u64>>>,
}

/// A session's heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    /// When the heartbeat that is not answered yet was queued. `None` if none is under way.
    pub(crate) waiting_since: Option<Instant>,
    /// When the next heartbeat is due.
    pub(crate) next: Instant,
}

/// Whether a session's last heartbeat was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeartbeatState {
    /// No heartbeat is under way.
    Answered,
    /// The answer may take until this time, when it is to be looked at again.
    Waiting(Instant),
    /// The client could have answered, and has not.
    Silent,
    /// The heartbeat could not be written for too long.
    Slow,
}

/// The live events that are held back for a session that waits for its welcome or for a replay.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// The rooms whose events are held back. `None` for all rooms.
    rooms: Option<HashSet<RoomId>>,
    /// The replay under way, and those that wait for it, each with its number and its rooms.
    replays: VecDeque<(u64, HashSet<RoomId>)>,
    queue: VecDeque<HeldEvent>,
    bytes: usize,
    /// What is held back counts against the node's budget.
    share: Option<BudgetShare>,
    /// The seqs up to which the oldest events of rooms were dropped because too much was held back. The welcome or
    /// the replay has to cover them.
    dropped: HashMap<RoomId, u64>,
    /// The first position that is held back.
    from: Option<u64>,
}

#[derive(Debug)]
struct HeldEvent {
    room: RoomId,
    seq: u64,
    frame: Bytes,
}

impl Hold {
    /// Holds back the events of all rooms.
    pub(crate) fn all() -> Self {
        Self::default()
    }

    /// Holds back the events of the rooms of a replay.
    pub(crate) fn of(number: u64, rooms: impl IntoIterator<Item = RoomId>) -> Self {
        Self::of_replays([(number, rooms.into_iter().collect())].into())
    }

    fn of_replays(replays: VecDeque<(u64, HashSet<RoomId>)>) -> Self {
        let rooms = replays.iter().flat_map(|(_, rooms)| rooms.iter().cloned()).collect();
        Self { rooms: Some(rooms), replays, ..Self::default() }
    }

    /// Adds a replay, which waits for those before it. The events of its rooms are held back from now on.
    fn add(&mut self, number: u64, rooms: HashSet<RoomId>) {
        if let Some(held) = &mut self.rooms {
            held.extend(rooms.iter().cloned());
        }
        self.replays.push_back((number, rooms));
    }

    /// Returns the hold that is left when the first replay has ended. `None` if no other waits.
    fn after_replay(&mut self) -> Option<Self> {
        self.replays.pop_front();
        (!self.replays.is_empty()).then(|| Self::of_replays(std::mem::take(&mut self.replays)))
    }

    fn push(&mut self, held: HeldEvent, position: Option<u64>, limit: usize) {
        self.bytes += held.frame.len();
        // An event that a gap held back may have an earlier position than those that are in the queue already.
        self.from = self.from.into_iter().chain(position).min();
        self.queue.push_back(held);
        while self.bytes > limit {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.bytes -= oldest.frame.len();
            // Nothing covers a frame that is not a durable event.
            let seq = if oldest.seq == 0 { u64::MAX } else { oldest.seq };
            let dropped = self.dropped.entry(oldest.room).or_default();
            *dropped = seq.max(*dropped);
        }
    }

    /// Counts what is held back against the budget that the session's queue shares.
    fn count(&mut self, outbound: &Outbound) {
        self.share.get_or_insert_with(|| BudgetShare::new(outbound.budget())).set(self.bytes);
    }

    /// Returns whether an event is held back.
    pub(crate) fn holds(&self, room: &RoomId, seq: u64) -> bool {
        self.queue.iter().any(|held| held.seq == seq && held.room == *room)
    }

    fn covers(&self, room: &RoomId) -> bool {
        self.rooms.as_ref().is_none_or(|rooms| rooms.contains(room)) && !mutant(Mutant::HoldOff)
    }
}

impl SessionState {
    pub(crate) fn new(outbound: Arc<Outbound>, now: Instant) -> Self {
        Self {
            outbound,
            user: None,
            device: None,
            stamp: None,
            outranked: 0,
            issued_at: None,
            expires_at: Millis(u64::MAX),
            beat: Heartbeat { waiting_since: None, next: now },
            due: None,
            started: 0,
            confirmed: 0,
            pinged: 0,
            hold: None,
            last_replay: 0,
            floors: None,
        }
    }

    /// Delivers a frame about a room to the session, or holds it back. `limit` bounds the bytes that are held back.
    /// Drops an ephemeral frame instead of holding it back, and an event that the welcome or a replay covered.
    pub(crate) fn deliver(&mut self, parcel: Delivery<'_>, limit: usize, effects: &mut Effects) {
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.covers(parcel.room)) {
            if parcel.ephemeral {
                return;
            }
            let held = HeldEvent { room: parcel.room.clone(), seq: parcel.seq, frame: parcel.frame.clone() };
            hold.push(held, parcel.position, limit);
            hold.count(&self.outbound);
            return;
        }
        if parcel.seq > 0 && !self.passes(parcel.room, parcel.seq) {
            return;
        }
        self.outbound.push(parcel.frame.clone(), parcel.ephemeral);
        effects.touch(&self.outbound);
    }

    /// Returns whether an event lies above what the welcome or a replay covered. Forgets the floor once the live
    /// events have reached it.
    fn passes(&mut self, room: &RoomId, seq: u64) -> bool {
        let Some(floors) = self.floors.as_mut() else { return true };
        let Some(floor) = floors.get(room).copied() else { return true };
        if seq >= floor {
            floors.remove(room);
            if floors.is_empty() {
                self.floors = None;
            }
        }
        seq > floor
    }

    /// Notes that the welcome or a replay covered these rooms up to these seqs.
    pub(crate) fn raise_floors(&mut self, rooms: impl IntoIterator<Item = (RoomId, u64)>) {
        let floors = self.floors.get_or_insert_default();
        for (room, seq) in rooms {
            let floor = floors.entry(room).or_default();
            *floor = seq.max(*floor);
        }
    }

    /// Holds back the live events of a replay's rooms. The replay waits until it is its turn. Returns its number.
    pub(crate) fn add_replay(&mut self, rooms: HashSet<RoomId>) -> u64 {
        self.last_replay += 1;
        match &mut self.hold {
            Some(hold) => hold.add(self.last_replay, rooms),
            None => self.hold = Some(Box::new(Hold::of(self.last_replay, rooms))),
        }
        self.last_replay
    }

    /// Returns whether a replay may begin, because those before it have ended.
    pub(crate) fn is_turn_of(&self, replay: u64) -> bool {
        self.hold.as_ref().and_then(|hold| hold.replays.front()).is_some_and(|(number, _)| *number == replay)
    }

    /// Ends the replay under way: releases the live events of its rooms, except those that a waiting replay needs.
    pub(crate) fn end_replay(&mut self, effects: &mut Effects) {
        let next = self.hold.as_mut().and_then(|hold| hold.after_replay());
        self.release(next, effects);
        self.outbound.end_replay();
    }

    /// Releases what was held back, except what `next` continues to hold back. Closes the session as too slow if
    /// events were dropped that neither the welcome nor a replay covers.
    pub(crate) fn release(&mut self, next: Option<Hold>, effects: &mut Effects) {
        let Some(hold) = self.hold.take() else {
            self.hold = next.map(Box::new);
            return;
        };
        let mut next = next;
        for (room, seq) in hold.dropped {
            if let Some(next) = next.as_mut().filter(|next| next.covers(&room)) {
                next.dropped.insert(room, seq);
            } else if self.floors.as_ref().and_then(|floors| floors.get(&room)).is_none_or(|floor| *floor < seq) {
                // The client reconnects and resumes.
                self.outbound.close(CloseCode::TooSlow);
            }
        }
        for held in hold.queue {
            if let Some(next) = next.as_mut().filter(|next| next.covers(&held.room)) {
                next.push(held, hold.from, usize::MAX);
            } else if held.seq == 0 || self.passes(&held.room, held.seq) {
                self.outbound.push(held.frame, false);
            }
        }
        if hold.from.is_some() {
            self.outbound.late();
        }
        if let Some(next) = next.as_mut() {
            next.count(&self.outbound);
        }
        self.hold = next.map(Box::new);
        effects.touch(&self.outbound);
    }

    /// Keeps only the floors that the live events have not reached yet. `last` returns the seq of a room's last
    /// live event, or `None` if none came yet: the first may be one that a new owner hands out again.
    pub(crate) fn prune_floors(&mut self, last: impl Fn(&RoomId) -> Option<u64>) {
        if let Some(floors) = self.floors.as_mut() {
            let few = floors.len() <= UNKNOWN_FLOORS;
            floors.retain(|room, floor| last(room).map_or(few, |last| last < *floor));
            floors.shrink_to_fit();
            if floors.is_empty() {
                self.floors = None;
            }
        }
    }

    /// Returns whether the last heartbeat was answered. The client has `pong` from the time at which it was able to
    /// answer, and the heartbeat `slow` to be written. Without an answer both together are the limit.
    pub(crate) fn heartbeat(&self, (pong, slow): (Duration, Duration), now: Instant) -> HeartbeatState {
        let Some(queued) = self.beat.waiting_since else { return HeartbeatState::Answered };
        match self.outbound.answerable_since() {
            Some(since) => match since.max(queued).min(queued + slow) + pong {
                until if now >= until => HeartbeatState::Silent,
                until => HeartbeatState::Waiting(until),
            },
            None if now >= queued + slow => HeartbeatState::Slow,
            // A heartbeat that is written from now on is not due before this.
            None => HeartbeatState::Waiting((now + pong).min(queued + slow)),
        }
    }

    /// Returns how many bytes wait for the client, or are held back for it.
    pub(crate) fn waiting(&self) -> usize {
        let held = self.hold.as_ref().map_or(0, |hold| hold.bytes);
        self.outbound.waiting() + held
    }

    /// Drops what waits, and closes the session as too slow.
    pub(crate) fn give_up(&mut self) {
        self.outbound.give_up();
        self.hold = None;
    }

    /// Returns the first position that is held back.
    pub(crate) fn held_from(&self) -> Option<u64> {
        self.hold.as_ref()?.from
    }
}

#[cfg(test)]
mod tests;
