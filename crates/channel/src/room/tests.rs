//! The room as data: requests in, batches out.

use bytes::Bytes;
use sendpi_bus::presence::Online;
use sendpi_model::flow::FlowRequest;
use sendpi_model::link::{AudienceReason, LinkItem, read_message};
use sendpi_model::{Access, Fields, Verb};

use super::*;
use crate::dispatch::{DispatchOutcome, dispatch};
use crate::outbound_links::OutboundLinks;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn ask(who: &str, json: &str) -> QueuedRequest {
    let fields = Fields::parse(json.as_bytes()).unwrap();
    let verb = Verb::read(&fields.required::<String>("op").unwrap(), &fields).unwrap().unwrap();
    let room = RoomId::parse("r").unwrap();
    let to = AnswerAddress { node: node("n1"), partition: Partition(0), n: 1 };
    QueuedRequest {
        to: Some(to),
        pending_at: None,
        request: FlowRequest { n: 1, room, user: user(who), first: None, verb },
    }
}

/// A room and the links that it is dispatched to.
struct TestRoom {
    room: Room,
    links: OutboundLinks,
    clock: u64,
}

impl TestRoom {
    /// Creates a room of ann, bob and eve, with ann on node n1.
    fn new() -> Self {
        let room = Room::open(RoomId::parse("r").unwrap(), 1, StoredRoom::default());
        let mut table = Self { room, links: OutboundLinks::default(), clock: 1_000 };
        table.online(
            &[("ann", "n1", 1)],
            vec![ask("ann", r#"{"op":"create","name":"r","members":["bob","eve"],"nonce":"made"}"#)],
        );
        table.told();
        table
    }

    fn online(&mut self, online: &[(&str, &str, u64)], waiting: Vec<QueuedRequest>) -> (Batch, DispatchOutcome) {
        self.clock += 1;
        let online: Online = online.iter().map(|(u, n, s)| (user(u), vec![(node(n), *s)])).collect();
        let mut batch = self.room.decide(waiting, Millis(self.clock), &Lookups::new());
        let steps = std::mem::take(&mut batch.steps);
        let done = dispatch(&mut self.room, Partition(0), steps, &[], &online, &mut self.links);
        (batch, done)
    }

    fn run(&mut self, waiting: Vec<QueuedRequest>) -> DispatchOutcome {
        self.online(&[], waiting).1
    }

    /// Returns everything that was put on the links since the last call, by node.
    fn told(&mut self) -> Vec<(String, LinkItem)> {
        let mut told = Vec::new();
        for (node, messages) in self.links.drain() {
            for message in messages {
                let (_, items) = read_message(message).unwrap();
                told.extend(items.map(|item| (node.to_string(), item.unwrap())));
            }
        }
        told
    }

    /// Returns the answers on the links, as JSON.
    fn answers(&mut self) -> Vec<serde_json::Value> {
        let answer = |item| match item {
            LinkItem::Answer { frame, .. } => Some(serde_json::from_slice(&frame).unwrap()),
            _ => None,
        };
        self.told().into_iter().filter_map(|(_, item)| answer(item)).collect()
    }
}

#[test]
fn a_created_room_has_its_members_and_tells_those_who_are_online() {
    let room = Room::open(RoomId::parse("r").unwrap(), 1, StoredRoom::default());
    let mut table = TestRoom { room, links: OutboundLinks::default(), clock: 0 };
    let create = r#"{"op":"create","name":"r","members":["bob"],"nonce":"made"}"#;
    let (batch, _) = table.online(&[("bob", "n2", 7)], vec![ask("ann", create)]);
    assert_eq!(batch.newcomers, [user("ann"), user("bob")]);
    assert_eq!((table.room.head.seq, table.room.head.count), (1, 0));
    assert_eq!(table.room.members[&user("ann")].role, Role::Owner);
    let told = table.told();
    let added = told.iter().find_map(|(node, item)| match item {
        LinkItem::Added(added) => Some((node.as_str(), added.user.as_str(), added.reason, added.seq)),
        _ => None,
    });
    assert_eq!(added, Some(("n2", "bob", AudienceReason::Joined, 1)));
    // The same creation again is a repeat. One by another user is a conflict.
    table.run(vec![ask("ann", create), ask("eve", create)]);
    let answers = table.answers();
    assert_eq!((answers[0]["repeat"].as_bool(), answers[1]["code"].as_str()), (Some(true), Some("conflict")));
}

#[test]
fn repeated_nonce_gets_the_first_answer() {
    let mut table = TestRoom::new();
    let send = || ask("ann", r#"{"op":"send","nonce":"n","body":{}}"#);
    table.run(vec![send(), send()]);
    table.run(vec![send()]);
    let answers = table.answers();
    let seqs: Vec<_> = answers.iter().map(|a| (a["seq"].as_u64(), a["repeat"].as_bool())).collect();
    assert_eq!(seqs, [(Some(2), None), (Some(2), Some(true)), (Some(2), Some(true))]);
    assert_eq!(table.room.head.seq, 2);
}

#[test]
fn the_same_nonce_of_another_sender_is_another_event() {
    let mut table = TestRoom::new();
    table.run(vec![
        ask("ann", r#"{"op":"send","nonce":"n","body":{}}"#),
        ask("bob", r#"{"op":"send","nonce":"n","body":{}}"#),
    ]);
    assert_eq!(table.room.head.seq, 3);
}

#[test]
fn an_event_goes_once_to_each_node_and_is_pushed_to_whoever_is_offline() {
    let mut table = TestRoom::new();
    table.room.attach(&user("bob"), &node("n1"), 1);
    table.room.attach(&user("bob"), &node("n2"), 1);
    let done = table.run(vec![ask("ann", r#"{"op":"send","body":{"text":"hi"}}"#)]);
    let told = table.told();
    let mut events: Vec<&str> =
        told.iter().filter(|(_, i)| matches!(i, LinkItem::Event { seq: 2, .. })).map(|(n, _)| n.as_str()).collect();
    events.sort_unstable();
    assert_eq!(events, ["n1", "n2"]);
    let pushed: Vec<_> = done.pushes.iter().map(|push| (push.event.head.seq, push.users.clone())).collect();
    assert_eq!(pushed, [(2, vec![user("eve")])]);
}

#[test]
fn who_attaches_is_told_the_head_dispatched_so_far_and_gets_what_follows() {
    let mut table = TestRoom::new();
    table.run(vec![
        ask("ann", r#"{"op":"send","body":{}}"#),
        ask("bob", r#"{"op":"attach","signin":3}"#),
        ask("ann", r#"{"op":"send","body":{}}"#),
    ]);
    let told = table.told();
    let order: Vec<(&str, u64)> = told
        .iter()
        .filter_map(|(_, item)| match item {
            LinkItem::Event { seq, .. } => Some(("event", *seq)),
            LinkItem::Added(added) => Some(("added", added.seq)),
            _ => None,
        })
        .collect();
    assert_eq!(order, [("event", 2), ("added", 2), ("event", 3)]);
}

#[test]
fn an_attach_to_an_inactive_room_is_told_so() {
    let mut table = TestRoom::new();
    table.room.active = false;
    table.run(vec![ask("bob", r#"{"op":"attach","signin":3}"#)]);
    let answers = table.answers();
    assert_eq!((answers[0]["live"].as_bool(), answers[0]["info"]["seq"].as_u64()), (None, Some(1)));
    assert!(!table.room.audience.contains(&user("bob")));
}

#[test]
fn a_stranger_sees_no_room_and_in_an_open_one_that_it_is_no_member() {
    let mut table = TestRoom::new();
    let peek = || ask("zoe", r#"{"op":"peek"}"#);
    table.run(vec![peek()]);
    assert_eq!(table.answers()[0]["code"], "no_such_room");
    table.room.row.as_mut().unwrap().access = Access::Open;
    table.run(vec![peek(), ask("zoe", r#"{"op":"join"}"#), peek()]);
    let answers = table.answers();
    assert_eq!(answers[0]["code"], "not_a_member");
    assert_eq!((answers[1]["seq"].as_u64(), answers[2]["info"]["role"].as_str()), (Some(2), Some("member")));
}

#[test]
fn a_leave_is_its_event_and_the_last_owner_hands_over() {
    let mut table = TestRoom::new();
    let (batch, _) = table.online(&[], vec![ask("ann", r#"{"op":"leave"}"#)]);
    assert_eq!(table.room.members[&user("bob")].role, Role::Owner);
    assert_eq!(table.room.head.seq, 3);
    let told = table.told();
    assert!(
        told.iter()
            .any(|(_, item)| matches!(item, LinkItem::Removed(removed) if removed.reason == AudienceReason::Left))
    );
    assert!(batch.after.iter().any(|row| matches!(row, Row::Member(row) if row.role.is_none())));
}

#[test]
fn a_bounce_is_pushed_unless_the_user_is_in_l1_again() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    let bounce = || ask("bob", r#"{"op":"bounce","seq":2}"#);
    assert_eq!(table.run(vec![bounce()]).pushes.len(), 1);
    table.room.attach(&user("bob"), &node("n2"), 1);
    assert_eq!(table.run(vec![bounce()]).pushes.len(), 0);
}

#[test]
fn history_is_oldest_first_and_tells_whether_there_is_more() {
    let mut table = TestRoom::new();
    for _ in 0..9 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    table.answers();
    table.run(vec![
        ask("bob", r#"{"op":"history","limit":3}"#),
        ask("bob", r#"{"op":"history","before":4,"limit":5}"#),
        ask("bob", r#"{"op":"history","after":2,"limit":3}"#),
        ask("bob", r#"{"op":"history","after":10,"limit":3}"#),
    ]);
    let pages: Vec<(Vec<u64>, bool)> = table
        .answers()
        .iter()
        .map(|page| {
            let seqs = page["events"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
            (seqs, page["more"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(pages, [(vec![8, 9, 10], true), (vec![1, 2, 3], false), (vec![3, 4, 5], true), (vec![], false)]);
}

#[test]
fn a_nonce_that_the_tail_does_not_know_is_looked_for_back_to_the_retrys_seq() {
    let mut table = TestRoom::new();
    for _ in 0..1_200 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    let first = table.room.tail.first_seq();
    assert!(first > 1);
    let retry = |seq: u64| [ask("ann", &format!(r#"{{"op":"send","nonce":"old","retry":{seq},"body":{{}}}}"#))];
    assert_eq!(table.room.lookup(&retry(first), &Lookups::new()), None);
    let lookup = table.room.lookup(&retry(5), &Lookups::new()).unwrap();
    assert_eq!((lookup.from, lookup.to), (6, first - 1));
    assert_eq!(table.room.lookup(&[ask("ann", r#"{"op":"send","nonce":"new","body":{}}"#)], &Lookups::new()), None);
    let known = lookup.finish(Lookups::new());
    assert_eq!(table.room.lookup(&retry(5), &known), None);
}

#[test]
fn a_look_up_for_several_goes_back_as_far_as_the_farthest_needs() {
    let mut table = TestRoom::new();
    for _ in 0..1_200 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    let by_seq = ask("ann", r#"{"op":"send","nonce":"a","retry":5,"body":{}}"#);
    let mut by_time = ask("bob", r#"{"op":"send","nonce":"b","body":{}}"#);
    by_time.request.first = Some(Millis(table.clock - 1_100));
    for waiting in [[&by_seq, &by_time], [&by_time, &by_seq]] {
        let lookup = table.room.lookup(waiting, &Lookups::new()).unwrap();
        assert_eq!((lookup.since, lookup.wanted.len()), (None, 2));
        assert!(lookup.from <= 6);
    }
    assert_eq!(table.room.lookup([&by_time], &Lookups::new()).unwrap().since, by_time.request.first);
}

#[test]
fn a_leave_that_is_sent_again_was_done_the_first_time() {
    let mut table = TestRoom::new();
    table.run(vec![ask("bob", r#"{"op":"leave"}"#)]);
    table.answers();
    let mut again = ask("bob", r#"{"op":"leave"}"#);
    again.request.first = Some(Millis(1));
    table.run(vec![again, ask("bob", r#"{"op":"leave"}"#)]);
    let answers = table.answers();
    assert_eq!((answers[0]["op"].as_str(), answers[1]["code"].as_str()), (Some("ok"), Some("no_such_room")));
}

#[test]
fn who_left_in_the_batch_of_its_attach_is_not_in_the_audience() {
    let mut table = TestRoom::new();
    table.run(vec![ask("bob", r#"{"op":"attach","signin":1}"#), ask("bob", r#"{"op":"leave"}"#)]);
    assert!(!table.told().iter().any(|(_, item)| matches!(item, LinkItem::Added(added) if added.user == user("bob"))));
}

#[test]
fn into_a_room_that_is_not_open_nobody_may_join() {
    let table = TestRoom::new();
    assert!(!table.room.may_join(&user("zoe")) && !table.room.may_join(&user("ann")));
}

#[test]
fn a_retry_from_too_far_back_is_a_conflict_and_never_a_second_event() {
    let mut table = TestRoom::new();
    table.room.head.seq = 30_000;
    table.run(vec![ask("ann", r#"{"op":"send","nonce":"old","retry":5,"body":{}}"#)]);
    assert_eq!(table.answers()[0]["code"], "conflict");
    assert_eq!(table.room.head.seq, 30_000);
}

#[test]
fn opening_heals_a_join_whose_row_a_crash_took() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"invite","users":["zoe"]}"#)]);
    let opened = StoredRoom {
        row: table.room.row.clone(),
        tail: table.room.tail.iter().map(|event| (1, event.clone())).collect(),
        ..StoredRoom::default()
    };
    let room = Room::open(table.room.id.clone(), 2, opened);
    assert_eq!(room.members.keys().map(UserId::as_str).collect::<Vec<_>>(), ["ann", "bob", "eve", "zoe"]);
    assert_eq!(room.members[&user("ann")].role, Role::Owner);
}

#[test]
fn the_tail_ends_at_the_first_hole_above_the_head_row() {
    let mut table = TestRoom::new();
    for _ in 0..5 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    let rows = |seqs: &[u64]| -> Vec<(u64, Event)> {
        seqs.iter().map(|seq| (1, table.room.tail.get(*seq).unwrap().clone())).collect()
    };
    let kept = |seqs: &[u64], head_row| -> Vec<u64> {
        cut_at_hole(rows(seqs), head_row).iter().map(|(_, event)| event.head.seq).collect()
    };
    assert_eq!(kept(&[1, 2, 3, 5, 6], 2), [1, 2, 3]);
    assert_eq!(kept(&[1, 3, 4], 3), [3, 4]);
    assert!(kept(&[4, 5], 2).is_empty());
    assert_eq!(kept(&[3, 4], 2), [3, 4]);
    // An event that the head row counts was there, whatever became of its own row. So what follows it was answered.
    assert_eq!(kept(&[1, 2, 4, 5], 3), [4, 5]);
}

#[test]
fn a_frame_is_encoded_once_and_stored_as_it_was_sent() {
    let mut table = TestRoom::new();
    let (batch, _) = table.online(&[], vec![ask("ann", r#"{"op":"send","body":{ "text":"hi" }}"#)]);
    let Some(Row::Event(_, stored)) = batch.events.first() else { panic!("no event row") };
    let told = table.told();
    let sent: Option<&Bytes> = told.iter().find_map(|(_, item)| match item {
        LinkItem::Event { frame, .. } => Some(frame),
        _ => None,
    });
    assert_eq!(sent, Some(&stored.event.frame));
    assert!(std::str::from_utf8(&stored.event.frame).unwrap().ends_with(r#""body":{ "text":"hi" }}"#));
}

#[test]
fn joins_of_others_move_no_room_up_and_ones_own_message_moves_ones_marker() {
    let mut table = TestRoom::new();
    table.run(vec![ask("bob", r#"{"op":"send","nonce":"n","body":{}}"#)]);
    table.run(vec![ask("ann", r#"{"op":"invite","users":["dan"]}"#)]);
    let info = |name| table.room.info(&user(name)).unwrap();
    assert_eq!((info("ann").last_at, info("dan").last_at), (Millis(1_002), Millis(1_003)));
    assert_eq!((info("bob").marker.seq, info("bob").unread, info("ann").unread), (2, 0, 1));
    table.answers();
    table.run(vec![ask("bob", r#"{"op":"read","seq":1}"#)]);
    assert_eq!(table.answers()[0]["seq"], 2);
}

#[test]
fn who_is_in_too_many_rooms_joins_no_further_one() {
    let mut table = TestRoom::new();
    let invite = || vec![ask("ann", r#"{"op":"invite","users":["bob","dan","fay"]}"#)];
    assert_eq!(table.room.uncounted(&invite(), |user| user.as_str() == "fay"), [user("dan")]);
    table.room.note_counted(user("dan"), false);
    table.run(invite());
    let refused = &table.answers()[0];
    assert_eq!(refused["code"], "too_large");
    assert_eq!(refused["message"], "dan may be in at most 10000 rooms");
    assert_eq!(table.room.head.seq, 1);
    assert_eq!(table.room.uncounted(&invite(), |_| false), [user("dan"), user("fay")], "the next batch counts anew");
    assert!(table.room.uncounted(&[ask("bob", r#"{"op":"invite","users":["dan"]}"#)], |_| false).is_empty());
}
