//! How long events are kept.

use super::*;

const DAY: u64 = 24 * 60 * 60 * 1_000;
const SEND: &str = r#"{"op":"send","body":{"text":"one"}}"#;

fn expiries(batch: &Batch) -> Vec<Option<u64>> {
    let rows = batch.events.iter().chain(&batch.after).filter_map(|row| match row {
        Row::Event(_, row) | Row::Revised(_, row, _) => Some(row.expires.map(|at| at.0 - row.event.head.at.0)),
        _ => None,
    });
    rows.collect()
}

#[test]
fn an_event_expires_after_the_days_of_the_room_or_of_the_worker() {
    let mut table = TestRoom::new();
    assert_eq!(expiries(&table.online(&[], vec![ask("ann", SEND)]).0), [None]);
    table.room.retention_default = 5;
    assert_eq!(expiries(&table.online(&[], vec![ask("ann", SEND)]).0), [Some(5 * DAY)]);
    let (batch, _) = table.online(&[], vec![ask("ann", r#"{"op":"change","retention_days":2,"nonce":"c"}"#)]);
    assert_eq!(expiries(&batch), [Some(2 * DAY)]);
    let row = table.room.row.clone().unwrap();
    assert_eq!((row.retention_days, row.name.as_str()), (Some(2), "r"));
    // A crash came before the row of the room.
    let tail = table.room.tail.iter().map(|event| (1, event.clone())).collect();
    let before = RoomRow { stamp: Stamp::of(1), retention_days: None, ..row };
    let opened = StoredRoom { row: Some(before), tail, ..StoredRoom::default() };
    let room = Room::open(table.room.id.clone(), 2, opened);
    assert_eq!(room.row.unwrap().retention_days, Some(2));
    let edit = ask("ann", r#"{"op":"edit","ref":2,"body":{"text":"two"},"nonce":"e"}"#);
    // The row of the message keeps its own time.
    assert_eq!(expiries(&table.online(&[], vec![edit]).0), [Some(2 * DAY), None]);
    let (batch, _) = table.online(&[], vec![ask("ann", r#"{"op":"change","retention_days":0,"nonce":"f"}"#)]);
    assert_eq!(expiries(&batch), [None]);
}

#[test]
fn what_has_expired_goes_from_memory_and_the_head_stays() {
    let mut table = TestRoom::new();
    table.room.retention_default = 2;
    table.run(vec![ask("ann", SEND)]);
    table.clock += DAY;
    table.run(vec![ask("bob", SEND)]);
    let head = table.room.head;
    let page = PageRequest { before: None, after: Some(0), limit: 9 };
    assert_eq!(table.room.tail.iter().count(), 3);
    assert_eq!(table.room.tail_page(page).unwrap().0.len(), 3);
    table.clock += DAY + 1;
    table.run(vec![ask("ann", r#"{"op":"peek"}"#)]);
    assert_eq!(table.room.tail.iter().map(|event| event.head.seq).collect::<Vec<_>>(), [3]);
    assert_eq!(table.room.info(&user("ann")).unwrap().last.unwrap().seq, 3);
    table.clock += 9 * DAY;
    table.run(vec![ask("ann", r#"{"op":"peek"}"#)]);
    assert_eq!(table.room.tail.iter().count(), 0);
    assert_eq!((table.room.head, table.room.info(&user("ann")).unwrap().last), (head, None));
}

#[test]
fn a_forgotten_author_leaves_no_text_in_a_message_its_edits_and_the_preview() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND)]);
    table.run(vec![ask("ann", r#"{"op":"edit","ref":2,"body":{"text":"secret"},"nonce":"e"}"#)]);
    table.told();
    let head = table.room.head;
    let by_service = |json: &str| {
        let mut asked = ask("desk", json);
        asked.request.is_service = true;
        vec![asked]
    };
    let (batch, _) = table.online(&[], by_service(r#"{"op":"forget","ref":2}"#));
    assert!(batch.events.is_empty() && batch.fences_rows);
    let [edit, message, room] = &batch.after[..] else { panic!("{:?}", batch.after) };
    assert!(matches!((edit, message), (Row::Revised(..), Row::Revised(..))));
    let Row::Room(room) = room else { panic!("the lists of rooms show the preview: {room:?}") };
    assert_eq!(room.last.as_ref().unwrap().text, None);
    assert_eq!(table.room.head, head);
    assert!(table.room.tail.iter().all(|event| !String::from_utf8_lossy(&event.frame).contains("secret")));
    assert_eq!(table.room.info(&user("ann")).unwrap().last.unwrap().text, None);
    // Nothing brings it back, and once more nothing is written.
    for json in [r#"{"op":"edit","ref":2,"body":{"text":"secret"},"nonce":"g"}"#, r#"{"op":"delete","ref":2}"#] {
        let (batch, _) = table.online(&[], vec![ask("ann", json)]);
        assert!(batch.events.is_empty() && batch.after.is_empty(), "{json}");
    }
    let (batch, _) = table.online(&[], by_service(r#"{"op":"forget","ref":2}"#));
    assert!(batch.after.is_empty());
    // A member may not.
    let (batch, _) = table.online(&[], vec![ask("bob", r#"{"op":"forget","ref":2}"#)]);
    assert!(batch.after.is_empty());
}

#[test]
fn a_retry_from_a_time_that_has_expired_is_a_conflict_and_never_a_second_event() {
    let mut table = TestRoom::new();
    table.room.retention_default = 1;
    let send = |nonce: &str, retry: u64| {
        ask("ann", &format!(r#"{{"op":"send","body":{{}},"nonce":"{nonce}","retry":{retry}}}"#))
    };
    table.run(vec![send("a", 1)]);
    table.run(vec![send("b", 2)]);
    table.clock += 2 * DAY;
    table.run(vec![ask("ann", r#"{"op":"peek"}"#)]);
    assert_eq!(table.room.tail.iter().count(), 0);
    // It was done, and nobody can tell any more. Who knows the head has sent nothing since.
    for (asked, events) in [(send("b", 2), 0), (send("c", 3), 1)] {
        let (batch, _) = table.online(&[], vec![asked]);
        assert_eq!(batch.events.len(), events);
    }
    // A part of what was searched has expired.
    let key = |nonce: &str| (user("ann"), sendpi_model::Nonce::parse(nonce).unwrap());
    let absent = NonceResult::Absent { from: 2, to: 3, since: None, kept: 3 };
    let lookups = Lookups::from([(key("b"), absent), (key("d"), absent)]);
    let repeat = |nonce: &str, retry| table.room.repeat_of(&user("ann"), &key(nonce).1, Some(retry), &lookups);
    assert_eq!(repeat("b", 1).unwrap_err().code, sendpi_model::Code::Conflict);
    assert_eq!(repeat("d", 2), Ok(None));
}

#[test]
fn an_edit_beside_a_removal_of_the_text_does_not_bring_it_back() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND)]);
    for n in 0..1_100 {
        table.run(vec![ask("bob", &format!(r#"{{"op":"send","nonce":"{n}","body":{{}}}}"#))]);
    }
    let message = |table: &TestRoom| {
        let body = serde_json::value::RawValue::from_string(r#"{"text":"one"}"#.into()).unwrap();
        let head = Head { seq: 1, count: 0, at: Millis(1) };
        let content = sendpi_model::Content::message(&body, None);
        let event = Event::next(&table.room.id, head, Millis(2), &user("ann"), None, &content);
        TargetEvent { event: Some(event), as_of: table.room.head.seq }
    };
    let mut forget = ask("desk", r#"{"op":"forget","ref":2}"#);
    forget.request.is_service = true;
    let edit = || ask("ann", r#"{"op":"edit","ref":2,"body":{"text":"secret"},"nonce":"e"}"#);
    table.room.note_target(2, message(&table));
    let (batch, _) = table.online(&[], vec![forget, edit()]);
    assert_eq!((batch.events.len(), batch.after.len()), (0, 1), "{:?}", batch.after);
    // What a look-up read before is noted behind it.
    table.room.note_target(2, message(&table));
    let (batch, _) = table.online(&[], vec![edit()]);
    assert!(batch.events.is_empty() && batch.after.is_empty(), "{:?}", batch.after);
}

/// Opens the room as the next owner would, of whose events only the newest are left.
fn opened_with_the_newest(table: &TestRoom, row: RoomRow, kept: usize) -> Room {
    let all: Vec<_> = table.room.tail.iter().map(|event| (1, event.clone())).collect();
    let tail = cut_at_hole(all[all.len() - kept..].to_vec(), row.head.seq);
    Room::open(table.room.id.clone(), 2, StoredRoom { row: Some(row), tail, ..StoredRoom::default() })
}

#[test]
fn a_change_of_a_busy_room_does_not_take_its_head_back_to_a_time_that_has_expired() {
    let mut table = TestRoom::new();
    for _ in 0..20 {
        table.run(vec![ask("ann", SEND)]);
    }
    table.room.order_rows_stored();
    table.run(vec![ask("ann", SEND)]);
    let (batch, _) = table.online(&[], vec![ask("ann", r#"{"op":"change","name":"new","nonce":"c"}"#)]);
    let rows = batch.after.iter().filter_map(|row| if let Row::Room(row) = row { Some(row.clone()) } else { None });
    let row = rows.last().unwrap();
    assert_eq!((row.head.seq, row.listed()), (21, 0), "the members' rows are behind");
    let room = opened_with_the_newest(&table, row, 2);
    assert_eq!(room.head, table.room.head);
}

#[test]
fn the_rows_that_a_crash_took_come_before_the_head_of_a_busy_room() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"kick","user":"eve","nonce":"k"}"#)]);
    table.room.healed = vec![user("eve")];
    let has_head = |rows: &[Row]| rows.iter().any(|row| matches!(row, Row::Room(_)));
    let first = table.room.order_rows(Millis(5_000));
    assert!(!has_head(&first) && first.iter().any(|row| matches!(row, Row::Member(row) if row.user == user("eve"))));
    table.room.order_rows_stored();
    assert!(has_head(&table.room.order_rows(Millis(6_000))));
}
