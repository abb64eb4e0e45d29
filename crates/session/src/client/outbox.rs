//! The frames that wait to be written to one session. Events are bounded in bytes, and ephemeral ones are dropped
//! first. Answers are bounded by the requests that are taken. Pure.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use sendpi_model::CloseCode;
use sendpi_model::faults::{Mutant, mutant};

use crate::client::ws_frame;

/// The capacity, in frames, that an empty queue keeps. It is small because most sessions are idle.
const KEEP_CAPACITY: usize = 4;
/// While this many bytes of answers wait, no further request is taken from the client.
const ANSWER_BYTES: usize = 256 * 1024;

/// What a frame is to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Something that the client did not ask for. If too much of this waits, the session is closed.
    Event,
    /// An event that may be lost.
    Ephemeral,
    /// What the client asked for.
    Answer,
    /// A heartbeat, of which one waits at most.
    Ping,
}

impl FrameKind {
    /// Returns whether the limit of events does not apply.
    fn is_answer(self) -> bool {
        matches!(self, Self::Answer | Self::Ping)
    }
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The frame waits to be written.
    Queued,
    /// The frame was dropped, because the session is ending, or because the frame is ephemeral and there is no room.
    Dropped,
    /// There was no room. Everything queued was dropped, except a frame that is partly written, and the session is
    /// closed as too slow.
    TooSlow,
}

#[derive(Debug)]
struct Frame {
    bytes: Bytes,
    kind: FrameKind,
}

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
    /// How many bytes of the first frame are written.
    begun: usize,
    /// How many bytes wait, without those that are written.
    bytes: usize,
    /// How many of these bytes are answers and heartbeats.
    answers: usize,
    closing: bool,
}

impl Outbox {
    /// Adds a frame. Events are under a limit of `limit` bytes, but an event of any size is accepted if no other waits.
    pub(crate) fn push(&mut self, bytes: Bytes, kind: FrameKind, limit: usize) -> Pushed {
        if self.closing {
            return Pushed::Dropped;
        }
        let is_event = !kind.is_answer();
        if is_event && !self.has_room(bytes.len(), limit) && !mutant(Mutant::OutboxUnbounded) {
            if kind == FrameKind::Ephemeral {
                return Pushed::Dropped;
            }
            self.drop_ephemeral();
            if !self.has_room(bytes.len(), limit) {
                self.give_up();
                return Pushed::TooSlow;
            }
        }
        self.bytes += bytes.len();
        self.answers += if is_event { 0 } else { bytes.len() };
        self.frames.push_back(Frame { bytes, kind });
        if mutant(Mutant::OutboxReversed) && self.begun == 0 {
            self.frames.rotate_right(1);
        }
        Pushed::Queued
    }

    fn has_room(&self, length: usize, limit: usize) -> bool {
        let events = self.bytes - self.answers;
        events == 0 || events + length <= limit
    }

    /// Drops what waits, and closes the session as too slow.
    pub(crate) fn give_up(&mut self) {
        if !self.closing {
            self.drop_unbegun();
            self.close(CloseCode::TooSlow);
        }
    }

    /// Adds the close frame, which nothing follows.
    pub(crate) fn close(&mut self, code: CloseCode) {
        if !self.closing {
            let bytes = ws_frame::close(code);
            self.bytes += bytes.len();
            self.frames.push_back(Frame { bytes, kind: FrameKind::Event });
            self.closing = true;
        }
    }

    /// Drops the ephemeral events that wait.
    pub(crate) fn drop_ephemeral(&mut self) {
        let begun = self.begun > 0;
        let mut first = true;
        self.frames.retain(|frame| {
            let keep = frame.kind != FrameKind::Ephemeral || (first && begun);
            first = false;
            keep
        });
        self.count();
    }

    /// Drops all frames but one that is partly written: unless that one is finished, the client cannot read what
    /// follows.
    fn drop_unbegun(&mut self) {
        self.frames.truncate(usize::from(self.begun > 0));
        self.count();
    }

    fn count(&mut self) {
        let (mut bytes, mut answers, mut begun) = (0, 0, self.begun);
        for frame in &self.frames {
            let left = frame.bytes.len() - std::mem::take(&mut begun);
            bytes += left;
            answers += if frame.kind.is_answer() { left } else { 0 };
        }
        (self.bytes, self.answers) = (bytes, answers);
    }

    /// Drops everything, because the socket is gone or the session has ended.
    pub(crate) fn fail(&mut self) {
        self.closing = true;
        self.frames = VecDeque::new();
        (self.begun, self.bytes, self.answers) = (0, 0, 0);
    }

    /// Removes and returns what the client needs to learn why it was closed: the rest of the frame that is begun, and
    /// the close frame. Returns nothing if the rest is longer than `most`.
    pub(crate) fn take_last_words(&mut self, most: usize) -> Vec<u8> {
        let begun = self.frames.front().filter(|_| self.begun > 0).and_then(|frame| frame.bytes.get(self.begun..));
        let close = self.frames.back().filter(|_| self.closing && (self.begun == 0 || self.frames.len() > 1));
        let words: Vec<u8> = begun.into_iter().chain(close.map(|frame| &frame.bytes[..])).flatten().copied().collect();
        self.fail();
        if words.len() > most { Vec::new() } else { words }
    }

    /// Fills `slices` with what is to be written next. Returns how many of them are filled.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            let begun = if filled == 0 { self.begun } else { 0 };
            *slice = IoSlice::new(frame.bytes.get(begun..).unwrap_or_default());
            filled += 1;
        }
        filled
    }

    /// Notes that `written` more bytes are written, and removes the frames that are complete. Returns whether a
    /// heartbeat is among those.
    pub(crate) fn advance(&mut self, written: usize) -> bool {
        debug_assert!(written <= self.bytes, "more bytes were written than were queued");
        let (mut left, mut pinged) = (written, false);
        while let Some(first) = self.frames.front() {
            let step = left.min(first.bytes.len() - self.begun);
            left -= step;
            self.bytes -= step;
            self.answers -= if first.kind.is_answer() { step } else { 0 };
            self.begun += step;
            if self.begun < first.bytes.len() {
                break;
            }
            pinged |= first.kind == FrameKind::Ping;
            self.begun = 0;
            self.frames.pop_front();
        }
        if self.frames.is_empty() && self.frames.capacity() > KEEP_CAPACITY {
            self.frames.shrink_to(KEEP_CAPACITY);
        }
        pinged
    }

    /// Returns whether so much of what the client asked for waits that nothing more is taken from it.
    pub(crate) fn is_full(&self) -> bool {
        self.answers >= ANSWER_BYTES
    }

    /// Returns the number of bytes that wait to be written.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether nothing waits to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns whether the session is ending: the close frame is queued or written, or the socket is gone.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }
}

#[cfg(test)]
mod tests;
