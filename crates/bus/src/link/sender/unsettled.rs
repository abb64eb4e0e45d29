//! The events that a node was sent and has not settled, and who was in their audience.

use std::collections::{HashMap, VecDeque};

use sendpi_model::{Millis, Partition, RoomId, UserId};

/// An event that a node had not settled when it was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The room's partition.
    pub partition: Partition,
    /// The room.
    pub room: RoomId,
    /// The event's seq.
    pub seq: u64,
    /// The event's time.
    pub at: Millis,
    /// The users who were in the audience on that node when the event was sent.
    pub users: Vec<UserId>,
}

#[derive(Debug)]
struct Entry {
    room: RoomId,
    seq: u64,
    at: Millis,
    partition: Partition,
}

/// A user's stay in an audience that has ended, kept while an event of that time is not settled.
#[derive(Debug)]
struct Stay {
    room: RoomId,
    user: UserId,
    from: u64,
    to: u64,
}

/// The durable events of one link that are not settled. An event's place is the number of events that were sent
/// before it.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    first: u64,
    entries: VecDeque<Entry>,
    /// For each message with events, its number and the place after its last event.
    messages: VecDeque<(u64, u64)>,
    /// Who is in the audience, and from which place on.
    audience: HashMap<RoomId, HashMap<UserId, u64>>,
    ended: VecDeque<Stay>,
}

impl Unsettled {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn event(&mut self, number: u64, partition: Partition, room: &RoomId, seq: u64, at: Millis) {
        self.entries.push_back(Entry { room: room.clone(), seq, at, partition });
        let end = self.end();
        match self.messages.back_mut() {
            Some(last) if last.0 == number => last.1 = end,
            _ => self.messages.push_back((number, end)),
        }
    }

    pub(super) fn added(&mut self, room: &RoomId, user: &UserId) {
        let from = self.end();
        self.audience.entry(room.clone()).or_default().entry(user.clone()).or_insert(from);
    }

    pub(super) fn removed(&mut self, room: &RoomId, user: &UserId) {
        let to = self.end();
        let Some(users) = self.audience.get_mut(room) else { return };
        if let Some(from) = users.remove(user)
            && to > self.first
        {
            self.ended.push_back(Stay { room: room.clone(), user: user.clone(), from, to });
        }
        if users.is_empty() {
            self.audience.remove(room);
        }
    }

    /// Settles everything up to message `number`.
    pub(super) fn settled(&mut self, number: u64) {
        let mut end = self.first;
        while let Some(message) = self.messages.front().filter(|message| message.0 <= number) {
            end = message.1;
            self.messages.pop_front();
        }
        self.entries.drain(..(end - self.first) as usize);
        self.first = end;
        while self.ended.front().is_some_and(|stay| stay.to <= end) {
            self.ended.pop_front();
        }
    }

    pub(super) fn oldest(&self, tell: &mut impl FnMut(Partition, Millis)) {
        let mut seen = std::collections::HashSet::new();
        for entry in &self.entries {
            if seen.insert(entry.partition) {
                tell(entry.partition, entry.at);
            }
        }
    }

    pub(super) fn undelivered(self) -> Vec<Undelivered> {
        let mut ended: HashMap<RoomId, Vec<Stay>> = HashMap::new();
        for stay in self.ended {
            ended.entry(stay.room.clone()).or_default().push(stay);
        }
        let audience = self.audience;
        let users = |room: &RoomId, place: u64| {
            let present = audience.get(room).into_iter().flatten().filter(|(_, from)| **from <= place);
            let gone = ended.get(room).into_iter().flatten().filter(|s| s.from <= place && place < s.to);
            let mut users: Vec<UserId> =
                present.map(|(user, _)| user.clone()).chain(gone.map(|stay| stay.user.clone())).collect();
            users.sort();
            users.dedup();
            users
        };
        (self.first..)
            .zip(self.entries)
            .map(|(place, Entry { room, seq, at, partition })| Undelivered {
                users: users(&room, place),
                partition,
                room,
                seq,
                at,
            })
            .collect()
    }
}
