//! The log of the durable events that not every session has confirmed. The number up to which a link is settled
//! follows from it.
//!
//! Every durable event that a link brings for an audience on this node gets the next *position*. A session keeps
//! only positions: up to where its last answered heartbeat *confirmed* the log, and up to where the answer to the
//! heartbeat under way will confirm it. An event is settled when every session of the node has confirmed its
//! position and no bounce of it is under way.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tokio::time::Instant;

use crate::keys::{LinkId, RoomKey};
use crate::state::retry_queue::Origin;
use sendpi_model::timing::CLOSE_CONFIRMS_AFTER;

/// The log of unconfirmed events.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    start: Instant,
    /// The number of events at which the log is full.
    limit: usize,
    /// The position of the first entry.
    first: u64,
    entries: VecDeque<LoggedEvent>,
    links: HashMap<LinkId, LinkLog>,
    /// When the last event came.
    heard: Instant,
}

#[derive(Debug)]
struct LoggedEvent {
    room: RoomKey,
    /// Milliseconds since the start of the log.
    at: u64,
}

/// What is not settled of one link.
#[derive(Debug, Default)]
struct LinkLog {
    /// For each message with unconfirmed events: its number, and the position after its last event.
    messages: VecDeque<(u64, u64)>,
    /// The number of bounces under way, by message.
    bounces: BTreeMap<u64, u32>,
}

impl Unconfirmed {
    pub(crate) fn new(start: Instant, limit: usize) -> Self {
        Self { start, limit, first: 0, entries: VecDeque::new(), links: HashMap::new(), heard: start }
    }

    /// Returns the end of the log: the position of the next event.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Returns how many events are in the log.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }

    /// Returns when the last event came.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// Returns whether the log is full.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= self.limit
    }

    /// Adds an event of `room` that message `number` of a link brought. Returns its position.
    pub(crate) fn push(&mut self, link: LinkId, number: u64, room: RoomKey, now: Instant) -> u64 {
        let position = self.end();
        self.heard = now;
        self.entries.push_back(LoggedEvent { room, at: (now - self.start).as_millis() as u64 });
        let messages = &mut self.links.entry(link).or_default().messages;
        match messages.back_mut() {
            Some(last) if last.0 == number => last.1 = position + 1,
            _ => messages.push_back((number, position + 1)),
        }
        position
    }

    /// Notes that a bounce is under way whose first event on a link came with message `number`. A link that was cut
    /// counts for nothing: its worker answers for it.
    pub(crate) fn bounce_began(&mut self, (link, number): Origin) {
        if let Some(link) = self.links.get_mut(&link) {
            *link.bounces.entry(number).or_default() += 1;
        }
    }

    /// Notes that such a bounce was confirmed.
    pub(crate) fn bounce_ended(&mut self, (link, number): Origin) {
        if let Some(link) = self.links.get_mut(&link)
            && let Some(count) = link.bounces.get_mut(&number)
        {
            *count -= 1;
            if *count == 0 {
                link.bounces.remove(&number);
            }
        }
    }

    /// Removes all events below `floor`, which every session has confirmed. Calls `tell` with the room of each.
    pub(crate) fn confirm(&mut self, floor: u64, mut tell: impl FnMut(RoomKey)) {
        let count = floor.saturating_sub(self.first).min(self.entries.len() as u64);
        for entry in self.entries.drain(..count as usize) {
            tell(entry.room);
        }
        self.first += count;
        for link in self.links.values_mut() {
            while link.messages.front().is_some_and(|(_, end)| *end <= self.first) {
                link.messages.pop_front();
            }
        }
        if self.entries.is_empty() {
            self.entries.shrink_to(1024);
        }
    }

    /// Returns the number up to which all messages of a link are settled, given that all up to `has` were received.
    pub(crate) fn settled(&self, link: LinkId, has: u64) -> u64 {
        let Some(link) = self.links.get(&link) else { return has };
        let unconfirmed = link.messages.front().map(|(number, _)| *number);
        let bounce = link.bounces.first_key_value().map(|(number, _)| *number);
        let open = unconfirmed.into_iter().chain(bounce).min();
        open.map_or(has, |number| number.saturating_sub(1)).min(has)
    }

    /// Returns the position after the last event that is old enough for a client's close frame to confirm it.
    pub(crate) fn answered_by_close(&self, now: Instant) -> u64 {
        let before = (now - self.start).saturating_sub(CLOSE_CONFIRMS_AFTER).as_millis() as u64;
        self.first + self.entries.partition_point(|entry| entry.at < before) as u64
    }

    /// Forgets what is not settled of a link that was cut. Its worker is responsible for that.
    pub(crate) fn cut(&mut self, link: LinkId) {
        self.links.remove(&link);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn log() -> (Unconfirmed, Instant) {
        let now = Instant::now();
        (Unconfirmed::new(now, 100), now)
    }

    #[test]
    fn a_link_is_settled_below_its_first_event_that_is_not_confirmed() {
        let (mut log, now) = log();
        for (link, number) in [(1, 5), (1, 5), (2, 1), (1, 7)] {
            log.push(link, number, RoomKey::default(), now);
        }
        assert_eq!((log.settled(1, 9), log.settled(2, 9), log.settled(3, 9)), (4, 0, 9));
        log.confirm(1, |_| {});
        assert_eq!(log.settled(1, 9), 4, "half a message is not enough");
        log.confirm(3, |_| {});
        assert_eq!((log.settled(1, 9), log.settled(2, 9)), (6, 9));
        log.confirm(4, |_| {});
        assert_eq!(log.settled(1, 9), 9);
        assert_eq!(log.end(), 4);
    }

    #[test]
    fn a_bounce_under_way_keeps_its_message_open() {
        let (mut log, now) = log();
        log.push(1, 5, RoomKey::default(), now);
        log.bounce_began((1, 5));
        log.bounce_began((1, 5));
        log.confirm(1, |_| {});
        assert_eq!(log.settled(1, 9), 4);
        log.bounce_ended((1, 5));
        assert_eq!(log.settled(1, 9), 4);
        log.bounce_ended((1, 5));
        assert_eq!(log.settled(1, 9), 9);
    }

    #[test]
    fn a_bounce_of_a_link_that_was_cut_leaves_nothing_behind() {
        let (mut log, now) = log();
        log.push(1, 5, RoomKey::default(), now);
        log.bounce_began((1, 5));
        log.cut(1);
        log.bounce_began((1, 5));
        log.bounce_ended((1, 5));
        assert!(log.links.is_empty());
    }

    #[test]
    fn a_close_frame_answers_for_what_is_five_seconds_old() {
        let (mut log, now) = log();
        log.push(1, 1, RoomKey::default(), now);
        log.push(1, 2, RoomKey::default(), now + Duration::from_secs(3));
        assert_eq!(log.answered_by_close(now + Duration::from_secs(4)), 0);
        assert_eq!(log.answered_by_close(now + Duration::from_secs(6)), 1);
        assert_eq!(log.answered_by_close(now + Duration::from_secs(9)), 2);
    }

    #[test]
    fn what_is_confirmed_tells_its_room_once() {
        let (mut log, now) = log();
        log.push(1, 1, RoomKey::default(), now);
        let mut told = 0;
        log.confirm(9, |_| told += 1);
        log.confirm(9, |_| told += 1);
        assert_eq!((told, log.end()), (1, 1));
    }
}
