//! The worker's half of a link: numbers what a node is told, sends again what the node does not have, and knows what is not settled.

mod unsettled;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::link::{AudienceAdded, AudienceRemoved, LinkAck, LinkHeader, LinkItem, encode_item};
use sendpi_model::timing::{LINK_ANNOUNCE_EVERY, LINK_NODE_SILENCE, LINK_RESEND_AFTER};
use sendpi_model::{Millis, Partition, RoomId};
use tokio::time::Instant;

pub use unsettled::Undelivered;
use unsettled::Unsettled;

/// A message is cut here, so that it stays far below what NATS carries.
const MESSAGE_BYTES: usize = 256 * 1024;
/// What may be under way to one node, in bytes; at half of it the rooms that feed the link slow down.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;
/// Events under way to one node that are not settled; at half of it the rooms that feed the link slow down.
const WINDOW_EVENTS: usize = 4_000_000;
/// What is sent again in one go, in bytes.
const AGAIN_BYTES: usize = 1024 * 1024;

/// How much is under way on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLoad {
    /// Less than half of what may be.
    Free,
    /// Half or more: rooms that feed the link are to wait.
    Heavy,
}

/// What a tick of the clock asks for.
#[derive(Debug, Default)]
pub struct LinkTick {
    /// Messages to be sent now.
    pub send: Vec<Bytes>,
    /// The node has been silent for too long: the link is to be given up.
    pub silent: bool,
}

/// One message under way.
#[derive(Debug)]
struct SentMessage {
    number: u64,
    bytes: Bytes,
    at: Instant,
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
}

impl LinkSender {
    /// A link that begins now, with an empty audience. `incarnation` is random.
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
        }
    }

    /// An event for the room's audience on the node; `seq` 0 is ephemeral.
    pub fn event(&mut self, partition: Partition, room: &RoomId, seq: u64, at: Millis, frame: &Bytes) {
        if seq > 0 {
            self.unsettled.event(self.number, partition, room, seq, at);
        }
        self.item(&LinkItem::Event { room: room.clone(), seq, frame: frame.clone() });
    }

    /// `+user`.
    pub fn added(&mut self, added: AudienceAdded) {
        self.unsettled.added(&added.room, &added.user);
        self.item(&LinkItem::Added(added));
    }

    /// `−user`; gives the number of the message that tells it.
    pub fn removed(&mut self, removed: AudienceRemoved) -> u64 {
        let number = self.number;
        self.unsettled.removed(&removed.room, &removed.user);
        self.item(&LinkItem::Removed(removed));
        number
    }

    /// The answer to request `n` of the node's flow to `partition`.
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

    /// Everything that waits, as messages to be sent now.
    pub fn drain(&mut self, now: Instant) -> Vec<Bytes> {
        self.close();
        let messages: Vec<Bytes> = self.full.iter().map(|(_, bytes)| bytes.clone()).collect();
        self.sent.extend(self.full.drain(..).map(|(number, bytes)| SentMessage { number, bytes, at: now }));
        if !messages.is_empty() {
            self.asked_since.get_or_insert(now);
        }
        messages
    }

    /// The node's answer; gives what is to be sent again at once.
    pub fn ack(&mut self, ack: &LinkAck, now: Instant) -> Vec<Bytes> {
        if ack.incarnation != self.incarnation {
            return Vec::new();
        }
        // A node cannot have received what was not sent, nor settled what it has not received: such an answer is not one to this link.
        if ack.received >= self.number || ack.settled > ack.received {
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

    /// What time asks for: a tell every second, what the node does not have after one second, and the end after three of silence.
    pub fn tick(&mut self, now: Instant) -> LinkTick {
        if self.asked_since.is_some_and(|since| now - since.max(self.heard) >= LINK_NODE_SILENCE) {
            return LinkTick { silent: true, ..LinkTick::default() };
        }
        let mut send = self.resend(now, LINK_RESEND_AFTER);
        if now - self.announced >= LINK_ANNOUNCE_EVERY {
            self.announced = now;
            self.asked_since.get_or_insert(now);
            let last = self.sent.back().map_or(self.number - 1, |sent| sent.number);
            send.push(
                LinkHeader { incarnation: self.incarnation, number: last, is_announcement: true }.encode().into(),
            );
        }
        LinkTick { send, silent: false }
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

    /// The worker could not hear for a while: the node's silence counts from now on.
    pub fn reset_silence(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Whether the rooms that feed this link are to wait.
    #[must_use]
    pub fn load(&self) -> LinkLoad {
        if self.bytes >= WINDOW_BYTES / 2 || self.unsettled.len() >= WINDOW_EVENTS / 2 {
            LinkLoad::Heavy
        } else {
            LinkLoad::Free
        }
    }

    /// Tells, for each partition, the time of the oldest event on this link that is not settled.
    pub fn oldest_unsettled(&self, mut tell: impl FnMut(Partition, Millis)) {
        self.unsettled.oldest(&mut tell);
    }

    /// Ends the link; gives every event that is not settled, and who was in its audience then.
    #[must_use]
    pub fn give_up(self) -> Vec<Undelivered> {
        self.unsettled.undelivered()
    }
}

#[cfg(test)]
mod tests;
