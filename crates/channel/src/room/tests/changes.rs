//! Changes of a room and its members: kicks, roles, the name, who may join.

use super::*;

const KICK: &str = r#"{"op":"kick","user":"bob","nonce":"k"}"#;
const ROLE: &str = r#"{"op":"role","user":"bob","role":"admin","nonce":"r"}"#;
const CHANGE: &str = r#"{"op":"change","name":"hall","access":"open","nonce":"c"}"#;

#[test]
fn a_kick_ends_the_live_events_of_a_user_before_it_is_answered() {
    let mut table = TestRoom::new();
    table.room.attach(&user("bob"), &node("n2"), 1);
    table.run(vec![ask("ann", KICK), ask("ann", r#"{"op":"send","body":{}}"#)]);
    let told = table.told();
    let for_bob: Vec<String> = told
        .iter()
        .filter(|(node, _)| node.as_str() == "n2")
        .map(|(_, item)| match item {
            LinkItem::Event { seq, .. } => format!("event {seq}"),
            LinkItem::Removed(removed) => format!("{:?}", removed.reason),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(for_bob, ["event 2", "Kicked"]);
}

#[test]
fn a_change_that_is_sent_again_undoes_nothing_that_came_between() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", KICK), ask("ann", r#"{"op":"invite","users":["bob"],"nonce":"i"}"#)]);
    table.run(vec![ask("ann", ROLE), ask("ann", r#"{"op":"role","user":"bob","role":"owner","nonce":"o"}"#)]);
    table.run(vec![ask("ann", CHANGE), ask("ann", r#"{"op":"change","name":"other","nonce":"d"}"#)]);
    let head = table.room.head.seq;
    table.answers();
    table.run(vec![ask("ann", KICK), ask("ann", ROLE), ask("ann", CHANGE)]);
    let repeats: Vec<_> = table.answers().iter().map(|answer| answer["repeat"].as_bool()).collect();
    assert_eq!((repeats, table.room.head.seq), (vec![Some(true); 3], head));
    assert_eq!(table.room.members[&user("bob")].role, Role::Owner);
    assert_eq!(table.room.row.as_ref().unwrap().name, "other");
}

#[test]
fn a_change_leaves_the_rows_behind_for_the_next_owner_to_see() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    let (batch, _) = table.online(&[], vec![ask("ann", CHANGE)]);
    let Some(Row::Room(row)) = batch.after.first() else { panic!("no row of the room") };
    assert_eq!((row.name.as_str(), row.stamp), ("hall", Stamp::of(table.room.head.seq)));
    let tail = table.room.tail.iter().map(|event| (1, event.clone())).collect();
    let opened = StoredRoom { row: Some(row.clone()), tail, ..StoredRoom::default() };
    assert!(Room::open(table.room.id.clone(), 2, opened).head_row_lags());
}

#[test]
fn who_is_kicked_and_invited_again_is_pushed_by_the_default() {
    let mut table = TestRoom::new();
    let send = || ask("ann", r#"{"op":"send","body":{}}"#);
    table.run(vec![ask("bob", r#"{"op":"notify","notify":"none"}"#), send()]);
    let done = table.run(vec![ask("ann", KICK), ask("ann", r#"{"op":"invite","users":["bob"],"nonce":"i"}"#), send()]);
    assert!(done.pushes.iter().any(|push| push.users.contains(&user("bob"))));
}

#[test]
fn opening_heals_changes_whose_rows_a_crash_took() {
    let mut table = TestRoom::new();
    let before = table.room.row.clone();
    let members = table.room.members.iter().map(|(user, member)| match table.room.member_row(user, member) {
        Row::Member(row) => row,
        other => panic!("{other:?} is no row of a member"),
    });
    let members = members.collect();
    table.run(vec![ask("ann", CHANGE), ask("ann", ROLE), ask("ann", r#"{"op":"kick","user":"eve","nonce":"e"}"#)]);
    let opened = StoredRoom {
        row: before,
        members,
        tail: table.room.tail.iter().map(|event| (1, event.clone())).collect(),
        ..StoredRoom::default()
    };
    let room = Room::open(table.room.id.clone(), 2, opened);
    let row = room.row.as_ref().unwrap();
    assert_eq!((row.name.as_str(), row.access), ("hall", Access::Open));
    assert_eq!(room.members[&user("bob")].role, Role::Admin);
    assert!(!room.members.contains_key(&user("eve")));
    let healed = |row: &Row| matches!(row, Row::Member(row) if row.user == user("eve") && row.role.is_none());
    assert!(room.head_row_lags() && room.head_rows().iter().any(healed));
}

#[test]
fn the_last_owner_stays_one_and_nobody_kicks_oneself() {
    let mut table = TestRoom::new();
    table.run(vec![
        ask("ann", r#"{"op":"role","user":"ann","role":"member"}"#),
        ask("ann", r#"{"op":"role","user":"zoe","role":"member"}"#),
        ask("ann", ROLE),
        ask("bob", r#"{"op":"kick","user":"bob"}"#),
    ]);
    let answers = table.answers();
    let codes: Vec<_> = answers.iter().map(|answer| (answer["code"].as_str(), answer["field"].as_str())).collect();
    let wanted = [(Some("conflict"), None), (Some("bad_field"), Some("user")), (None, None), (Some("forbidden"), None)];
    assert_eq!(codes, wanted);
}
