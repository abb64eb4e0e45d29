//! How long the events of a room are kept: as many days as the room says, or the worker.
//!
//! The store lets a row go at its time. What the room has in memory goes when it next decides something.

use std::time::Duration;

use sendpi_model::{Event, Millis};

use super::Room;
use super::last_message::LastMessage;

impl Room {
    /// Returns for how long events are kept. `None` is for ever.
    fn kept(&self) -> Option<Duration> {
        self.row.as_ref().and_then(|row| row.kept(self.retention_default))
    }

    /// Returns when the row of an event is to be gone. `None` is never.
    pub(super) fn expires(&self, event: &Event) -> Option<Millis> {
        self.kept().map(|kept| event.head.at.after(kept))
    }

    /// Forgets the last message if it has expired.
    pub(super) fn forget_expired_last(&mut self, now: Millis) {
        let Some(kept) = self.kept() else { return };
        if self.last.as_ref().is_some_and(|last| LastMessage::at(last) <= now.before(kept)) {
            self.last = None;
            self.note_other_last();
        }
    }

    /// Forgets what has expired of the tail. What is not dispatched yet stays.
    pub(super) fn forget_expired_tail(&mut self, now: Millis) {
        if let Some(kept) = self.kept() {
            self.tail.forget_until(now.before(kept), self.dispatched);
        }
    }
}
