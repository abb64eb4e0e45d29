//! The node's half of a flow. It numbers the requests, keeps them until they are answered, and resends them in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::{NumberedRequest, encode_message};
use sendpi_model::timing::{FLOW_FIRST_PAUSE, FLOW_GIVE_UP, FLOW_LONGEST_PAUSE, FLOW_SILENCE};
use sendpi_model::{Millis, NodeId};
use tokio::time::Instant;

/// The size at which a message is cut, in bytes. It stays far below what NATS carries.
const MESSAGE_BYTES: usize = 256 * 1024;
/// The most requests that may be unanswered at one time.
const UNANSWERED: usize = 4_096;
/// The most bytes that the unanswered requests may hold.
const UNANSWERED_BYTES: usize = 8 * 1024 * 1024;
/// How far the numbers may run ahead of the lowest unanswered one.
const SPAN: usize = 65_536;
/// The placeholder for an answered request when the requests around it are resent. An owner that does not know the
/// flow would wait for the missing number, and the placeholder only fills it.
const ANSWERED: &[u8] = br#"{"op":"answered"}"#;

/// The error if a flow has no room for a request because too much is unanswered. It holds the request's tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are unanswered")]
pub struct FlowFull<T>(pub T);

/// The node's half of one flow. `T` is the tag by which the answer to a request is known.
#[derive(Debug)]
pub struct FlowSender<T> {
    node: NodeId,
    /// The number of the first slot, which is the lowest unanswered one.
    low: u64,
    /// One slot for each number from `low` on. A slot is empty if its request was answered.
    slots: VecDeque<Option<Pending<T>>>,
    /// How many of the slots, from the first, were sent and need no resend now.
    sent: usize,
    unanswered: usize,
    bytes: usize,
    /// When the lowest request was last sent, or became the lowest because the slots before it became empty.
    asked: Instant,
    pause: Duration,
    resend_at: Option<Instant>,
}

#[derive(Debug)]
struct Pending<T> {
    request: Box<[u8]>,
    /// `None` if no answer is due.
    tag: Option<T>,
    pushed: Instant,
    first: Option<Millis>,
}

impl<T> FlowSender<T> {
    /// Creates an empty flow of `node`.
    #[must_use]
    pub fn new(node: NodeId, now: Instant) -> Self {
        Self {
            node,
            low: 1,
            slots: VecDeque::new(),
            sent: 0,
            unanswered: 0,
            bytes: 0,
            asked: now,
            pause: Duration::ZERO,
            resend_at: None,
        }
    }

    /// Adds a request, encoded by [`sendpi_model::flow::encode_request`]. Its answer will return `tag`.
    ///
    /// # Errors
    /// [`FlowFull`] returns the tag if too much is unanswered.
    pub fn push(&mut self, request: Vec<u8>, tag: T, now: Instant) -> Result<(), FlowFull<T>> {
        if !self.has_room(request.len()) {
            return Err(FlowFull(tag));
        }
        self.add(request, Some(tag), now);
        Ok(())
    }

    /// Adds a request that is never answered. It is sent once, or dropped if there is no room for it.
    pub fn push_unanswered(&mut self, request: Vec<u8>, now: Instant) {
        if self.has_room(request.len()) {
            self.add(request, None, now);
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.unanswered < UNANSWERED && self.slots.len() < SPAN && self.bytes + bytes <= UNANSWERED_BYTES
    }

    fn add(&mut self, request: Vec<u8>, tag: Option<T>, now: Instant) {
        self.unanswered += 1;
        self.bytes += request.len();
        self.slots.push_back(Some(Pending { request: request.into(), tag, pushed: now, first: None }));
    }

    /// Drains the next message of the requests that are due. Call it until it returns `None`.
    pub fn drain_message(&mut self, now: Instant, wall: Millis) -> Option<Bytes> {
        if let Some(at) = self.resend_at {
            if now < at {
                return None;
            }
            self.resend_at = None;
            self.sent = if mutant(Mutant::FlowResendOff) { self.sent } else { 0 };
        }
        let end = self.message_end();
        if end == self.sent {
            return None;
        }
        let (low, begin) = (self.low, self.sent);
        let message = {
            let part = self.slots.range(begin..end).enumerate().map(|(i, slot)| NumberedRequest {
                n: low + (begin + i) as u64,
                first: slot.as_ref().and_then(|pending| pending.first),
                request: slot.as_ref().map_or(ANSWERED, |pending| &pending.request),
            });
            encode_message(&self.node, low, part)
        };
        if begin == 0 {
            self.asked = now;
        }
        for i in begin..end {
            let Some(slot) = self.slots.get_mut(i) else { break };
            match slot {
                Some(pending) if pending.tag.is_some() => {
                    pending.first.get_or_insert(wall);
                }
                _ => {
                    let gone = slot.take();
                    self.forget(gone.as_ref());
                }
            }
        }
        self.sent = end;
        self.move_low(now);
        Some(message.into())
    }

    /// Returns the slot before which the next message ends.
    fn message_end(&self) -> usize {
        let mut bytes = 0;
        let mut end = self.sent;
        for (i, slot) in self.slots.iter().enumerate().skip(self.sent) {
            let length = slot.as_ref().map_or(ANSWERED.len(), |pending| pending.request.len());
            if bytes > 0 && bytes + length > MESSAGE_BYTES {
                break;
            }
            bytes += length + 24;
            // An answered request is worth nothing at the end of a message.
            if slot.is_some() || bytes > MESSAGE_BYTES {
                end = i + 1;
            }
        }
        end
    }

    /// Records the answer to request `n` and returns its tag. `None` if the request was answered or given up before.
    pub fn answered(&mut self, n: u64, now: Instant) -> Option<T> {
        let index = usize::try_from(n.checked_sub(self.low)?).ok()?;
        let pending = self.slots.get_mut(index)?.take()?;
        self.forget(Some(&pending));
        self.pause = Duration::ZERO;
        self.move_low(now);
        pending.tag
    }

    fn forget(&mut self, pending: Option<&Pending<T>>) {
        if let Some(pending) = pending {
            self.unanswered -= 1;
            self.bytes -= pending.request.len();
        }
    }

    fn move_low(&mut self, now: Instant) {
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.low += 1;
            self.sent = self.sent.saturating_sub(1);
            self.asked = now;
        }
    }

    /// Schedules a resend of everything unanswered, after a pause, because nobody answers for the partition. `random`
    /// is from 0 to 1.
    pub fn schedule_resend(&mut self, now: Instant, random: f64) {
        if self.resend_at.is_some() || self.slots.is_empty() || self.sent == 0 {
            return;
        }
        self.pause = if self.pause.is_zero() { FLOW_FIRST_PAUSE } else { (self.pause * 2).min(FLOW_LONGEST_PAUSE) };
        self.resend_at = Some(now + self.pause.mul_f64(0.75 + 0.5 * random.clamp(0.0, 1.0)));
    }

    /// Makes a resend of everything unanswered due now, because somebody answers for the partition again.
    pub fn resend_now(&mut self, now: Instant) {
        if self.sent > 0 || self.resend_at.is_some() {
            self.pause = Duration::ZERO;
            self.resend_at = Some(now);
        }
    }

    /// Handles the passing of time. It schedules a resend after silence, and returns the tags of the requests that
    /// end unanswered now. Their numbers are skipped.
    pub fn tick(&mut self, now: Instant, random: f64) -> Vec<T> {
        let mut ended = Vec::new();
        while self.slots.front().is_some_and(|s| s.as_ref().is_some_and(|p| now - p.pushed >= FLOW_GIVE_UP)) {
            if let Some(Some(pending)) = self.slots.pop_front() {
                self.forget(Some(&pending));
                ended.extend(pending.tag);
            }
            self.low += 1;
            self.sent = self.sent.saturating_sub(1);
            self.move_low(now);
        }
        if self.sent > 0 && now - self.asked >= FLOW_SILENCE {
            self.schedule_resend(now, random);
        }
        ended
    }

    /// Returns when [`FlowSender::drain_message`] or [`FlowSender::tick`] has something to do next. `None` while the
    /// flow is empty.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let front = self.slots.front()?.as_ref()?;
        let send = match self.resend_at {
            Some(at) => at,
            // The number of slots does not decide: answered slots at their end are not sent, and would make this
            // "now" for ever.
            None if self.message_end() > self.sent => now,
            None => self.asked + FLOW_SILENCE,
        };
        Some(send.min(front.pushed + FLOW_GIVE_UP))
    }

    /// Returns how many requests are unanswered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}

#[cfg(test)]
mod tests;
