//! A session as the state knows it: the line to its client, what it has confirmed, and what is held back for it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{CloseCode, DeviceId, Millis, RoomId};
use tokio::time::Instant;

use crate::client::outbound::Outbound;
use crate::keys::UserKey;
use crate::state::effects::Effects;

/// What a session is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) room: &'a RoomId,
    /// The event's seq; 0 for what is no durable event.
    pub(crate) seq: u64,
    /// Its position in the log of what was taken, or one before it; `None` for what is not in the log.
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
    pub(crate) signed_in: Millis,
    pub(crate) expires_at: Millis,
    pub(crate) beat: Heartbeat,
    /// The tick of its one entry in the wheel that counts.
    pub(crate) due: Option<u64>,
    /// Since when it is known to be ending.
    pub(crate) closing_since: Option<Instant>,
    /// Where the log ended when the session joined the live flow.
    pub(crate) started: u64,
    /// Everything before this position is confirmed.
    pub(crate) confirmed: u64,
    /// What an answer to the heartbeat under way will confirm.
    pub(crate) pinged: u64,
    pub(crate) hold: Option<Box<Hold>>,
    /// Up to where the welcome or a replay went, where the live flow has not got there yet.
    #[expect(clippy::box_collection, reason = "nearly all sessions have none, and there are many sessions")]
    floors: Option<Box<HashMap<RoomId, u64>>>,
}

/// A session's heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heartbeat {
    /// When the heartbeat that is not answered yet was queued.
    pub(crate) waiting_since: Option<Instant>,
    /// When the next one is due.
    pub(crate) next: Instant,
}

/// The live flow of a session that waits for its welcome, or for a replay.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    /// The rooms that are held back; `None` for all.
    rooms: Option<HashSet<RoomId>>,
    queue: VecDeque<HeldEvent>,
    bytes: usize,
    /// Where too much was held back, the oldest was dropped: up to which seq of which room. The welcome or the replay has to cover that.
    dropped: HashMap<RoomId, u64>,
    /// The position of the first event that is held back.
    from: Option<u64>,
}

#[derive(Debug)]
struct HeldEvent {
    room: RoomId,
    seq: u64,
    frame: Bytes,
}

impl Hold {
    /// Holds everything back.
    pub(crate) fn all() -> Self {
        Self::default()
    }

    /// Holds these rooms back.
    pub(crate) fn of(rooms: impl IntoIterator<Item = RoomId>) -> Self {
        Self { rooms: Some(rooms.into_iter().collect()), ..Self::default() }
    }

    fn push(&mut self, held: HeldEvent, position: Option<u64>, limit: usize) {
        self.bytes += held.frame.len();
        // What a gap held back may have come before what is here already.
        self.from = self.from.into_iter().chain(position).min();
        self.queue.push_back(held);
        while self.bytes > limit {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.bytes -= oldest.frame.len();
            // What is no event is covered by nothing.
            let seq = if oldest.seq == 0 { u64::MAX } else { oldest.seq };
            let dropped = self.dropped.entry(oldest.room).or_default();
            *dropped = seq.max(*dropped);
        }
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
            signed_in: Millis(0),
            expires_at: Millis(u64::MAX),
            beat: Heartbeat { waiting_since: None, next: now },
            due: None,
            closing_since: None,
            started: 0,
            confirmed: 0,
            pinged: 0,
            hold: None,
            floors: None,
        }
    }

    /// Gives the session an event, or whatever else concerns a room. `limit` bounds what is held back.
    pub(crate) fn deliver(&mut self, parcel: Delivery<'_>, limit: usize, effects: &mut Effects) {
        if let Some(hold) = self.hold.as_mut().filter(|hold| hold.covers(parcel.room)) {
            if parcel.ephemeral {
                return;
            }
            let held = HeldEvent { room: parcel.room.clone(), seq: parcel.seq, frame: parcel.frame.clone() };
            hold.push(held, parcel.position, limit);
            return;
        }
        if parcel.seq > 0 && !self.passes(parcel.room, parcel.seq) {
            return;
        }
        self.outbound.push(parcel.frame.clone(), parcel.ephemeral);
        effects.touch(&self.outbound);
    }

    /// Whether an event lies above what the welcome or a replay covered.
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

    /// The session has everything of these rooms up to these seqs.
    pub(crate) fn raise_floors(&mut self, rooms: impl IntoIterator<Item = (RoomId, u64)>) {
        let floors = self.floors.get_or_insert_default();
        for (room, seq) in rooms {
            let floor = floors.entry(room).or_default();
            *floor = seq.max(*floor);
        }
    }

    /// Lets what was held back go, except what `next` goes on to hold.
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
                // The client comes back and resumes.
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
        self.hold = next.map(Box::new);
        effects.touch(&self.outbound);
    }

    /// Keeps only the floors that the live flow has yet to reach: `last` tells up to where it is in a room.
    pub(crate) fn prune_floors(&mut self, last: impl Fn(&RoomId) -> Option<u64>) {
        if let Some(floors) = self.floors.as_mut() {
            floors.retain(|room, floor| last(room).is_some_and(|last| last < *floor));
            floors.shrink_to_fit();
            if floors.is_empty() {
                self.floors = None;
            }
        }
    }

    /// The position of the first event that is held back.
    pub(crate) fn held_from(&self) -> Option<u64> {
        self.hold.as_ref()?.from
    }
}

#[cfg(test)]
mod tests;
