//! Direct rooms as data: one for both sides, who cannot leave it.

use sendpi_model::{Content, RoomKind};

use super::*;

const ANNS: &str = r#"{"op":"create","kind":"direct","members":["bob"],"nonce":"a"}"#;
const BOBS: &str = r#"{"op":"create","kind":"direct","members":["ann"],"nonce":"b"}"#;

fn id() -> RoomId {
    RoomId::direct(&user("ann"), &user("bob"))
}

fn table(stored: StoredRoom) -> TestRoom {
    TestRoom::of(Room::open(id(), 2, stored), 1_000)
}

/// Returns the rows of a direct room that was made by ann, and in which `members` are left after `head` events.
fn stored(members: &[&str], head: u64) -> StoredRoom {
    let head = Head { seq: head, count: 0, at: Millis(head) };
    let mut made = table(StoredRoom::default());
    made.run(vec![ask("ann", ANNS)]);
    let row = made.room.row.clone().unwrap();
    let member = |name: &&str| MemberRow {
        room: id(),
        user: user(name),
        stamp: Stamp::of(head.seq),
        role: Some(if members.first() == Some(name) { Role::Owner } else { Role::Member }),
        joined: Mark { seq: 1, count: 0 },
        joined_at: Millis(1),
        notify: Notify::All,
        muted_until: None,
        banned: false,
    };
    let row = RoomRow { stamp: Stamp::of(head.seq), head, deleted: members.is_empty(), ..row };
    StoredRoom { row: Some(row), members: members.iter().map(member).collect(), ..StoredRoom::default() }
}

fn members(room: &Room) -> Vec<(&str, Role)> {
    room.members.iter().map(|(user, member)| (user.as_str(), member.role)).collect()
}

/// Returns the users to whom nodes were told to say `room_added`, in their order.
fn added(told: &[(String, LinkItem)]) -> Vec<&str> {
    let joined = told.iter().filter_map(|(_, item)| match item {
        LinkItem::Added(added) if added.reason == AudienceReason::Joined => Some(added.user.as_str()),
        _ => None,
    });
    let mut users: Vec<&str> = joined.collect();
    users.sort_unstable();
    users
}

#[test]
fn both_sides_make_one_direct_room_also_at_the_same_time() {
    let mut direct = table(StoredRoom::default());
    direct.run(vec![ask("ann", ANNS), ask("bob", BOBS)]);
    direct.run(vec![ask("ann", &ANNS.replace("\"a\"", "\"c\""))]);
    let answers = direct.answers();
    let repeats: Vec<_> = answers.iter().map(|answer| answer["repeat"].as_bool()).collect();
    assert_eq!(repeats, [None, Some(true), Some(true)]);
    assert!(answers.iter().all(|answer| answer["info"]["room"] == id().as_str()), "{answers:?}");
    assert_eq!(direct.room.head.seq, 1);
}

#[test]
fn a_direct_room_cannot_be_left_nobody_is_invited_and_nobody_joins() {
    let mut direct = table(StoredRoom::default());
    direct.run(vec![ask("ann", ANNS)]);
    // Earlier releases let a client make a direct room that was open.
    direct.room.row.as_mut().unwrap().access = Access::Open;
    direct.written = WrittenRows::default();
    direct.answers();
    direct.run(vec![
        ask("ann", r#"{"op":"leave"}"#),
        ask("bob", r#"{"op":"leave"}"#),
        ask("ann", r#"{"op":"invite","users":["eve"]}"#),
        ask("bob", r#"{"op":"invite","users":["eve"]}"#),
        ask("eve", r#"{"op":"join"}"#),
        ask("eve", r#"{"op":"send","body":{}}"#),
    ]);
    let codes: Vec<_> = direct.answers().iter().map(|answer| answer["code"].as_str().unwrap().to_owned()).collect();
    assert_eq!(codes, ["forbidden", "forbidden", "forbidden", "forbidden", "no_such_room", "no_such_room"]);
    assert_eq!(members(&direct.room), [("ann", Role::Owner), ("bob", Role::Member)]);
    let verb = Fields::parse(br#"{"kind":"direct","members":["bob"],"nonce":"a","access":"open"}"#)
        .map(|fields| Verb::read("create", &fields).unwrap().unwrap_err());
    assert_eq!(verb.unwrap().field.as_deref(), Some("access"));
}

#[test]
fn a_creation_brings_back_whoever_had_left_a_direct_room() {
    for (by, there) in [(ANNS, "bob"), (BOBS, "bob"), (ANNS, "ann"), (BOBS, "ann")] {
        let mut direct = table(stored(&[there], 4));
        let asking = if by == ANNS { "ann" } else { "bob" };
        let gone = if there == "ann" { "bob" } else { "ann" };
        direct.room.activate(Some(Millis(1)));
        let (batch, _) = direct.online(&[("ann", "n1", 1), ("bob", "n2", 1)], vec![ask(asking, by)]);
        assert_eq!(batch.newcomers, [user(gone)]);
        assert_eq!((direct.room.head.seq, direct.room.members[&user(there)].role), (5, Role::Owner));
        assert_eq!(direct.room.members[&user(gone)].role, Role::Member);
        let told = direct.told();
        assert_eq!(added(&told), [gone]);
        let answer = told.iter().find_map(|(_, item)| match item {
            LinkItem::Answer { frame, .. } => serde_json::from_slice::<serde_json::Value>(frame).ok(),
            _ => None,
        });
        let answer = answer.unwrap();
        assert_eq!((&answer["repeat"], &answer["info"]["members"]), (&true.into(), &2.into()));
    }
}

#[test]
fn a_direct_room_that_both_had_left_is_used_again() {
    let mut direct = table(stored(&[], 4));
    let (batch, _) = direct.online(&[("ann", "n1", 1), ("bob", "n2", 1)], vec![ask("bob", BOBS), ask("ann", ANNS)]);
    assert_eq!(members(&direct.room), [("ann", Role::Member), ("bob", Role::Owner)]);
    let is_back = |row: &Row| matches!(row, Row::Room(row) if !row.deleted && row.stamp.seq() == 5 && row.members == 2);
    assert!(batch.after.iter().any(is_back), "{:?}", batch.after);
    let owner = |row: &&Row| matches!(row, Row::Member(row) if row.user == user("bob"));
    let role = batch
        .after
        .iter()
        .filter(owner)
        .last()
        .map(|row| matches!(row, Row::Member(row) if row.role == Some(Role::Owner)));
    assert_eq!(role, Some(true));
    assert_eq!(added(&direct.told()), ["ann", "bob"]);
    assert!(direct.room.active && !direct.room.row.as_ref().unwrap().deleted);
    assert_eq!(direct.room.head.seq, 5);
}

#[test]
fn opening_heals_a_direct_room_whose_return_a_crash_cut_off() {
    let head = Head { seq: 4, count: 0, at: Millis(4) };
    let users = [user("bob"), user("ann")];
    let event = Event::next(&id(), head, Millis(5), &users[0], None, &Content::Joined { users: &users, by: None });
    let direct = table(StoredRoom { tail: vec![(1, event)], ..stored(&[], 4) });
    assert_eq!(members(&direct.room), [("ann", Role::Member), ("bob", Role::Owner)]);
    let row = direct.room.row.as_ref().unwrap();
    assert!(!row.deleted && row.kind == RoomKind::Direct);
}

#[test]
fn only_a_creation_that_brings_somebody_back_makes_an_event() {
    let create = |who: &str, text: &str| ask(who, text).request.verb;
    let whole = table(stored(&["ann", "bob"], 4)).room;
    assert!(whole.missing_sides(&user("ann"), &create("ann", ANNS)).is_empty());
    let half = table(stored(&["bob"], 4)).room;
    assert_eq!(half.missing_sides(&user("bob"), &create("bob", BOBS)), [user("ann")]);
}
