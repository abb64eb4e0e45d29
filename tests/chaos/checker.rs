//! Proves from what clients saw and what the store holds that no promise was broken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sendpi_client::EventFrame;
use sendpi_model::Millis;
use sendpi_tests::{Push, Timeline};

use crate::call_log::{Call, CallOutcome};

/// Who was without a session for so long before an event counts as offline to everybody: no process may take longer to
/// notice that a session, its node or its worker is gone.
pub(crate) const SURELY_GONE: Duration = Duration::from_secs(45);
/// So long after the answer the next owner may hand an event out again, to who has come back meanwhile.
const SOON: Duration = Duration::from_secs(60);

/// Where an event is, from whom, and of which time.
type Place<'a> = (&'a str, u64, &'a str, Millis);

/// What one device saw.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) user: String,
    pub(crate) device: String,
    /// The rooms as it saw them.
    pub(crate) rooms: BTreeMap<String, Timeline>,
    /// When it was online or tried to be: from, to.
    pub(crate) online: Vec<(Millis, Millis)>,
    /// Violations that it noticed itself: of the order, and of what a resume promises.
    pub(crate) violations: Vec<String>,
}

/// Everything that is known of a run at its end.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) calls: Vec<Call>,
    pub(crate) witnesses: Vec<Witness>,
    /// The events of each room in the store, in order.
    pub(crate) truth: BTreeMap<String, Vec<EventFrame>>,
    /// The members of all rooms.
    pub(crate) members: BTreeSet<String>,
    pub(crate) pushes: BTreeSet<Push>,
}

impl Evidence {
    /// Returns every violation of a promise.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for (room, events) in &self.truth {
            violations.extend(dense(room, events));
        }
        violations.extend(self.calls());
        violations.extend(self.order());
        for witness in &self.witnesses {
            let who = format!("{} of {}", witness.device, witness.user);
            violations.extend(witness.violations.iter().map(|violation| format!("{who}: {violation}")));
            for (room, events) in &self.truth {
                violations.extend(self.seen(witness, room, events).into_iter().map(|wrong| format!("{who}: {wrong}")));
            }
        }
        violations.extend(self.unreached());
        violations
    }

    /// Nothing acknowledged is missing, what failed is not there, and nothing is there twice.
    fn calls(&self) -> Vec<String> {
        let mut stored: HashMap<&str, Vec<Place<'_>>> = HashMap::new();
        for (room, events) in &self.truth {
            for event in events {
                if let (Some(text), Some(seq)) = (event.text(), event.seq) {
                    stored.entry(text).or_default().push((room, seq, event.from.as_str(), event.at));
                }
            }
        }
        let mut violations = Vec::new();
        for call in &self.calls {
            let found = stored.remove(call.text.as_str()).unwrap_or_default();
            let right = match &call.outcome {
                CallOutcome::Done { seq, at } => found == [(call.room.as_str(), *seq, call.user.as_str(), *at)],
                // Who sends is a member, and nobody is held to a rate.
                CallOutcome::Failed(_) => false,
                CallOutcome::Unknown(_) => {
                    found.len() <= 1
                        && found.iter().all(|(room, _, from, _)| (*room, *from) == (&call.room, &call.user))
                }
            };
            if !right {
                violations.push(format!("the store has it at {found:?}: {call:?}"));
            }
        }
        violations.extend(stored.into_keys().map(|text| format!("nobody sent {text:?}, and it is stored")));
        violations
    }

    /// What was sent after something was acknowledged follows it in the timeline.
    fn order(&self) -> Vec<String> {
        let mut done: Vec<(&str, u64, &Call)> = Vec::new();
        for call in &self.calls {
            if let CallOutcome::Done { seq, .. } = call.outcome {
                done.push((&call.room, seq, call));
            }
        }
        done.sort_by_key(|(room, seq, _)| (*room, *seq));
        let mut violations = Vec::new();
        for room in done.chunk_by(|a, b| a.0 == b.0) {
            let mut first_ended: Option<&Call> = None;
            for (_, _, call) in room.iter().rev() {
                if let Some(later) = first_ended.filter(|later| later.ended < call.began) {
                    violations.push(format!("{later:?} was done before this began, and comes after it: {call:?}"));
                }
                first_ended = Some(first_ended.filter(|first| first.ended <= call.ended).unwrap_or(call));
            }
        }
        violations
    }

    /// What a device saw is what everybody saw, and all of it.
    fn seen(&self, witness: &Witness, room: &str, truth: &[EventFrame]) -> Vec<String> {
        let Some(timeline) = witness.rooms.get(room) else { return Vec::new() };
        let mut violations = Vec::new();
        for (seq, event) in timeline.events() {
            let stored = place(truth, *seq);
            if stored != Some(event) {
                violations.push(format!("{room}: {seq} was {event:?}, and the store has {stored:?}"));
            }
        }
        let first = first_due(timeline);
        let missing = truth.iter().filter_map(|event| event.seq);
        let missing: Vec<u64> =
            missing.filter(|seq| *seq >= first && !timeline.events().contains_key(seq)).take(5).collect();
        if !missing.is_empty() {
            violations.push(format!("{room}: {missing:?} never came"));
        }
        violations
    }

    /// Every member got each message, or was pushed it. Who was surely offline was pushed it.
    pub(crate) fn unreached(&self) -> Vec<String> {
        let told = self.told();
        let mut violations = Vec::new();
        for (room, events) in &self.truth {
            for event in events.iter().filter(|event| event.kind == "message") {
                let Some(seq) = event.seq else { continue };
                let told = told.get(&(room.as_str(), seq)).copied();
                for user in self.members.iter().filter(|user| *user.as_str() != *event.from.as_str()) {
                    if self.pushes.contains(&(room.clone(), seq, user.clone())) {
                        continue;
                    }
                    if let Some(wrong) = self.unpushed(user, room, seq, (event.at, told)) {
                        violations.push(format!("{room}: {seq} of {}, {wrong}", event.at.0));
                    }
                }
            }
        }
        violations
    }

    /// When each event was first told to anybody: its sender by the answer, or somebody else.
    fn told(&self) -> HashMap<(&str, u64), Millis> {
        let mut told: HashMap<(&str, u64), Millis> = HashMap::new();
        let mut note = |room, seq, at: Millis| {
            told.entry((room, seq)).and_modify(|first| *first = at.min(*first)).or_insert(at);
        };
        for call in &self.calls {
            if let CallOutcome::Done { seq, .. } = call.outcome {
                note(call.room.as_str(), seq, call.ended);
            }
        }
        for witness in &self.witnesses {
            for (room, timeline) in &witness.rooms {
                for seq in timeline.events().keys() {
                    timeline.came(*seq).into_iter().for_each(|came| note(room.as_str(), *seq, came));
                }
            }
        }
        told
    }

    /// Returns what is wrong with not having pushed a user an event that was stored and told at these times.
    fn unpushed(&self, user: &str, room: &str, seq: u64, (at, told): (Millis, Option<Millis>)) -> Option<String> {
        let told = told.unwrap_or(Millis(u64::MAX));
        let soon = Millis(told.0.saturating_add(SOON.as_millis() as u64));
        let gone_since = Millis(at.0.saturating_sub(SURELY_GONE.as_millis() as u64));
        let own: Vec<&Witness> = self.witnesses.iter().filter(|witness| witness.user == user).collect();
        let mut online = own.iter().flat_map(|witness| &witness.online);
        if told.0 < u64::MAX && !online.any(|(from, to)| *from <= soon && *to >= gone_since) {
            return Some(format!("{user} was offline, and was not pushed it"));
        }
        // Who signs in for the first time just then is told by the seq of the room in the welcome.
        let is_welcomed = |witness: &Witness, timeline: &Timeline| {
            seq < first_due(timeline) && witness.online.iter().any(|(from, to)| *from <= at && at <= *to)
        };
        let came = own.iter().any(|witness| {
            let timeline = witness.rooms.get(room);
            timeline.is_some_and(|timeline| timeline.came(seq).is_some() || is_welcomed(witness, timeline))
        });
        // Who was online got it live, or by a resume, as soon as the room's owner could be reached.
        (!came).then(|| format!("{user} neither got it nor was pushed it"))
    }
}

/// Returns the first seq that must have come. What was there before the device first signed in need not have.
fn first_due(timeline: &Timeline) -> u64 {
    let first = timeline.events().keys().next().copied();
    first.or_else(|| timeline.last().map(|last| last + 1)).unwrap_or(1)
}

/// Returns the event at a seq.
fn place(events: &[EventFrame], seq: u64) -> Option<&EventFrame> {
    let at = events.binary_search_by_key(&Some(seq), |event| event.seq).ok()?;
    events.get(at)
}

/// Seqs are dense from 1 on, counts rise with messages only, and times never fall.
fn dense(room: &str, events: &[EventFrame]) -> Option<String> {
    let (mut seq, mut count, mut at) = (0, 0, Millis(0));
    for event in events {
        count += u64::from(event.kind == "message");
        seq += 1;
        if (event.seq, event.count) != (Some(seq), Some(count)) || event.at < at {
            return Some(format!("{room}: the store has {event:?} where {seq} with the count {count} is due"));
        }
        at = event.at;
    }
    None
}

#[cfg(test)]
mod tests {
    use sendpi_model::Code;
    use serde_json::json;

    use super::*;

    fn event(seq: u64, text: &str, at: u64) -> EventFrame {
        serde_json::from_value(json!({
            "room": "r", "seq": seq, "count": seq, "kind": "message", "from": "ann", "at": at, "body": {"text": text},
        }))
        .unwrap()
    }

    fn call(text: &str, outcome: CallOutcome) -> Call {
        let (user, room) = ("ann".to_owned(), "r".to_owned());
        Call { user, room, text: text.to_owned(), began: Millis(99_000), ended: Millis(100_000), tries: 1, outcome }
    }

    fn done(seq: u64) -> CallOutcome {
        CallOutcome::Done { seq, at: Millis(100_000) }
    }

    /// A run of one message, in which bob was offline and pushed it.
    fn run() -> Evidence {
        Evidence {
            calls: vec![call("hi", done(1))],
            witnesses: Vec::new(),
            truth: BTreeMap::from([("r".to_owned(), vec![event(1, "hi", 100_000)])]),
            members: ["ann", "bob"].map(str::to_owned).into(),
            pushes: BTreeSet::from([("r".to_owned(), 1, "bob".to_owned())]),
        }
    }

    fn found(run: &Evidence, words: &str) {
        let violations = run.violations();
        assert!(violations.iter().any(|violation| violation.contains(words)), "{violations:?}");
    }

    #[test]
    fn a_run_without_a_violation_has_none() {
        assert_eq!(run().violations(), Vec::<String>::new());
    }

    #[test]
    fn what_was_acknowledged_and_is_missing_or_elsewhere_is_found() {
        for truth in [vec![], vec![event(1, "else", 100_000), event(2, "hi", 100_000)]] {
            found(&Evidence { truth: BTreeMap::from([("r".to_owned(), truth)]), ..run() }, "the store has it at");
        }
    }

    #[test]
    fn what_failed_and_is_there_and_what_is_there_twice_is_found() {
        found(
            &Evidence { calls: vec![call("hi", CallOutcome::Failed(Code::Forbidden))], ..run() },
            "the store has it at",
        );
        let twice = BTreeMap::from([("r".to_owned(), vec![event(1, "hi", 100_000), event(2, "hi", 100_000)])]);
        let unknown = call("hi", CallOutcome::Unknown("closed".to_owned()));
        found(&Evidence { truth: twice, calls: vec![unknown.clone()], ..run() }, "the store has it at");
        assert_eq!(Evidence { calls: vec![unknown], ..run() }.violations(), Vec::<String>::new());
        found(&Evidence { calls: Vec::new(), ..run() }, "nobody sent");
    }

    #[test]
    fn what_was_sent_later_and_comes_before_is_found() {
        let truth = BTreeMap::from([("r".to_owned(), vec![event(1, "late", 100_000), event(2, "hi", 100_000)])]);
        let late = Call { began: Millis(100_001), ended: Millis(100_002), ..call("late", done(1)) };
        found(&Evidence { truth, calls: vec![call("hi", done(2)), late], ..run() }, "comes after it");
    }

    #[test]
    fn an_answer_with_another_time_or_to_somebody_else_is_found() {
        let wrong = CallOutcome::Done { seq: 1, at: Millis(100_001) };
        found(&Evidence { calls: vec![call("hi", wrong)], ..run() }, "the store has it at");
        let of_bob = Call { user: "bob".to_owned(), ..call("hi", done(1)) };
        found(&Evidence { calls: vec![of_bob], ..run() }, "the store has it at");
    }

    #[test]
    fn a_hole_and_a_time_that_falls_are_found() {
        for truth in [vec![event(2, "hi", 100_000)], vec![event(1, "x", 100_001), event(2, "hi", 100_000)]] {
            found(&Evidence { truth: BTreeMap::from([("r".to_owned(), truth)]), ..run() }, "is due");
        }
    }

    #[test]
    fn who_was_offline_and_not_pushed_is_found() {
        found(&Evidence { pushes: BTreeSet::new(), ..run() }, "bob was offline");
        let online = Witness {
            user: "bob".to_owned(),
            device: "phone".to_owned(),
            rooms: BTreeMap::new(),
            online: vec![(Millis(50_000), Millis(200_000))],
            violations: Vec::new(),
        };
        found(&Evidence { pushes: BTreeSet::new(), witnesses: vec![online], ..run() }, "neither got it");
    }
}
