//! The events that a node was sent and has not settled, and who was in their audience.

use std::collections::{BTreeMap, HashMap, VecDeque};

use sendpi_model::{Millis, Partition, RoomId, UserId};

use super::LinkEvent;

/// The events of a room that a user on a node that was given up may not have taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The room's partition.
    pub partition: Partition,
    /// The room.
    pub room: RoomId,
    /// The user, who was in the audience on that node when the events were sent.
    pub user: UserId,
    /// The seq of the first event.
    pub first: u64,
    /// The seq of the last event.
    pub last: u64,
    /// The time of the first event.
    pub at: Millis,
}

#[derive(Debug)]
struct Entry {
    room: RoomId,
    /// The first of the events that the entry is about.
    first: u64,
    seq: u64,
    /// The time of the first one.
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
pub struct Unsettled {
    first: u64,
    entries: VecDeque<Entry>,
    /// For each message with events, its number and the place after its last event.
    messages: VecDeque<(u64, u64)>,
    /// Who is in the audience, sorted by user, and from which place on. Rooms are many and small, so it is a list.
    audience: HashMap<RoomId, Vec<(UserId, u64)>>,
    ended: VecDeque<Stay>,
    /// For each partition, the times of its events, and how many there are of each time. Events are not sent in the
    /// order of their times: one room's batch may take longer than another's, and a recovered room sends old ones.
    times: HashMap<Partition, BTreeMap<Millis, u32>>,
}

impl Unsettled {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Returns the number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether everything is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn event(&mut self, number: u64, event: &LinkEvent<'_>) {
        let LinkEvent { partition, room, first, seq, at, .. } = *event;
        self.entries.push_back(Entry { room: room.clone(), first, seq, at, partition });
        *self.times.entry(partition).or_default().entry(at).or_default() += 1;
        let end = self.end();
        match self.messages.back_mut() {
            Some(last) if last.0 == number => last.1 = end,
            _ => self.messages.push_back((number, end)),
        }
    }

    pub(super) fn added(&mut self, room: &RoomId, user: &UserId) {
        let from = self.end();
        let users = match self.audience.get_mut(room) {
            Some(users) => users,
            None => self.audience.entry(room.clone()).or_default(),
        };
        if let Err(place) = users.binary_search_by(|(known, _)| known.cmp(user)) {
            users.insert(place, (user.clone(), from));
        }
    }

    pub(super) fn removed(&mut self, room: &RoomId, user: &UserId) {
        let to = self.end();
        let Some(users) = self.audience.get_mut(room) else { return };
        if let Ok(place) = users.binary_search_by(|(known, _)| known.cmp(user)) {
            let (user, from) = users.remove(place);
            if to > self.first {
                self.ended.push_back(Stay { room: room.clone(), user, from, to });
            }
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
        for entry in self.entries.drain(..(end - self.first) as usize) {
            let Some(times) = self.times.get_mut(&entry.partition) else { continue };
            if let Some(count) = times.get_mut(&entry.at) {
                *count -= 1;
                if *count == 0 {
                    times.remove(&entry.at);
                }
            }
            if times.is_empty() {
                self.times.remove(&entry.partition);
            }
        }
        self.first = end;
        while self.ended.front().is_some_and(|stay| stay.to <= end) {
            self.ended.pop_front();
        }
    }

    /// Calls `tell` for each partition with the time of the oldest event that is not settled.
    pub fn oldest(&self, mut tell: impl FnMut(Partition, Millis)) {
        for (partition, times) in &self.times {
            if let Some((at, _)) = times.first_key_value() {
                tell(*partition, *at);
            }
        }
    }

    /// Returns what each user in an audience may not have taken, one range for each room and user.
    #[must_use]
    pub fn undelivered(self) -> Vec<Undelivered> {
        let Self { first, entries, audience, ended, .. } = self;
        let mut rooms: HashMap<&RoomId, Vec<(u64, &Entry)>> = HashMap::new();
        for (place, entry) in (first..).zip(&entries) {
            rooms.entry(&entry.room).or_default().push((place, entry));
        }
        let present =
            audience.iter().flat_map(|(room, users)| users.iter().map(move |(u, from)| (room, u, *from, u64::MAX)));
        let gone = ended.iter().map(|stay| (&stay.room, &stay.user, stay.from, stay.to));
        let mut found: HashMap<(&RoomId, &UserId), Undelivered> = HashMap::new();
        for (room, user, from, to) in present.chain(gone) {
            let Some(events) = rooms.get(room) else { continue };
            let sent = &events[events.partition_point(|(place, _)| *place < from)..];
            let sent = &sent[..sent.partition_point(|(place, _)| *place < to)];
            let (Some((_, oldest)), Some((_, newest))) = (sent.first(), sent.last()) else { continue };
            let (partition, at) = (oldest.partition, oldest.at);
            let range = found.entry((room, user)).or_insert_with(|| Undelivered {
                partition,
                room: room.clone(),
                user: user.clone(),
                first: oldest.first,
                last: newest.seq,
                at,
            });
            range.first = range.first.min(oldest.first);
            range.last = range.last.max(newest.seq);
            range.at = range.at.min(at);
        }
        found.into_values().collect()
    }
}
