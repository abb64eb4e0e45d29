//! The node's half of a link. It passes messages on in their order, asks for what is missing, and notices when the
//! link is cut.

use std::collections::{BTreeMap, VecDeque};

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::link::{LinkAck, LinkHeader, LinkItems, VERSION};
use sendpi_model::timing::{LINK_ANSWER_EVERY, LINK_ASK_AGAIN, LINK_WORKER_SILENCE};
use tokio::time::Instant;

/// The most bytes that are held back behind a gap. Further messages are dropped, and the worker resends them.
const HELD_BYTES: usize = 8 * 1024 * 1024;
/// An answer is due at once after this many bytes.
const ANSWER_BYTES: usize = 256 * 1024;
/// How many former incarnations are remembered, so that their late messages are known as such.
const FORMER: usize = 8;

/// What a received message led to.
#[derive(Debug, Default)]
pub struct LinkReceived {
    /// Whether the message ended the incarnation known before, which makes the audience of that one void. What is
    /// ready belongs to the new one.
    pub cut: bool,
    /// The messages that are due now, in order, with their numbers.
    pub ready: Vec<(u64, LinkItems)>,
}

/// The node's half of the link of one worker.
#[derive(Debug)]
pub struct LinkReceiver {
    current: Option<Incarnation>,
    former: VecDeque<u64>,
}

/// The state of one incarnation.
#[derive(Debug)]
struct Incarnation {
    incarnation: u64,
    /// The highest number without a gap before it.
    received: u64,
    /// The highest number that is known to have been sent.
    announced: u64,
    held: BTreeMap<u64, (usize, LinkItems)>,
    held_bytes: usize,
    heard: Instant,
    hole_since: Option<Instant>,
    hole_asked: Option<Instant>,
    answered: Instant,
    unanswered_bytes: usize,
    answer_due: bool,
}

impl LinkReceiver {
    /// Creates a link from a worker that has sent nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { current: None, former: VecDeque::new() }
    }

    /// Receives a message of `bytes` bytes.
    pub fn receive(&mut self, header: LinkHeader, items: LinkItems, bytes: usize, now: Instant) -> LinkReceived {
        if self.former.contains(&header.incarnation) {
            // The node is silent on an incarnation that has ended for it, so that the worker notices and begins the
            // next one.
            return LinkReceived::default();
        }
        let known = self.current.as_ref().is_some_and(|current| current.incarnation == header.incarnation);
        let cut = !known && self.cut();
        let current = self.current.get_or_insert_with(|| Incarnation::new(header.incarnation, now));
        current.heard = now;
        let ready = if header.is_announcement {
            current.announcement(header.number, now)
        } else {
            current.message(header.number, items, bytes, now)
        };
        LinkReceived { cut, ready }
    }

    /// Treats the link as cut. Returns `true` if it was up until now. No message of this incarnation is received or
    /// answered any more.
    pub fn cut(&mut self) -> bool {
        let Some(current) = self.current.take() else { return false };
        self.former.push_back(current.incarnation);
        if self.former.len() > FORMER {
            self.former.pop_front();
        }
        true
    }

    /// Handles the passing of time. Returns `true` if the link is cut now, by silence or by a gap that stays open.
    pub fn tick(&mut self, now: Instant) -> bool {
        let over = self.current.as_ref().is_some_and(|current| {
            now - current.heard >= LINK_WORKER_SILENCE
                || current.hole_since.is_some_and(|since| now - since >= LINK_WORKER_SILENCE)
        });
        over && self.cut()
    }

    /// Counts silence and gaps from `now` on, because this node could not hear the worker for a while.
    pub fn reset_silence(&mut self, now: Instant) {
        if let Some(current) = &mut self.current {
            current.heard = now;
            current.hole_since = current.hole_since.map(|_| now);
        }
    }

    /// Makes an answer due at once, because no other may follow it.
    pub fn answer_at_last(&mut self) {
        if let Some(current) = &mut self.current {
            current.unanswered_bytes = ANSWER_BYTES;
        }
    }

    /// Returns the answer that is due now, if any. `settled` maps the highest received number to the highest settled
    /// one.
    pub fn answer(&mut self, settled: impl FnOnce(u64) -> u64, now: Instant) -> Option<LinkAck> {
        if mutant(Mutant::LinkAnswersOff) {
            return None;
        }
        self.current.as_mut()?.answer(settled, now)
    }

    /// Returns whether the link is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.current.is_some()
    }
}

impl Default for LinkReceiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Incarnation {
    fn new(incarnation: u64, now: Instant) -> Self {
        Self {
            incarnation,
            received: 0,
            announced: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            heard: now,
            hole_since: None,
            hole_asked: None,
            answered: now - LINK_ANSWER_EVERY,
            unanswered_bytes: 0,
            answer_due: false,
        }
    }

    /// Receives an announcement. It is always answered, so that the worker knows that the node lives and what is
    /// settled.
    fn announcement(&mut self, last: u64, now: Instant) -> Vec<(u64, LinkItems)> {
        self.answer_due = true;
        self.announced = self.announced.max(last);
        self.look_for_hole(now);
        Vec::new()
    }

    fn message(&mut self, number: u64, items: LinkItems, bytes: usize, now: Instant) -> Vec<(u64, LinkItems)> {
        self.answer_due = true;
        self.unanswered_bytes += bytes;
        self.announced = self.announced.max(number);
        let mut ready = Vec::new();
        if number == self.received + 1 {
            self.received = number;
            ready.push((number, items));
            while let Some((bytes, items)) = self.held.remove(&(self.received + 1)) {
                self.held_bytes -= bytes;
                self.received += 1;
                ready.push((self.received, items));
            }
            // If there is another gap, it counts from now.
            self.hole_since = None;
            self.hole_asked = None;
        } else if number > self.received && self.held_bytes + bytes <= HELD_BYTES && !self.held.contains_key(&number) {
            self.held_bytes += bytes;
            self.held.insert(number, (bytes, items));
        }
        self.look_for_hole(now);
        ready
    }

    fn look_for_hole(&mut self, now: Instant) {
        if self.announced > self.received {
            self.hole_since.get_or_insert(now);
        } else {
            self.hole_since = None;
            self.hole_asked = None;
        }
    }

    fn answer(&mut self, settled: impl FnOnce(u64) -> u64, now: Instant) -> Option<LinkAck> {
        let gap = self.hole_since.is_some() && self.hole_asked.is_none_or(|asked| now - asked >= LINK_ASK_AGAIN);
        let full = self.unanswered_bytes >= ANSWER_BYTES;
        let due = self.answer_due && now - self.answered >= LINK_ANSWER_EVERY;
        if !gap && !full && !due {
            return None;
        }
        if gap {
            self.hole_asked = Some(now);
        }
        self.answered = now;
        self.answer_due = false;
        self.unanswered_bytes = 0;
        let settled = settled(self.received).min(self.received);
        Some(LinkAck { v: VERSION, incarnation: self.incarnation, received: self.received, settled, gap })
    }
}

#[cfg(test)]
mod tests;
