//! The plan of a resume: which rooms are replayed from where, and what the client is told in the end. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::server_frame::{Resumed, ResumedRoom};
use sendpi_model::{RoomId, limits};

/// What was found out about a room that a client wants to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundRoom {
    /// The seq of the room's head.
    Head(u64),
    /// The user is not in the room, or there is no such room.
    Gone,
    /// The room's owner did not answer.
    Unreachable,
}

/// A room that is to be replayed.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    room: RoomId,
    /// The last event that the client has.
    after: u64,
    head: u64,
}

/// What the client is told about a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The client has everything up to this seq.
    At(u64),
    /// The client has to page through `history` itself.
    Truncated {
        /// The room's head, or the client's own seq if the owner did not answer.
        head: u64,
        /// What the client has, and must not get again.
        has: u64,
    },
    /// The user is not in the room, or there is no such room.
    Gone,
}

/// The plan of one resume, and its progress.
#[derive(Debug, Default)]
pub(crate) struct ResumePlan {
    steps: VecDeque<Step>,
    outcomes: BTreeMap<RoomId, Outcome>,
}

impl ResumePlan {
    /// Plans the replay of the rooms that a client asks for, within the limits of events per room and per resume.
    pub(crate) fn plan(asked: &BTreeMap<RoomId, u64>, found: &HashMap<RoomId, FoundRoom>) -> Self {
        let mut replay = Self::default();
        let mut events = 0;
        for (room, seen) in asked {
            let outcome = match found.get(room).copied().unwrap_or(FoundRoom::Unreachable) {
                FoundRoom::Gone => Outcome::Gone,
                FoundRoom::Unreachable => Outcome::Truncated { head: *seen, has: *seen },
                FoundRoom::Head(head) if head == *seen || mutant(Mutant::ReplayOff) => Outcome::At(head),
                FoundRoom::Head(head) if head < *seen || mutant(Mutant::ReplayTruncated) => {
                    Outcome::Truncated { head, has: head.min(*seen) }
                }
                FoundRoom::Head(head) => {
                    let missing = usize::try_from(head - seen).unwrap_or(usize::MAX);
                    if missing > limits::RESUME_ROOM_EVENTS || events + missing > limits::RESUME_EVENTS {
                        Outcome::Truncated { head, has: *seen }
                    } else {
                        events += missing;
                        replay.steps.push_back(Step { room: room.clone(), after: *seen, head });
                        continue;
                    }
                }
            };
            replay.outcomes.insert(room.clone(), outcome);
        }
        replay
    }

    /// Returns the room whose next page is to be read, and the seq after which to read. `None` if no page is left.
    pub(crate) fn next(&self) -> Option<(&RoomId, u64)> {
        self.steps.front().map(|step| (&step.room, step.after))
    }

    /// Receives a page of the current room. Returns the events to send to the client, in order.
    pub(crate) fn page(&mut self, events: Vec<(u64, Bytes)>, more: bool) -> Vec<Bytes> {
        let Some(step) = self.steps.front_mut() else { return Vec::new() };
        let before = step.after;
        let mut frames = Vec::with_capacity(events.len());
        for (seq, frame) in events {
            if seq == step.after + 1 {
                step.after = seq;
                frames.push(frame);
            }
        }
        let (after, head) = (step.after, step.head);
        if after >= head {
            self.finish(Outcome::At(after));
        } else if !more || after == before {
            // The timeline does not continue where it should. The client has to use `history`.
            self.finish(Outcome::Truncated { head, has: after });
        }
        frames
    }

    /// Ends the current room because its owner refused a page. `gone` says that the user is not a member any more.
    pub(crate) fn refused(&mut self, gone: bool) {
        if let Some(step) = self.steps.front() {
            let (head, has) = (step.head, step.after);
            self.finish(if gone { Outcome::Gone } else { Outcome::Truncated { head, has } });
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(step) = self.steps.pop_front() {
            self.outcomes.insert(step.room, outcome);
        }
    }

    /// Returns the seq up to which the client has each room. The live events up to it must not come again.
    pub(crate) fn covered(&self) -> Vec<(RoomId, u64)> {
        let at = self.outcomes.iter().filter_map(|(room, outcome)| match outcome {
            Outcome::At(seq) | Outcome::Truncated { has: seq, .. } => Some((room.clone(), *seq)),
            Outcome::Gone => None,
        });
        at.collect()
    }

    /// Returns what the client is told about each room.
    pub(crate) fn resumed(&self) -> Resumed {
        let state = |outcome: &Outcome| match outcome {
            Outcome::At(seq) => ResumedRoom { seq: Some(*seq), ..ResumedRoom::default() },
            Outcome::Truncated { head, .. } => ResumedRoom { seq: Some(*head), truncated: true, gone: false },
            Outcome::Gone => ResumedRoom { gone: true, ..ResumedRoom::default() },
        };
        Resumed { rooms: self.outcomes.iter().map(|(room, outcome)| (room.clone(), state(outcome))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use sendpi_model::server_frame::OpFrame;

    use super::*;

    fn id(room: &str) -> RoomId {
        RoomId::parse(room).unwrap()
    }

    fn plan(rooms: &[(&str, u64, FoundRoom)]) -> ResumePlan {
        let asked = rooms.iter().map(|(room, seen, _)| (id(room), *seen)).collect();
        let found = rooms.iter().map(|(room, _, found)| (id(room), *found)).collect();
        ResumePlan::plan(&asked, &found)
    }

    fn events(seqs: std::ops::RangeInclusive<u64>) -> Vec<(u64, Bytes)> {
        seqs.map(|seq| (seq, Bytes::from(seq.to_string()))).collect()
    }

    fn told(replay: &ResumePlan) -> String {
        String::from_utf8(replay.resumed().to_frame()).unwrap()
    }

    #[test]
    fn pages_are_replayed_in_order_until_the_head_and_beyond() {
        let mut replay = plan(&[("a", 3, FoundRoom::Head(7))]);
        assert_eq!(replay.next(), Some((&id("a"), 3)));
        assert_eq!(replay.page(events(4..=5), true).len(), 2);
        assert_eq!(replay.next(), Some((&id("a"), 5)));
        assert_eq!(replay.page(events(5..=8), false), [Bytes::from("6"), Bytes::from("7"), Bytes::from("8")]);
        assert_eq!(replay.next(), None);
        assert_eq!(replay.covered(), [(id("a"), 8)]);
        assert_eq!(told(&replay), r#"{"op":"resumed","rooms":{"a":{"seq":8}}}"#);
    }

    #[test]
    fn what_is_too_far_behind_or_ahead_is_truncated_without_a_replay() {
        let replay =
            plan(&[("a", 0, FoundRoom::Head(1_001)), ("b", 9, FoundRoom::Head(8)), ("c", 4, FoundRoom::Head(4))]);
        assert_eq!(replay.next(), None);
        let rooms = r#"{"a":{"seq":1001,"truncated":true},"b":{"seq":8,"truncated":true},"c":{"seq":4}}"#;
        assert_eq!(told(&replay), format!(r#"{{"op":"resumed","rooms":{rooms}}}"#));
        assert_eq!(replay.covered(), [(id("a"), 0), (id("b"), 8), (id("c"), 4)]);
    }

    #[test]
    fn no_more_than_five_thousand_events_are_replayed() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let replay = plan(&names.map(|name| (name, 0, FoundRoom::Head(1_000))));
        assert_eq!(replay.steps.len(), 5);
        assert_eq!(replay.outcomes.get(&id("f")), Some(&Outcome::Truncated { head: 1_000, has: 0 }));
    }

    #[test]
    fn a_room_that_denies_the_user_is_gone_and_one_out_of_reach_is_for_history() {
        let mut replay =
            plan(&[("a", 1, FoundRoom::Gone), ("b", 1, FoundRoom::Unreachable), ("c", 1, FoundRoom::Head(3))]);
        replay.refused(true);
        let rooms = r#"{"a":{"gone":true},"b":{"seq":1,"truncated":true},"c":{"gone":true}}"#;
        assert_eq!(told(&replay), format!(r#"{{"op":"resumed","rooms":{rooms}}}"#));
    }

    #[test]
    fn a_timeline_that_does_not_go_on_ends_the_replay_of_its_room() {
        let mut replay = plan(&[("a", 1, FoundRoom::Head(5))]);
        assert!(replay.page(events(3..=5), false).is_empty());
        assert_eq!((replay.next(), replay.covered()), (None, vec![(id("a"), 1)]));
    }

    #[test]
    fn what_a_client_has_of_a_room_that_is_not_replayed_to_its_end_does_not_come_again() {
        let mut replay = plan(&[("a", 1, FoundRoom::Head(9)), ("b", 16, FoundRoom::Unreachable)]);
        replay.page(events(2..=5), true);
        replay.refused(false);
        assert_eq!(replay.covered(), [(id("a"), 5), (id("b"), 16)]);
    }
}
