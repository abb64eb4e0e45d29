//! Up to which seq a user has the events of a room. Drops duplicates, and holds back the events that follow a gap
//! until the missing ones were read.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::keys::UserKey;

/// The most bytes of events that are held back behind a gap.
const HELD_BYTES: usize = 512 * 1024;
/// The most events that are held back behind a gap.
const HELD_EVENTS: usize = 4_096;

/// A user in a room, on this node.
#[derive(Debug)]
pub(crate) struct UserInRoom {
    pub(crate) user: UserKey,
    /// The seq up to which the user's sessions have the events, or do not need them. `None` if it is not known yet.
    pub(crate) last: Option<u64>,
    /// Whether the node has asked the room's owner to attach the user.
    pub(crate) attached: bool,
    pub(crate) gap: Option<Box<Gap>>,
}

/// The events that are missing, and the later ones that are held back for them.
#[derive(Debug, Default)]
pub(crate) struct Gap {
    /// The gap is filled when everything up to this seq was delivered.
    pub(crate) target: u64,
    held: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// The position of the first event that is held back. No heartbeat may confirm it.
    pub(crate) from: Option<u64>,
}

/// What to do with an event that a link brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Deliver it to the user's sessions.
    Deliver,
    /// Drop it: it is a duplicate.
    Repeat,
    /// Nothing: it is held back because an event before it is missing.
    HeldEvent {
        /// Whether the gap begins with this event.
        new: bool,
    },
    /// Tell the user's sessions the head instead: too much is held back, so everything up to this event is skipped.
    Skipped,
}

impl UserInRoom {
    pub(crate) fn new(user: UserKey) -> Self {
        Self { user, last: None, attached: false, gap: None }
    }

    /// Receives an event from a link.
    pub(crate) fn receive(&mut self, seq: u64, frame: &Bytes, position: u64) -> Offer {
        let Some(last) = self.last else {
            self.last = Some(seq);
            return Offer::Deliver;
        };
        if seq <= last {
            return Offer::Repeat;
        }
        if self.gap.is_none() && seq == last + 1 {
            self.last = Some(seq);
            return Offer::Deliver;
        }
        let new = self.gap.is_none();
        let gap = self.gap.get_or_insert_default();
        let place = gap.held.partition_point(|(held, _)| *held < seq);
        if gap.held.get(place).is_some_and(|(held, _)| *held == seq) {
            return Offer::Repeat;
        }
        if gap.bytes + frame.len() > HELD_BYTES || gap.held.len() >= HELD_EVENTS {
            self.last = Some(seq.max(gap.target).max(gap.held.back().map_or(0, |(held, _)| *held)));
            self.gap = None;
            return Offer::Skipped;
        }
        gap.target = gap.target.max(seq - 1);
        gap.bytes += frame.len();
        gap.from.get_or_insert(position);
        gap.held.insert(place, (seq, frame.clone()));
        Offer::HeldEvent { new }
    }

    /// Notes that the room's head is at `seq`. Returns `true` if a gap begins with that.
    pub(crate) fn note_head(&mut self, seq: u64) -> bool {
        let Some(last) = self.last else {
            self.last = Some(seq);
            return false;
        };
        if seq <= last {
            return false;
        }
        let new = self.gap.is_none();
        let gap = self.gap.get_or_insert_default();
        gap.target = gap.target.max(seq);
        new
    }

    /// Notes that the user does not need the events up to `seq`.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        self.last = Some(self.last.map_or(seq, |last| last.max(seq)));
    }

    /// Fills the gap with events that were read, in order. Calls `deliver` with each event that is due, and with
    /// the events that were held back for it.
    pub(crate) fn fill(&mut self, events: &[(u64, Bytes)], mut deliver: impl FnMut(u64, &Bytes)) {
        let (Some(last), Some(gap)) = (self.last.as_mut(), self.gap.as_mut()) else { return };
        let release = |gap: &mut Gap, last: &mut u64, deliver: &mut dyn FnMut(u64, &Bytes)| {
            while let Some((seq, _)) = gap.held.front() {
                if *seq > *last + 1 {
                    break;
                }
                if let Some((seq, frame)) = gap.held.pop_front() {
                    gap.bytes -= frame.len();
                    if seq == *last + 1 {
                        *last = seq;
                        deliver(seq, &frame);
                    }
                }
            }
        };
        release(gap, last, &mut deliver);
        for (seq, frame) in events {
            if *seq == *last + 1 {
                *last = *seq;
                deliver(*seq, frame);
                release(gap, last, &mut deliver);
            }
        }
        if gap.held.is_empty() && *last >= gap.target {
            self.gap = None;
        }
    }

    /// Ends the gap without the missing events, and calls `deliver` with those that were held back. Returns the seq
    /// up to which the user is behind.
    pub(crate) fn skip(&mut self, mut deliver: impl FnMut(u64, &Bytes)) -> Option<u64> {
        let gap = self.gap.take()?;
        let next = gap.held.front().map_or(gap.target, |(seq, _)| seq - 1);
        self.last = self.last.max(Some(next));
        let mut last = next;
        for (seq, frame) in &gap.held {
            deliver(*seq, frame);
            last = *seq;
        }
        self.last = self.last.max(Some(last));
        Some(next)
    }

    /// Returns the seq after which to read the missing events. `None` if none are missing.
    pub(crate) fn missing_after(&self) -> Option<u64> {
        self.gap.as_ref().and(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(last: Option<u64>) -> UserInRoom {
        UserInRoom { last, ..UserInRoom::new(UserKey::default()) }
    }

    fn frame() -> Bytes {
        Bytes::from_static(b"x")
    }

    fn fill(member: &mut UserInRoom, seqs: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        let events: Vec<(u64, Bytes)> = seqs.map(|seq| (seq, frame())).collect();
        let mut given = Vec::new();
        member.fill(&events, |seq, _| given.push(seq));
        given
    }

    #[test]
    fn repeats_are_dropped_and_the_first_event_begins_anywhere() {
        let mut member = member(None);
        assert_eq!(member.receive(7, &frame(), 0), Offer::Deliver);
        assert_eq!(member.receive(7, &frame(), 0), Offer::Repeat);
        assert_eq!(member.receive(8, &frame(), 0), Offer::Deliver);
    }

    #[test]
    fn what_follows_a_gap_waits_until_the_gap_is_filled() {
        let mut member = member(Some(3));
        assert_eq!(member.receive(6, &frame(), 40), Offer::HeldEvent { new: true });
        assert_eq!(member.receive(7, &frame(), 41), Offer::HeldEvent { new: false });
        assert_eq!((member.missing_after(), member.gap.as_ref().and_then(|g| g.from)), (Some(3), Some(40)));
        assert_eq!(member.receive(4, &frame(), 42), Offer::HeldEvent { new: false });
        assert_eq!(fill(&mut member, 4..=5), [4, 5, 6, 7]);
        assert!(member.gap.is_none());
        assert_eq!(member.receive(8, &frame(), 43), Offer::Deliver);
    }

    #[test]
    fn a_page_that_overlaps_gives_nothing_twice() {
        let mut member = member(Some(3));
        member.receive(6, &frame(), 0);
        assert_eq!(fill(&mut member, 2..=4), [4]);
        assert_eq!(fill(&mut member, 4..=9), [5, 6, 7, 8, 9]);
        assert!(member.gap.is_none());
        assert_eq!(member.receive(9, &frame(), 0), Offer::Repeat);
    }

    #[test]
    fn a_head_ahead_is_a_gap_without_anything_held_back() {
        let mut member = member(Some(3));
        assert!(!member.note_head(3));
        assert!(member.note_head(5));
        assert!(!member.note_head(6));
        assert_eq!(fill(&mut member, 4..=5), [4, 5]);
        assert!(member.gap.is_some());
        assert_eq!(fill(&mut member, 6..=6), [6]);
        assert!(member.gap.is_none());
    }

    #[test]
    fn what_cannot_be_had_is_skipped() {
        let mut member = member(Some(3));
        member.receive(6, &frame(), 0);
        let mut given = Vec::new();
        assert_eq!(member.skip(|seq, _| given.push(seq)), Some(5));
        assert_eq!((given, member.last), (vec![6], Some(6)));
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut member = member(Some(3));
        let long = Bytes::from(vec![b'x'; HELD_BYTES / 2]);
        assert_eq!(member.receive(5, &long, 0), Offer::HeldEvent { new: true });
        assert_eq!(member.receive(6, &long, 0), Offer::HeldEvent { new: false });
        assert_eq!(member.receive(7, &long, 0), Offer::Skipped);
        assert_eq!((member.last, member.gap.is_none()), (Some(7), true));
    }
}
