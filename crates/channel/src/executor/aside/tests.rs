use sendpi_model::flow::FlowRequest;
use sendpi_model::{Access, Content, Event, Fields, Head, Mark, Millis, NodeId, Notify, Partition, Role, RoomKind};
use sendpi_store::{MemberRow, RoomRow, Stamp};

use super::*;
use crate::room::{AnswerAddress, NonceResult, Room, StoredRoom};

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn room_id() -> RoomId {
    RoomId::parse("r").unwrap()
}

/// Returns a room of ann and bob that is open, with a tail that begins at seq 1001.
fn entry() -> LiveEntry {
    let member = |name| MemberRow {
        room: room_id(),
        user: user(name),
        stamp: Stamp::of(1),
        role: Some(Role::Member),
        joined: Mark::default(),
        joined_at: Millis(1),
        notify: Notify::All,
        muted_until: None,
        banned: false,
    };
    let members = ["ann", "bob"].map(member).into();
    let mut entry = LiveEntry::new(Partition(1));
    entry.begin(super::super::live_entry::Stage::Opening);
    assert!(entry.end(super::super::live_entry::Stage::Opening));
    let row = RoomRow {
        room: room_id(),
        stamp: Stamp::default(),
        name: "r".into(),
        kind: RoomKind::Group,
        access: Access::Open,
        creator: user("ann"),
        nonce: "made".into(),
        members: 2,
        head: Head::default(),
        last: None,
        retention_days: None,
        deleted: false,
        listed: None,
    };
    let stored = StoredRoom { row: Some(row), members, ..StoredRoom::default() };
    entry.room = Some(Box::new(Room::open(room_id(), 1, stored)));
    add_event(&mut entry, 1001);
    entry
}

fn add_event(entry: &mut LiveEntry, seq: u64) {
    let (last, none) = (Head { seq: seq - 1, count: 0, at: Millis(9) }, []);
    let content = Content::Joined { users: &none, by: None };
    entry.room.as_mut().unwrap().tail.push(Event::next(&room_id(), last, Millis(9), &user("ann"), None, &content));
}

fn ask(entry: &mut LiveEntry, who: &str, json: &str) {
    let fields = Fields::parse(json.as_bytes()).unwrap();
    let verb = Verb::read(&fields.required::<String>("op").unwrap(), &fields).unwrap().unwrap();
    let to = AnswerAddress { node: NodeId::parse("n1").unwrap(), partition: Partition(1), n: 1 };
    let request = FlowRequest { n: 1, room: room_id(), user: user(who), is_service: false, first: None, verb };
    entry.queue.push_back(QueuedRequest { to: Some(to), own: None, request });
}

fn nonces(batch: &[QueuedRequest]) -> Vec<&str> {
    batch.iter().filter_map(|waiting| Some(waiting.request.verb.event_nonce()?.as_str())).collect()
}

fn found(taken: &TakenBatch, result: NonceResult) -> Lookups {
    taken.lookup.wanted.nonces.iter().map(|key| (key.clone(), result)).collect()
}

const OLD: &str = r#"{"op":"send","nonce":"old","retry":5,"body":{}}"#;

#[test]
fn a_retry_that_is_searched_for_holds_up_its_user_and_nobody_else() {
    let mut entry = entry();
    ask(&mut entry, "ann", OLD);
    ask(&mut entry, "bob", r#"{"op":"send","nonce":"b","body":{}}"#);
    ask(&mut entry, "ann", r#"{"op":"send","nonce":"a","body":{}}"#);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert_eq!(nonces(&taken.batch), ["b"]);
    assert_eq!((taken.lookup.reach.from, taken.lookup.to, entry.requests()), (6, 1000, 2));
    let absent = NonceResult::Absent { from: 6, to: 1000, since: None, kept: 6 };
    entry.lookups = found(&taken, absent);
    let aside = entry.aside.take();
    entry.bring_back(aside);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert_eq!((nonces(&taken.batch), taken.lookup.wanted.nonces.len()), (vec!["old", "a"], 0));
    assert_eq!(entry.take_lookups(&taken.batch).into_values().collect::<Vec<_>>(), [absent]);
}

#[test]
fn what_the_tail_dropped_during_a_search_is_searched_too() {
    let mut entry = entry();
    ask(&mut entry, "ann", OLD);
    let taken = entry.take_batch(Millis(0)).unwrap();
    entry.lookups = found(&taken, NonceResult::Absent { from: 6, to: 990, since: None, kept: 6 });
    let aside = entry.aside.take();
    entry.bring_back(aside);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert!(taken.batch.is_empty());
    assert_eq!((taken.lookup.reach.from, taken.lookup.to), (991, 1000));
}

#[test]
fn for_a_stranger_nothing_is_searched_unless_the_batch_may_let_the_stranger_in() {
    let mut entry = entry();
    ask(&mut entry, "zoe", OLD);
    ask(&mut entry, "bob", r#"{"op":"invite","users":["zoe"]}"#);
    ask(&mut entry, "zoe", OLD);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert_eq!((taken.batch.len(), taken.lookup.wanted.nonces.len(), entry.queue.len()), (2, 0, 1));
}

#[test]
fn a_join_waits_for_presence_with_what_its_user_asks_and_nobody_else_waits() {
    let mut entry = entry();
    let join = r#"{"op":"join"}"#;
    ask(&mut entry, "zoe", join);
    ask(&mut entry, "zoe", r#"{"op":"attach","signin":1}"#);
    ask(&mut entry, "bob", r#"{"op":"send","nonce":"b","body":{}}"#);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert_eq!((nonces(&taken.batch), taken.newcomers), (vec!["b"], HashSet::from([user("zoe")])));
    // The preparation is done.
    let prepared = || Prepared { at: Millis(9), places: vec![(NodeId::parse("n1").unwrap(), 1)], has_place: true };
    entry.prepared.insert(user("zoe"), prepared());
    let aside = entry.aside.take();
    entry.bring_back(aside);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert_eq!((taken.batch.len(), taken.newcomers.len(), entry.requests()), (2, 0, 0));
    let mut newcomers = vec![user("zoe")];
    let (online, rows_at) = entry.take_prepared(&mut newcomers);
    assert_eq!((online.len(), rows_at, newcomers.len()), (1, Some(Millis(9)), 0));
    // What was prepared too long ago is prepared again.
    entry.prepared.insert(user("zoe"), prepared());
    ask(&mut entry, "zoe", join);
    assert_eq!(entry.take_batch(Millis(9)).unwrap().newcomers.len(), 1);
}

#[test]
fn whose_presence_was_read_for_a_request_that_is_over_is_read_again_for_the_next() {
    let mut entry = entry();
    let prepared = || Prepared { at: Millis(9), places: Vec::new(), has_place: true };
    entry.prepared.insert(user("zoe"), prepared());
    assert!(entry.take_prepared(&mut Vec::new()).0.is_empty());
    ask(&mut entry, "zoe", r#"{"op":"join"}"#);
    assert_eq!(entry.take_batch(Millis(0)).unwrap().newcomers.len(), 1);
    // So is that of a user who was told meanwhile not to be a member.
    entry.aside.take();
    entry.prepared.insert(user("zoe"), prepared());
    ask(&mut entry, "zoe", r#"{"op":"attach","signin":1}"#);
    ask(&mut entry, "zoe", r#"{"op":"join"}"#);
    let taken = entry.take_batch(Millis(0)).unwrap();
    assert_eq!((taken.batch.len(), taken.newcomers.len()), (1, 1));
}

#[test]
fn a_batch_ends_where_its_requests_cost_too_much() {
    let mut entry = entry();
    let users: Vec<String> = (0..100).map(|n| format!("\"u{n}\"")).collect();
    for _ in 0..20 {
        ask(&mut entry, "bob", &format!(r#"{{"op":"invite","users":[{}]}}"#, users.join(",")));
    }
    assert_eq!(entry.take_batch(Millis(0)).unwrap().batch.len(), 7);
}

#[test]
fn a_newcomer_who_is_in_too_many_rooms_is_refused_and_nobody_else() {
    let mut entry = entry();
    for (name, has_place) in [("zoe", false), ("yan", true)] {
        entry.prepared.insert(user(name), Prepared { at: Millis(9), places: Vec::new(), has_place });
        ask(&mut entry, name, r#"{"op":"join"}"#);
    }
    let taken = entry.take_batch(Millis(0)).unwrap();
    entry.note_full();
    let room = entry.room.as_mut().unwrap();
    room.decide(taken.batch, Millis(10), &Lookups::new());
    assert_eq!((room.members.contains_key(&user("zoe")), room.members.contains_key(&user("yan"))), (false, true));
}
