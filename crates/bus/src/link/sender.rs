//! The worker's half of a link. It numbers the messages to a node, resends what the node has not received, and knows
//! what is not settled.

mod unsettled;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::link::{AudienceAdded, AudienceRemoved, LinkAck, LinkHeader, LinkItem, encode_item};
use sendpi_model::timing::{LINK_ANNOUNCE_EVERY, LINK_NODE_SILENCE, LINK_RESEND_AFTER};
use sendpi_model::{Millis, Partition, RoomId};
use tokio::time::Instant;

pub use unsettled::{Undelivered, Unsettled};

/// The size at which a message is cut, in bytes. It stays far below what NATS carries.
const MESSAGE_BYTES: usize = 256 * 1024;
/// The window of bytes under way to one node. At half of it, the rooms that feed the link slow down.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// The window of events under way to one node that are not settled. At half of it, the rooms that feed the link slow
/// down.
const WINDOW_EVENTS: usize = 4_000_000;
/// A node is given up when this many bytes, or events that are not settled, are under way to it. The rooms that feed
/// the link slow down long before that; what remains (answers, audiences, typing) must have an end, too.
const LIMIT_BYTES: usize = 4 * WINDOW_BYTES;
/// See [`LIMIT_BYTES`].
const LIMIT_EVENTS: usize = WINDOW_EVENTS;
/// The size at which one resend ends, in bytes.
const AGAIN_BYTES: usize = 1024 * 1024;

/// How much is under way on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLoad {
    /// Less than half of the window is under way.
    Free,
    /// Half of the window or more is under way: the rooms that feed the link should wait.
    Heavy,
}

/// The result of [`LinkSender::tick`].
#[derive(Debug, Default)]
pub struct LinkTick {
    /// The messages to be sent now.
    pub send: Vec<Bytes>,
    /// Why the node must be given up, if it must.
    pub give_up: Option<GiveUp>,
}

/// Why a node must be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveUp {
    /// It has been silent for too long.
    Silent,
    /// More is under way to it than a link may hold.
    Full,
}

/// One message under way.
#[derive(Debug)]
struct SentMessage {
    number: u64,
    bytes: Bytes,
    at: Instant,
}

/// An event on its way to the audience of its room on a node.
#[derive(Debug, Clone, Copy)]
pub struct LinkEvent<'a> {
    /// The partition of the room.
    pub partition: Partition,
    /// The room.
    pub room: &'a RoomId,
    /// The seq of the first event that it stands for. See [`LinkItem::Event`].
    pub first: u64,
    /// Its seq, or 0 if it is ephemeral.
    pub seq: u64,
    /// The time of the first event that it stands for.
    pub at: Millis,
    /// The client's frame.
    pub frame: &'a Bytes,
}

/// The worker's half of one link.
#[derive(Debug)]
pub struct LinkSender {
    incarnation: u64,
    /// The number of the message that is being filled.
    number: u64,
    open: Vec<u8>,
    full: VecDeque<(u64, Bytes)>,
    sent: VecDeque<SentMessage>,
    bytes: usize,
    unsettled: Unsettled,
    heard: Instant,
    asked_since: Option<Instant>,
    announced: Instant,
    last_again: Option<Instant>,
    /// Whether an answer that cannot be one to this link was logged.
    warned: bool,
}

impl LinkSender {
    /// Creates a link that begins now, with an empty audience. `incarnation` is random.
    #[must_use]
    pub fn new(incarnation: u64, now: Instant) -> Self {
        Self {
            incarnation,
            number: 1,
            open: Vec::new(),
            full: VecDeque::new(),
            sent: VecDeque::new(),
            bytes: 0,
            unsettled: Unsettled::default(),
            heard: now,
            asked_since: None,
            announced: now,
            last_again: None,
            warned: false,
        }
    }

    /// Adds an event for the room's audience on the node.
    pub fn event(&mut self, event: &LinkEvent<'_>) {
        let LinkEvent { room, first, seq, frame, .. } = *event;
        if seq > 0 {
            self.unsettled.event(self.number, event);
        }
        self.item(&LinkItem::Event { room: room.clone(), first, seq, frame: frame.clone() });
    }

    /// Adds a user to a room's audience on the node.
    pub fn added(&mut self, added: AudienceAdded) {
        self.unsettled.added(&added.room, &added.user);
        self.item(&LinkItem::Added(added));
    }

    /// Removes a user from a room's audience on the node. Returns the number of the message that carries this.
    pub fn removed(&mut self, removed: AudienceRemoved) -> u64 {
        let number = self.number;
        self.unsettled.removed(&removed.room, &removed.user);
        self.item(&LinkItem::Removed(removed));
        number
    }

    /// Adds the answer to request `n` of the node's flow to `partition`.
    pub fn answer(&mut self, partition: Partition, n: u64, frame: Bytes) {
        self.item(&LinkItem::Answer { partition, n, frame });
    }

    fn item(&mut self, item: &LinkItem) {
        if self.open.is_empty() {
            self.open =
                LinkHeader { incarnation: self.incarnation, number: self.number, is_announcement: false }.encode();
        }
        encode_item(&mut self.open, item);
        if self.open.len() >= MESSAGE_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let bytes = Bytes::from(std::mem::take(&mut self.open));
            self.bytes += bytes.len();
            self.full.push_back((self.number, bytes));
            self.number += 1;
        }
    }

    /// Drains everything that waits, as messages to be sent now.
    pub fn drain(&mut self, now: Instant) -> Vec<Bytes> {
        self.close();
        let messages: Vec<Bytes> = self.full.iter().map(|(_, bytes)| bytes.clone()).collect();
        self.sent.extend(self.full.drain(..).map(|(number, bytes)| SentMessage { number, bytes, at: now }));
        if !messages.is_empty() {
            self.asked_since.get_or_insert(now);
        }
        messages
    }

    /// Receives the node's answer and returns the messages to be resent at once.
    pub fn ack(&mut self, ack: &LinkAck, now: Instant) -> Vec<Bytes> {
        if ack.incarnation != self.incarnation {
            return Vec::new();
        }
        if !self.is_answered_by(ack) {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(?ack, number = self.number, "a node's answer does not fit its link and is ignored");
            }
            return Vec::new();
        }
        self.heard = now;
        self.asked_since = None;
        while self.sent.front().is_some_and(|sent| sent.number <= ack.received) {
            if let Some(sent) = self.sent.pop_front() {
                self.bytes -= sent.bytes.len();
            }
        }
        if !self.sent.is_empty() {
            self.asked_since = Some(now);
        }
        self.unsettled.settled(ack.settled);
        let again_is_due = self.last_again.is_none_or(|last| now - last >= Duration::from_millis(50));
        if ack.gap && again_is_due { self.resend(now, Duration::ZERO) } else { Vec::new() }
    }

    /// Returns whether an answer is one to this link. A node cannot have received what was not sent, nor settled what
    /// it has not received. An answer that says so counts for nothing.
    #[must_use]
    pub fn is_answered_by(&self, ack: &LinkAck) -> bool {
        ack.incarnation == self.incarnation && ack.received < self.number && ack.settled <= ack.received
    }

    /// Handles the passing of time. It announces the link every second, resends what the node has not received after
    /// one second, and reports a node that must be given up: one that has been silent for three seconds, or one to
    /// which too much is under way.
    pub fn tick(&mut self, now: Instant) -> LinkTick {
        let silent = self.asked_since.is_some_and(|since| now - since.max(self.heard) >= LINK_NODE_SILENCE);
        let full = self.bytes > LIMIT_BYTES || self.unsettled.len() > LIMIT_EVENTS;
        let give_up = if silent { Some(GiveUp::Silent) } else { full.then_some(GiveUp::Full) };
        if give_up.is_some() {
            return LinkTick { give_up, ..LinkTick::default() };
        }
        let mut send = self.resend(now, LINK_RESEND_AFTER);
        if now - self.announced >= LINK_ANNOUNCE_EVERY {
            send.push(self.announce(now));
        }
        LinkTick { send, give_up: None }
    }

    /// Returns an announcement of the link: its incarnation and last number. The node answers it.
    pub fn announce(&mut self, now: Instant) -> Bytes {
        self.announced = now;
        self.asked_since.get_or_insert(now);
        let number = self.sent.back().map_or(self.number - 1, |sent| sent.number);
        LinkHeader { incarnation: self.incarnation, number, is_announcement: true }.encode().into()
    }

    fn resend(&mut self, now: Instant, age: Duration) -> Vec<Bytes> {
        if mutant(Mutant::LinkAnswersOff) {
            return Vec::new();
        }
        let mut bytes = 0;
        let mut resend = Vec::new();
        for sent in &mut self.sent {
            if now - sent.at < age || bytes >= AGAIN_BYTES {
                break;
            }
            bytes += sent.bytes.len();
            sent.at = now;
            resend.push(sent.bytes.clone());
        }
        if !resend.is_empty() {
            self.last_again = Some(now);
        }
        resend
    }

    /// Counts the node's silence from `now` on, because the worker could not hear it for a while.
    pub fn reset_silence(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Returns whether the node was heard of just now, or could not have been heard of. Then it is alive, whatever its
    /// node key says.
    #[must_use]
    pub fn was_heard(&self, now: Instant) -> bool {
        now - self.heard < LINK_NODE_SILENCE
    }

    /// Returns whether the rooms that feed this link should wait.
    #[must_use]
    pub fn load(&self) -> LinkLoad {
        if self.bytes >= WINDOW_BYTES / 2 || self.unsettled.len() >= WINDOW_EVENTS / 2 {
            LinkLoad::Heavy
        } else {
            LinkLoad::Free
        }
    }

    /// Calls `tell` for each partition with the time of the oldest event on this link that is not settled.
    pub fn oldest_unsettled(&self, tell: impl FnMut(Partition, Millis)) {
        self.unsettled.oldest(tell);
    }

    /// Ends the link. Returns the events that are not settled, with their audience.
    #[must_use]
    pub fn give_up(self) -> Unsettled {
        self.unsettled
    }

    /// Returns whether the node has received everything.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.sent.is_empty() && self.full.is_empty() && self.open.is_empty()
    }

    /// Returns whether the node has settled everything that it was sent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}

#[cfg(test)]
mod tests;
