//! Read markers, the room's place in lists, and how many rooms a user may be in.

use super::*;

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
    assert!(table.room.uncounted(&invite(), |_| false).is_empty(), "they are counted when they are prepared");
    table.room.note_counted(user("dan"), false);
    table.run(invite());
    let refused = &table.answers()[0];
    assert_eq!(refused["code"], "too_large");
    assert_eq!(refused["message"], "dan may be in at most 10000 rooms");
    assert_eq!(table.room.head.seq, 1);
    table.run(invite());
    assert_eq!(table.room.head.seq, 2, "the next batch counts anew");
}

#[test]
fn those_for_whom_a_room_is_made_are_counted_first() {
    let id = TestRoom::new().room.id;
    let mut room = Room::open(id, 1, StoredRoom::default());
    let waiting = || {
        let create = r#"{"op":"create","name":"r","kind":"group","access":"invite","members":["dan"],"nonce":"n"}"#;
        let invite = |name| ask(name, r#"{"op":"invite","users":["fay"]}"#);
        vec![invite("eve"), ask("ann", create), invite("ann")]
    };
    assert_eq!(room.uncounted(&waiting(), |user| user.as_str() == "ann"), [user("dan"), user("fay")]);
    room.note_counted(user("dan"), false);
    room.note_counted(user("fay"), true);
    assert!(room.uncounted(&waiting(), |_| false).is_empty());
    room.decide(waiting(), Millis(1), &Lookups::new());
    assert_eq!((room.head.seq, room.row), (0, None));
}
