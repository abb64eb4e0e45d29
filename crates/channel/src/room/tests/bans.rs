//! Bans, the end of a room, and services, which are no members.

use super::*;

const BAN: &str = r#"{"op":"ban","user":"bob","nonce":"b"}"#;
const OPEN: &str = r#"{"op":"change","access":"open","nonce":"o"}"#;
const JOIN: &str = r#"{"op":"join"}"#;
const SEND: &str = r#"{"op":"send","body":{"text":"hi"}}"#;

fn service(json: &str) -> QueuedRequest {
    let mut waiting = ask("svc", json);
    waiting.request.is_service = true;
    waiting
}

impl TestRoom {
    /// Returns the code of each answer since the last call, or `ok`.
    fn codes(&mut self) -> Vec<String> {
        let answers = self.answers();
        answers.iter().map(|answer| answer["code"].as_str().unwrap_or("ok").to_owned()).collect()
    }

    /// Returns the rows of members as they would be stored.
    fn member_rows(&self) -> Vec<MemberRow> {
        let rows = self.room.members.iter().map(|(user, member)| self.room.member_row(user, member));
        rows.filter_map(|row| if let Row::Member(row) = row { Some(row) } else { None }).collect()
    }

    fn opened(&self, row: Option<RoomRow>, members: Vec<MemberRow>) -> Room {
        let tail = self.room.tail.iter().map(|event| (1, event.clone())).collect();
        Room::open(self.room.id.clone(), 2, StoredRoom { row, members, tail, ..StoredRoom::default() })
    }
}

#[test]
fn who_is_banned_is_out_and_stays_out_until_the_ban_ends() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", OPEN), ask("ann", BAN), ask("ann", BAN), ask("ann", r#"{"op":"ban","user":"zoe"}"#)]);
    assert_eq!(table.codes(), ["ok", "ok", "ok", "ok"]);
    assert!(!table.room.members.contains_key(&user("bob")));
    table.run(vec![ask("bob", JOIN), ask("bob", SEND), ask("ann", r#"{"op":"invite","users":["eve","zoe"]}"#)]);
    assert_eq!(table.codes(), ["forbidden", "not_a_member", "forbidden"]);
    table.run(vec![ask("eve", r#"{"op":"unban","user":"bob"}"#), ask("ann", r#"{"op":"unban","user":"bob"}"#)]);
    table.run(vec![ask("bob", JOIN), ask("ann", r#"{"op":"ban","user":"ann"}"#)]);
    assert_eq!(table.codes(), ["forbidden", "ok", "ok", "forbidden"]);
    // The ban that came back late does not end the membership.
    table.run(vec![ask("ann", BAN)]);
    assert!(table.room.members.contains_key(&user("bob")));
}

#[test]
fn a_room_remembers_only_so_many_bans() {
    let mut table = TestRoom::new();
    for n in 0..limits::ROOM_BANS {
        table.run(vec![ask("ann", &format!(r#"{{"op":"ban","user":"u{n}"}}"#))]);
    }
    table.told();
    table.run(vec![ask("ann", BAN)]);
    assert_eq!(table.codes(), ["too_large"]);
}

#[test]
fn opening_heals_bans_whose_rows_a_crash_took() {
    let mut table = TestRoom::new();
    let (row, members) = (table.room.row.clone(), table.member_rows());
    table.run(vec![ask("ann", BAN), ask("ann", r#"{"op":"ban","user":"eve"}"#)]);
    table.run(vec![ask("ann", r#"{"op":"unban","user":"eve"}"#)]);
    let mut room = table.opened(row.clone(), members);
    let rows = room.head_rows();
    let of = |name: &str| {
        let rows = rows.iter().filter_map(|row| if let Row::Member(row) = row { Some(row) } else { None });
        rows.into_iter().find(|row| row.user == user(name)).map(|row| (row.role, row.banned))
    };
    assert_eq!((of("bob"), of("eve"), of("ann")), (Some((None, true)), Some((None, false)), None));
    let batch = room.decide(vec![ask("bob", SEND), ask("eve", SEND)], Millis(9_999), &Lookups::new());
    assert!(batch.events.is_empty());
    // Those whose rows were written are not written again.
    let gone = |name: &str, banned| MemberRow {
        banned,
        role: None,
        stamp: Stamp::of(table.room.head.seq),
        ..match table.room.gone_member(&user(name), table.room.head) {
            Row::Member(row) => row,
            other => panic!("{other:?} is no row of a member"),
        }
    };
    let members = table.member_rows().into_iter().chain([gone("bob", true)]).collect();
    let row = row.map(|row| RoomRow { head: table.room.head, stamp: Stamp::of(table.room.head.seq), ..row });
    assert!(!table.opened(row, members).head_row_lags());
}

#[test]
fn a_deleted_room_is_gone_for_all_and_its_id_is_never_used_again() {
    let mut table = TestRoom::new();
    let (row, members) = (table.room.row.clone(), table.member_rows());
    table.room.attach(&user("bob"), &node("n2"), 1);
    table.run(vec![ask("bob", r#"{"op":"delete_room"}"#)]);
    let (batch, _) = table.online(&[], vec![ask("ann", r#"{"op":"delete_room","nonce":"d"}"#), ask("bob", SEND)]);
    let told = table.told();
    let removed = told
        .iter()
        .filter(|(_, item)| matches!(item, LinkItem::Removed(removed) if removed.reason == AudienceReason::Deleted));
    assert_eq!(removed.count(), 2);
    let deleted = batch.after.iter().any(|row| matches!(row, Row::Room(row) if row.deleted && row.last.is_none()));
    let gone = batch.after.iter().filter(|row| matches!(row, Row::RoomOfUser(row) if row.role.is_none())).count();
    assert_eq!((deleted, gone, table.room.members.len()), (true, 3, 0));
    table.run(vec![ask("ann", SEND), ask("ann", r#"{"op":"create","name":"r","nonce":"made"}"#), service(SEND)]);
    assert_eq!(table.codes(), ["no_such_room", "conflict", "no_such_room"]);
    // The rows may not have been written.
    let room = table.opened(row, members);
    assert!(room.row.as_ref().unwrap().deleted && room.members.is_empty() && room.head_row_lags());
    assert_eq!(
        room.head_rows().iter().filter(|row| matches!(row, Row::RoomOfUser(row) if row.role.is_none())).count(),
        3
    );
}

#[test]
fn a_kick_is_answered_once_every_node_of_the_user_has_it_or_is_given_up() {
    for answers in [true, false] {
        let mut table = TestRoom::new();
        table.room.attach(&user("bob"), &node("n2"), 1);
        table.links.drain();
        table.run(vec![ask("ann", r#"{"op":"kick","user":"bob","nonce":"k"}"#)]);
        let messages = table.links.drain();
        let on_n2 = messages.iter().find(|(name, _)| *name == node("n2")).unwrap();
        let (header, _) = read_message(on_n2.1[0].clone()).unwrap();
        let is_answer = |messages: &[Bytes]| {
            let items = messages.iter().flat_map(|message| read_message(message.clone()).unwrap().1);
            items.into_iter().any(|item| matches!(item.unwrap(), LinkItem::Answer { .. }))
        };
        assert!(!messages.iter().any(|(_, messages)| is_answer(messages)));
        let ack = |received| LinkAck { v: 1, incarnation: header.incarnation, received, settled: 0, gap: false };
        table.links.ack(&node("n2"), &ack(header.number - 1));
        assert!(table.links.drain().is_empty());
        if answers {
            table.links.ack(&node("n2"), &ack(header.number));
        } else {
            table.links.give_up(&node("n2"));
        }
        assert_eq!(table.codes(), ["ok"]);
    }
}

#[test]
fn a_service_has_the_rights_of_an_admin_and_no_place_of_its_own() {
    let mut table = TestRoom::new();
    let (batch, done) = table.online(&[], vec![service(SEND)]);
    let Some(Row::Event(_, row)) = batch.events.first() else { panic!("no event") };
    assert_eq!((row.event.kind, row.event.from.as_str(), row.event.head.count), (EventKind::System, "svc", 1));
    assert!(done.pushes.iter().any(|push| push.users.contains(&user("bob"))));
    for json in [
        r#"{"op":"kick","user":"eve"}"#,
        r#"{"op":"peek"}"#,
        r#"{"op":"delete","ref":2}"#,
        r#"{"op":"role","user":"bob","role":"admin"}"#,
        r#"{"op":"read","seq":1}"#,
        r#"{"op":"leave"}"#,
        r#"{"op":"attach","signin":1}"#,
        JOIN,
    ] {
        table.run(vec![service(json)]);
    }
    let wanted = ["ok", "ok", "ok", "ok", "forbidden", "not_a_member", "not_a_member", "not_a_member", "forbidden"];
    assert_eq!(table.codes(), wanted);
}
