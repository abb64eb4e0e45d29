//! The last message of a room. Lists of rooms show a preview of it.

use std::sync::OnceLock;

use sendpi_model::{Event, Millis, Preview};

/// The last message. Its body is read when the preview is first asked for: a busy room has a new last message all the
/// time, and nobody asks for most of them.
#[derive(Debug)]
pub(super) struct LastMessage {
    seq: u64,
    at: Millis,
    /// The event. `None` if the preview comes from the room's row.
    event: Option<Event>,
    preview: OnceLock<Preview>,
}

impl LastMessage {
    /// Returns the later one of `last` and `event`. An event that is not counted is no message.
    pub(super) fn later(last: Option<Self>, event: &Event) -> Option<Self> {
        let is_later = event.kind.is_counted() && last.as_ref().is_none_or(|last| last.seq < event.head.seq);
        if is_later {
            Some(Self { seq: event.head.seq, at: event.head.at, event: Some(event.clone()), preview: OnceLock::new() })
        } else {
            last
        }
    }

    /// Returns `last` as a revision of an event leaves it, which may be another one.
    pub(super) fn revised(last: Self, event: &Event) -> Self {
        if last.seq == event.head.seq {
            Self { event: Some(event.clone()), preview: OnceLock::new(), ..last }
        } else {
            last
        }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn at(&self) -> Millis {
        self.at
    }

    /// Returns the message as lists of rooms show it.
    pub(super) fn preview(&self) -> Option<Preview> {
        let event = self.event.as_ref();
        self.preview.get().cloned().or_else(|| event.map(|event| self.preview.get_or_init(|| event.preview()).clone()))
    }
}

impl From<Preview> for LastMessage {
    fn from(preview: Preview) -> Self {
        Self { seq: preview.seq, at: preview.at, event: None, preview: preview.into() }
    }
}
