//! What one client received of each room, checked as it comes: in order, with nothing missing and nothing twice.

use std::collections::BTreeMap;

use sendpi_client::{EventFrame, Resumed};
use sendpi_model::{Millis, RoomId, RoomInfo};

/// All rooms of one client, over all its connections.
#[derive(Debug, Default)]
pub struct Timelines {
    rooms: BTreeMap<RoomId, Timeline>,
    violations: Vec<String>,
}

/// One room as one client saw it.
#[derive(Debug, Default, Clone)]
pub struct Timeline {
    /// The seq that the next event pushed to this client must have, if that is known.
    next: Option<u64>,
    /// The highest seq that the first pushed event may have, if that is known.
    first_at_most: Option<u64>,
    /// Whether the user is no longer a member.
    removed: bool,
    /// Whether the server said that something was missed. Until that is read, pushed events may follow a gap.
    missed: bool,
    /// The seq up to which missed events were read. Events up to it may be pushed too.
    filled: u64,
    /// Every event by its seq, however it came.
    events: BTreeMap<u64, EventFrame>,
    /// The seqs that were pushed, live or by a replay, in the order of arrival.
    pushed: Vec<u64>,
    /// When each event first came, however it came.
    came: BTreeMap<u64, Millis>,
}

impl Timeline {
    /// Returns every known event by its seq.
    #[must_use]
    pub fn events(&self) -> &BTreeMap<u64, EventFrame> {
        &self.events
    }

    /// Returns the seqs that were pushed, live or by a replay, in the order of arrival.
    #[must_use]
    pub fn pushed(&self) -> &[u64] {
        &self.pushed
    }

    /// Returns when an event first came, pushed or read.
    #[must_use]
    pub fn came(&self, seq: u64) -> Option<Millis> {
        self.came.get(&seq).copied()
    }

    /// Returns the texts of the known messages, in order.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        self.events.values().filter_map(EventFrame::text).collect()
    }

    /// Returns the seq up to which this client has seen the room, or `None` if it has seen nothing yet.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.next.map(|next| next - 1)
    }
}

impl Timelines {
    /// Returns what is known about a room.
    #[must_use]
    pub fn room(&self, room: &str) -> Timeline {
        self.rooms.get(room).cloned().unwrap_or_default()
    }

    /// Takes away what is known about a room.
    pub(crate) fn take(&mut self, room: &str) -> Timeline {
        self.rooms.remove(room).unwrap_or_default()
    }

    /// Returns the seq up to which this client has seen a room, or `None` if it has seen nothing yet.
    #[must_use]
    pub fn last(&self, room: &str) -> Option<u64> {
        self.rooms.get(room)?.last()
    }

    /// Returns the violations of promises so far.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Returns what to resume: at most 100 rooms that the user is still in, each with the last seq seen.
    #[must_use]
    pub fn to_resume(&self) -> BTreeMap<String, u64> {
        let known = self.rooms.iter().filter(|(_, timeline)| !timeline.removed);
        known.filter_map(|(room, timeline)| Some((room.to_string(), timeline.last()?))).take(100).collect()
    }

    /// Notes that a session began. Rooms count as seen up to the seq that the welcome names, unless they were resumed.
    pub fn welcome(&mut self, rooms: &[RoomInfo], resumed: &BTreeMap<String, u64>) {
        for timeline in self.rooms.values_mut() {
            timeline.missed = false;
        }
        for info in rooms {
            let timeline = self.rooms.entry(info.room.clone()).or_default();
            timeline.removed = false;
            if !resumed.contains_key(info.room.as_str()) {
                timeline.next = Some(info.seq + 1);
            }
        }
    }

    /// Notes an event that was pushed, live or by a replay.
    pub fn push(&mut self, event: EventFrame) {
        let Some(seq) = event.seq else { return };
        let room = event.room.clone();
        let timeline = self.rooms.entry(room.clone()).or_default();
        let wrong = match (timeline.next, timeline.first_at_most) {
            _ if seq <= timeline.filled && timeline.pushed.last().is_none_or(|last| *last < seq) => None,
            _ if timeline.removed => Some("came after the user was no longer a member".to_owned()),
            (Some(next), _) if seq < next => Some(format!("came again or late: {next} was next")),
            (Some(next), _) if seq > next && !timeline.missed => Some(format!("came where {next} was next")),
            (None, Some(most)) if seq > most => Some(format!("came first, but {most} or an earlier one was next")),
            _ => None,
        };
        timeline.next = Some(timeline.next.unwrap_or_default().max(seq + 1));
        timeline.pushed.push(seq);
        if let Some(wrong) = wrong {
            self.violations.push(format!("{room}: {} {seq} {wrong}", event.kind));
        }
        self.keep(event);
    }

    /// Notes events that were read from the timeline. They must come oldest first and without a gap.
    pub fn history(&mut self, room: &str, events: &[EventFrame]) {
        for pair in events.windows(2) {
            if let (Some(a), Some(b)) = (pair[0].seq, pair[1].seq)
                && b != a + 1
            {
                self.violations.push(format!("{room}: a page of history has {b} after {a}"));
            }
        }
        for event in events {
            self.keep(event.clone());
        }
        if let (Some(timeline), Some(last)) = (self.rooms.get_mut(room), events.last().and_then(|event| event.seq))
            && timeline.missed
        {
            timeline.next = Some(timeline.next.unwrap_or_default().max(last + 1));
            timeline.filled = last;
            timeline.missed = false;
        }
    }

    /// Notes that a replay has ended, which must have reached the seq that the server says.
    pub fn resumed(&mut self, resumed: &Resumed) {
        for (room, state) in &resumed.rooms {
            let timeline = self.rooms.entry(room.clone()).or_default();
            timeline.missed |= state.truncated;
            timeline.removed |= state.gone;
            let (told, last) = (state.seq.unwrap_or_default(), timeline.last().unwrap_or_default());
            if !state.truncated && !state.gone && last < told {
                self.violations.push(format!("{room}: resumed up to {told}, but only {last} came"));
            }
        }
    }

    /// Notes the rooms in which the server says that this session missed something.
    pub fn heads(&mut self, rooms: &BTreeMap<RoomId, u64>) {
        for room in rooms.keys() {
            self.rooms.entry(room.clone()).or_default().missed = true;
        }
    }

    /// Notes that the user became a member.
    pub fn added(&mut self, info: &RoomInfo) {
        let timeline = self.rooms.entry(info.room.clone()).or_default();
        if timeline.removed || timeline.next.is_none() {
            timeline.next = None;
            timeline.first_at_most = Some(info.seq + 1);
        }
        timeline.removed = false;
    }

    /// Notes that the user is no longer a member.
    pub fn removed(&mut self, room: &RoomId) {
        self.rooms.entry(room.clone()).or_default().removed = true;
    }

    /// Keeps an event, and checks that a seq always stands for the same event and that the count rises only with events
    /// of the kinds `message` and `system`.
    fn keep(&mut self, event: EventFrame) {
        let (Some(seq), Some(count)) = (event.seq, event.count) else { return };
        let room = event.room.clone();
        let timeline = self.rooms.entry(room.clone()).or_default();
        timeline.came.entry(seq).or_insert_with(Millis::now);
        let events = &mut timeline.events;
        if let Some(known) = events.get(&seq).filter(|known| !is_same(known, &event)) {
            self.violations.push(format!("{room}: {seq} is {event:?}, and was {known:?} before"));
        }
        let counted = u64::from(matches!(event.kind.as_str(), "message" | "system"));
        if let Some(before) = seq.checked_sub(1).and_then(|before| events.get(&before)?.count)
            && before + counted != count
        {
            self.violations.push(format!("{room}: the count is {count} at {seq}, and {before} just before"));
        }
        events.insert(seq, event);
    }
}

/// Returns whether two events of one seq are the same one, of which an edit or a deletion may have changed the body
/// meanwhile.
fn is_same(known: &EventFrame, event: &EventFrame) -> bool {
    let revised = |event: &EventFrame| event.edited.max(event.deleted);
    if revised(known) == revised(event) {
        return known == event;
    }
    let plain = |event: &EventFrame| EventFrame { body: None, edited: None, deleted: None, ..event.clone() };
    plain(known) == plain(event)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64, text: &str) -> EventFrame {
        serde_json::from_value(json!({
            "room": "r", "seq": seq, "count": seq, "kind": "message", "from": "ann", "at": seq, "body": {"text": text},
        }))
        .unwrap()
    }

    fn resumed(state: serde_json::Value) -> Resumed {
        serde_json::from_value(json!({"rooms": {"r": state}})).unwrap()
    }

    fn pushed(seqs: &[u64]) -> Timelines {
        let mut timelines = Timelines::default();
        seqs.iter().for_each(|seq| timelines.push(event(*seq, "x")));
        timelines
    }

    #[test]
    fn what_comes_in_order_is_fine() {
        let timelines = pushed(&[4, 5, 6]);
        assert!(timelines.violations().is_empty());
        assert_eq!((timelines.room("r").pushed(), timelines.room("r").last()), (&[4, 5, 6][..], Some(6)));
    }

    #[test]
    fn gaps_repeats_and_steps_back_are_noticed() {
        for (seqs, words) in
            [(&[4, 6][..], "came where 5 was next"), (&[4, 5, 5], "came again"), (&[4, 5, 4], "came again")]
        {
            let timelines = pushed(seqs);
            assert!(timelines.violations()[0].contains(words), "{:?}", timelines.violations());
        }
    }

    #[test]
    fn a_replay_must_reach_the_seq_that_it_tells() {
        let mut timelines = pushed(&[4]);
        timelines.resumed(&resumed(json!({"seq": 4})));
        assert!(timelines.violations().is_empty());
        timelines.resumed(&resumed(json!({"seq": 5})));
        assert_eq!(timelines.violations(), ["r: resumed up to 5, but only 4 came"]);
    }

    #[test]
    fn a_truncated_replay_may_leave_a_hole_until_history_was_read() {
        let mut timelines = pushed(&[4]);
        timelines.resumed(&resumed(json!({"seq": 9, "truncated": true})));
        timelines.history("r", &[event(8, "x"), event(9, "x")]);
        timelines.push(event(9, "x"));
        timelines.push(event(10, "x"));
        assert!(timelines.violations().is_empty(), "{:?}", timelines.violations());
        timelines.push(event(12, "x"));
        assert_eq!(timelines.violations().len(), 1);
    }

    #[test]
    fn one_seq_is_one_event() {
        let mut timelines = pushed(&[4]);
        timelines.history("r", &[event(4, "another")]);
        assert!(timelines.violations()[0].contains("was"), "{:?}", timelines.violations());
    }
}
