//! Pages of a timeline: how many messages and events one holds, and where it ends.

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::EventPage;
use sendpi_model::{Event, RoomId, limits};

use super::Room;

/// Which page is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// The page ends before this seq, if it is read backwards.
    pub(crate) before: Option<u64>,
    /// The page begins after this seq.
    pub(crate) after: Option<u64>,
    /// The most messages in the page.
    pub(crate) limit: usize,
}

/// How full a page is.
#[derive(Debug, Default)]
struct Filling {
    messages: usize,
    events: usize,
    bytes: usize,
}

impl PageRequest {
    /// Returns the most events that the page may hold.
    pub(crate) fn most_events(self) -> usize {
        self.limit * limits::PAGE_EVENTS_PER_MESSAGE
    }

    /// Adds events until the page is full. `events` come in the order of reading: oldest first for `after`, newest
    /// first otherwise. Returns the page, oldest first, and whether it was full before `events` ended.
    pub(crate) fn fill<'a>(self, events: impl Iterator<Item = &'a Event>) -> (Vec<&'a Event>, bool) {
        let mut filling = Filling::default();
        let mut page = Vec::new();
        let mut full = false;
        for event in events {
            let messages = filling.messages + usize::from(event.kind.is_counted());
            let bytes = filling.bytes + event.frame.len() + 1;
            let fits = messages <= self.limit && filling.events < self.most_events() && bytes <= limits::PAGE_BYTES;
            if !fits {
                full = true;
                break;
            }
            filling = Filling { messages, events: filling.events + 1, bytes };
            page.push(event);
        }
        if self.after.is_none() {
            page.reverse();
        }
        (page, full)
    }
}

impl Room {
    /// Returns the events of a page, oldest first, and whether more follow. `None` if the tail does not reach as far
    /// back. What is not dispatched yet is in no page.
    pub(crate) fn tail_page(&self, page: PageRequest) -> Option<(Vec<Bytes>, bool)> {
        let (first, end) = (self.tail.first_seq(), self.dispatched);
        let (events, full, reaches) = match page.after {
            Some(after) => {
                let next = after.saturating_add(1);
                let (events, full) = page.fill(self.tail.from(next).take_while(|event| event.head.seq <= end));
                (events, full, next >= first || after >= end)
            }
            None => {
                let before = page.before.unwrap_or(u64::MAX).min(end.saturating_add(1));
                let (events, full) = page.fill(self.tail.iter().rev().filter(|event| event.head.seq < before));
                (events, full, full || first <= 1 || end == 0)
            }
        };
        reaches.then(|| (events.into_iter().map(|event| event.frame.clone()).collect(), full))
    }
}

/// Encodes the answer `page`, with the events as they were stored.
pub(crate) fn page_frame(room: &RoomId, events: &[Bytes], more: bool) -> Vec<u8> {
    let frames: Vec<&[u8]> = events.iter().map(AsRef::as_ref).collect();
    EventPage::join(room, &frames, more && !mutant(Mutant::MoreOff))
}
