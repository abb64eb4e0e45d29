//! The frames that wait to be written to one session, bounded in bytes. Ephemeral events are dropped first. Pure.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use sendpi_model::CloseCode;
use sendpi_model::faults::{Mutant, mutant};

use crate::client::ws_frame;

/// The capacity, in frames, that an empty queue keeps. It is small because most sessions are idle.
const KEEP_CAPACITY: usize = 4;

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
    ephemeral: bool,
}

/// The queue of one session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
    /// How many bytes of the first frame are written.
    begun: usize,
    /// How many bytes wait, without those that are written.
    bytes: usize,
    closing: bool,
}

impl Outbox {
    /// Adds a frame under a limit of `limit` bytes. An empty queue accepts a frame of any size.
    pub(crate) fn push(&mut self, bytes: Bytes, ephemeral: bool, limit: usize) -> Pushed {
        if self.closing {
            return Pushed::Dropped;
        }
        if !self.frames.is_empty() && self.bytes + bytes.len() > limit && !mutant(Mutant::OutboxUnbounded) {
            if ephemeral {
                return Pushed::Dropped;
            }
            self.drop_ephemeral();
            if !self.frames.is_empty() && self.bytes + bytes.len() > limit {
                self.drop_unbegun();
                self.close(CloseCode::TooSlow);
                return Pushed::TooSlow;
            }
        }
        self.bytes += bytes.len();
        self.frames.push_back(Frame { bytes, ephemeral });
        if mutant(Mutant::OutboxReversed) && self.begun == 0 {
            self.frames.rotate_right(1);
        }
        Pushed::Queued
    }

    /// Adds the close frame, which nothing follows.
    pub(crate) fn close(&mut self, code: CloseCode) {
        if !self.closing {
            let bytes = ws_frame::close(code);
            self.bytes += bytes.len();
            self.frames.push_back(Frame { bytes, ephemeral: false });
            self.closing = true;
        }
    }

    fn drop_ephemeral(&mut self) {
        let begun = self.begun > 0;
        let mut first = true;
        self.frames.retain(|frame| {
            let keep = !frame.ephemeral || (first && begun);
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
        self.bytes = self.frames.iter().map(|frame| frame.bytes.len()).sum::<usize>() - self.begun;
    }

    /// Drops everything, because the socket is gone or the session has ended.
    pub(crate) fn fail(&mut self) {
        self.closing = true;
        self.frames = VecDeque::new();
        (self.begun, self.bytes) = (0, 0);
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

    /// Notes that `written` more bytes are written, and removes the frames that are complete.
    pub(crate) fn advance(&mut self, written: usize) {
        debug_assert!(written <= self.bytes, "more bytes were written than were queued");
        self.bytes -= written.min(self.bytes);
        self.begun += written;
        while let Some(first) = self.frames.front() {
            if self.begun < first.bytes.len() {
                return;
            }
            self.begun -= first.bytes.len();
            self.frames.pop_front();
        }
        if self.frames.capacity() > KEEP_CAPACITY {
            self.frames.shrink_to(KEEP_CAPACITY);
        }
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
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    /// Returns everything that would be written.
    fn waiting(outbox: &Outbox) -> String {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = outbox.slices(&mut slices);
        slices[..filled].iter().map(|slice| String::from_utf8_lossy(slice).into_owned()).collect()
    }

    #[test]
    fn a_partial_write_goes_on_where_it_stopped() {
        let mut outbox = Outbox::default();
        outbox.push(bytes("abc"), false, 100);
        outbox.push(bytes("def"), false, 100);
        outbox.advance(4);
        assert_eq!((waiting(&outbox).as_str(), outbox.bytes()), ("ef", 2));
        outbox.advance(2);
        assert!(outbox.is_empty() && outbox.bytes() == 0);
    }

    #[test]
    fn ephemeral_frames_are_dropped_first() {
        let mut outbox = Outbox::default();
        outbox.push(bytes("tttt"), true, 10);
        outbox.push(bytes("aaaa"), false, 10);
        assert_eq!(outbox.push(bytes("uuuu"), true, 10), Pushed::Dropped);
        assert_eq!(outbox.push(bytes("bbbb"), false, 10), Pushed::Queued);
        assert_eq!(waiting(&outbox), "aaaabbbb");
    }

    #[test]
    fn an_ephemeral_frame_that_is_begun_is_finished() {
        let mut outbox = Outbox::default();
        outbox.push(bytes("tttt"), true, 10);
        outbox.push(bytes("uuuu"), true, 10);
        outbox.advance(1);
        outbox.push(bytes("aaaaaa"), false, 10);
        assert_eq!(waiting(&outbox), "tttaaaaaa");
    }

    #[test]
    fn a_full_queue_ends_the_session_after_the_frame_that_is_begun() {
        let mut outbox = Outbox::default();
        outbox.push(bytes("aaaaaa"), false, 10);
        outbox.push(bytes("bbb"), false, 10);
        outbox.advance(2);
        assert_eq!(outbox.push(bytes("cccc"), false, 10), Pushed::TooSlow);
        assert!(waiting(&outbox).starts_with("aaaa") && waiting(&outbox).contains("reads too slowly"));
        assert_eq!(outbox.push(bytes("d"), false, 10), Pushed::Dropped);
    }

    #[test]
    fn a_frame_above_the_limit_is_taken_by_an_empty_queue() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(bytes("aaaaaaaaaaaa"), false, 10), Pushed::Queued);
    }

    #[test]
    fn nothing_follows_the_close_frame() {
        let mut outbox = Outbox::default();
        outbox.close(CloseCode::Drain);
        outbox.close(CloseCode::TooSlow);
        assert_eq!(outbox.push(bytes("x"), false, 10), Pushed::Dropped);
        assert!(waiting(&outbox).ends_with("drain"));
    }
}
