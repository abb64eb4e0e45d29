//! The room as data: requests in, batches out.

mod bans;
mod changes;
mod counts;
mod direct;
mod nonces;
mod pushes;
mod retention;
mod revisions;

use std::collections::HashMap;

use bytes::Bytes;
use sendpi_bus::presence::Online;
use sendpi_model::flow::{FlowRequest, Requester};
use sendpi_model::link::{AudienceReason, LinkAck, LinkItem, read_message};
use sendpi_model::{Access, EventKind, Fields, Verb, limits};
use sendpi_store::{MemberRow, Row};

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
        own: None,
        request: FlowRequest { n: 1, room, user: user(who), is_service: false, first: None, verb },
    }
}

/// All rows that a room wrote, by their kind, their user and their stamp.
#[derive(Default)]
struct WrittenRows(HashMap<(&'static str, Option<UserId>, Stamp), Row>);

impl WrittenRows {
    /// Checks that no row has the stamp of another one with the same key.
    fn check(&mut self, row: Row) {
        let key = match &row {
            Row::Room(row) => ("room", None, row.stamp),
            Row::Member(row) => ("member", Some(row.user.clone()), row.stamp),
            Row::RoomOfUser(row) => ("room of user", Some(row.user.clone()), row.stamp),
            _ => return,
        };
        let other = self.0.entry(key).or_insert_with(|| row.clone());
        assert_eq!(*other, row, "two rows with one stamp");
    }
}

/// A room and the links that it is dispatched to.
struct TestRoom {
    room: Room,
    links: OutboundLinks,
    clock: u64,
    written: WrittenRows,
}

impl TestRoom {
    fn of(room: Room, clock: u64) -> Self {
        Self { room, links: OutboundLinks::default(), clock, written: WrittenRows::default() }
    }

    /// Creates a room of ann, bob and eve, with ann on node n1.
    fn new() -> Self {
        let room = Room::open(RoomId::parse("r").unwrap(), 1, StoredRoom::default());
        let mut table = Self::of(room, 1_000);
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
        let others = [self.room.order_rows(Millis(self.clock)), self.room.head_rows()].concat();
        let rows = batch.before.iter().chain(&batch.after).cloned().chain(others);
        rows.for_each(|row| self.written.check(row));
        let steps = std::mem::take(&mut batch.steps);
        let done = dispatch(&mut self.room, Partition(0), steps, &online, &mut self.links);
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
    let mut table = TestRoom::of(room, 0);
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
fn who_leaves_and_joins_again_in_one_batch_is_listed_by_the_row_with_the_highest_stamp() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"change","access":"open"}"#)]);
    let (batch, _) = table.online(&[], vec![ask("bob", r#"{"op":"leave"}"#), ask("bob", r#"{"op":"join"}"#)]);
    let rows = batch.before.iter().chain(&batch.after).filter_map(|row| match row {
        Row::RoomOfUser(row) if row.user == user("bob") => Some(row),
        _ => None,
    });
    let listed = rows.max_by_key(|row| row.stamp).unwrap();
    assert_eq!((listed.role, listed.joined.seq), (Some(Role::Member), table.room.head.seq));
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
    let pushed: Vec<_> =
        done.pushes.iter().map(|push| (push.range.first, push.range.last, push.users.to_vec())).collect();
    assert_eq!(pushed, [(2, 2, vec![user("eve")])]);
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
fn history_is_oldest_first_and_tells_whether_there_is_more() {
    let mut table = TestRoom::new();
    for _ in 0..9 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    let pages = |room: &Room| {
        [(None, None, 3), (Some(4), None, 5), (None, Some(2), 3), (None, Some(10), 3)].map(|(before, after, limit)| {
            let (events, more) = room.tail_page(PageRequest { before, after, limit }).unwrap();
            let seq =
                |frame: &Bytes| serde_json::from_slice::<serde_json::Value>(frame).unwrap()["seq"].as_u64().unwrap();
            (events.iter().map(seq).collect::<Vec<_>>(), more)
        })
    };
    let older = [(vec![1, 2, 3], false), (vec![3, 4, 5], true), (vec![], false)];
    assert_eq!(pages(&table.room)[0], (vec![8, 9, 10], true));
    assert_eq!(pages(&table.room)[1..], older);
    // What a batch under way will add is in no page.
    table.room.dispatched = 8;
    assert_eq!(pages(&table.room)[0], (vec![6, 7, 8], true));
    assert_eq!(pages(&table.room)[1..], older);
}

#[test]
fn a_batch_waits_for_new_order_rows_if_they_grew_too_old_while_it_was_written() {
    let mut table = TestRoom::new();
    let send = vec![ask("ann", r#"{"op":"send","body":{}}"#)];
    let batch = table.room.decide(send, Millis(2_000), &Lookups::new());
    let age = Duration::from_secs(600);
    let rows_at = table.room.rows_at.unwrap();
    assert!(!table.room.needs_new_rows(&batch.steps, rows_at.after(age - Duration::from_millis(1)), age));
    assert!(table.room.needs_new_rows(&batch.steps, rows_at.after(age), age));
    let peek = table.room.decide(vec![ask("ann", r#"{"op":"peek"}"#)], Millis(2_000), &Lookups::new());
    assert!(!table.room.needs_new_rows(&peek.steps, rows_at.after(age), age));
    table.room.activate(Some(rows_at.after(age)));
    assert!(!table.room.needs_new_rows(&batch.steps, rows_at.after(age), age));
}

#[test]
fn the_rows_of_an_idle_room_show_a_member_what_the_room_itself_would() {
    let mut table = TestRoom::new();
    table.run(vec![
        ask("ann", r#"{"op":"send","body":{"text":"hi"}}"#),
        ask("ann", r#"{"op":"invite","users":["dan"]}"#),
        ask("dan", r#"{"op":"leave"}"#),
    ]);
    let rows = table.room.head_rows();
    let Some(Row::Room(row)) = rows.into_iter().next() else { panic!("no row of the room") };
    for name in ["ann", "bob"].map(user) {
        let Row::Member(member) = table.room.member_row(&name, &table.room.members[&name]) else { panic!("no member") };
        let shown = info_of_rows(&table.room.id, Some(row.clone()), Some(member), false).unwrap();
        assert_eq!(Some(shown), table.room.info(&name));
    }
    let refused = info_of_rows(&table.room.id, Some(row), None, false).unwrap_err();
    assert_eq!(refused.code, table.room.member(&user("zoe")).unwrap_err().code);
}

#[test]
fn a_page_of_members_tells_the_seq_that_it_reflects() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#), ask("eve", r#"{"op":"leave"}"#)]);
    let members = table.room.members_list(None, 9);
    let page = members_answer(&table.room.id, table.room.head.seq, members, 9, |_| false);
    let names: Vec<&str> = page.members.iter().map(|member| member.user.as_str()).collect();
    assert_eq!((page.seq, names), (3, vec!["ann", "bob"]));
}

#[test]
fn the_last_message_is_shown_as_it_is_and_a_later_event_of_another_kind_keeps_it() {
    let mut table = TestRoom::new();
    let text = "😀".repeat(201);
    table.run(vec![
        ask("ann", r#"{"op":"send","body":{"text":"first"}}"#),
        ask("bob", &format!(r#"{{"op":"send","body":{{"text":"{text}"}}}}"#)),
        ask("eve", r#"{"op":"leave"}"#),
        ask("ann", r#"{"op":"peek"}"#),
    ]);
    let answers = table.answers();
    let last = &answers[3]["info"]["last"];
    assert_eq!((&last["seq"], &last["from"]), (&3.into(), &"bob".into()));
    assert_eq!(last["text"].as_str().unwrap(), "😀".repeat(200));
    let Some(Row::Room(row)) = table.room.head_rows().into_iter().next() else { panic!("no row") };
    assert_eq!(row.last.unwrap().text.unwrap(), "😀".repeat(200));
}

#[test]
fn who_left_in_the_batch_of_its_attach_is_not_in_the_audience() {
    let mut table = TestRoom::new();
    table.run(vec![ask("bob", r#"{"op":"attach","signin":1}"#), ask("bob", r#"{"op":"leave"}"#)]);
    assert!(!table.told().iter().any(|(_, item)| matches!(item, LinkItem::Added(added) if added.user == user("bob"))));
}

#[test]
fn a_room_has_a_thousand_members_and_no_more() {
    let mut table = TestRoom::new();
    let invite = |users: &[String]| {
        let users: Vec<String> = users.iter().map(|user| format!("{user:?}")).collect();
        ask("ann", &format!(r#"{{"op":"invite","users":[{}]}}"#, users.join(",")))
    };
    let names: Vec<String> = (0..997).map(|n| format!("u{n}")).collect();
    names.chunks(100).for_each(|users| drop(table.run(vec![invite(users)])));
    assert_eq!((table.room.members.len(), table.answers().len()), (1_000, 10));
    table.run(vec![invite(&["one-more".to_owned()]), ask("ann", r#"{"op":"send","body":{}}"#)]);
    let answers = table.answers();
    assert_eq!((answers[0]["code"].as_str(), answers[1]["op"].as_str()), (Some("too_large"), Some("ok")));
    assert!(answers[0]["message"].as_str().unwrap().contains("1000 members"), "{}", answers[0]);
}

#[test]
fn into_a_room_that_is_not_open_nobody_may_join() {
    let table = TestRoom::new();
    assert!(!table.room.may_join(Requester::User(&user("zoe"))) && !table.room.may_join(Requester::User(&user("ann"))));
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
    // The rows are written with the head, before later events push the join out of the tail.
    let healed = |row: &Row| matches!(row, Row::Member(row) if row.user == user("zoe") && row.role.is_some());
    assert!(room.head_row_lags() && room.head_rows().iter().any(healed));
    assert_eq!(room.members.keys().map(UserId::as_str).collect::<Vec<_>>(), ["ann", "bob", "eve", "zoe"]);
    assert_eq!(room.members[&user("ann")].role, Role::Owner);
}

#[test]
fn a_room_whose_rows_are_up_to_date_lags_by_nothing_that_its_newcomers_said() {
    let mut table = TestRoom::new();
    table.run(vec![ask("bob", r#"{"op":"send","body":{}}"#), ask("eve", r#"{"op":"send","body":{}}"#)]);
    let Some(Row::Room(row)) = table.room.head_rows().into_iter().next() else { panic!("no row of the room") };
    let members = table.room.members.iter().map(|(user, member)| match table.room.member_row(user, member) {
        Row::Member(row) => row,
        other => panic!("{other:?} is no row of a member"),
    });
    let opened = StoredRoom {
        row: Some(row),
        members: members.collect(),
        tail: table.room.tail.iter().map(|event| (1, event.clone())).collect(),
        ..StoredRoom::default()
    };
    assert!(!Room::open(table.room.id.clone(), 2, opened).head_row_lags());
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
