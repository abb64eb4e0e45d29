//! Edits, deletions and reactions.

use super::*;

const SEND: &str = r#"{"op":"send","body":{"text":"one"}}"#;
const EDIT: &str = r#"{"op":"edit","ref":2,"body":{"text":"two"},"nonce":"e"}"#;
const DELETE: &str = r#"{"op":"delete","ref":2,"nonce":"d"}"#;

fn revised(batch: &Batch) -> Vec<(u64, u64, String)> {
    let rows = batch.after.iter().filter_map(|row| match row {
        Row::Revised(_, row, by) => Some((row.event.head.seq, *by, row.event.text().unwrap_or_default())),
        _ => None,
    });
    rows.collect()
}

fn long_after(table: &mut TestRoom) {
    for n in 0..1_100 {
        table.run(vec![ask("bob", &format!(r#"{{"op":"send","nonce":"{n}","body":{{}}}}"#))]);
    }
    table.told();
}

#[test]
fn an_edit_is_an_event_and_changes_what_is_read_later() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND)]);
    let (batch, done) = table.online(&[], vec![ask("ann", EDIT), ask("ann", EDIT)]);
    assert_eq!(revised(&batch), [(2, 3, "two".to_owned())]);
    assert!(done.pushes.is_empty());
    assert_eq!((table.room.head.seq, table.room.head.count), (3, 1));
    let page = PageRequest { before: None, after: Some(1), limit: 9 };
    let (events, _) = table.room.tail_page(page).unwrap();
    assert!(std::str::from_utf8(&events[0]).unwrap().ends_with(r#""edited":3,"body":{"text":"two"}}"#));
    let info = table.room.info(&user("ann")).unwrap();
    assert_eq!(info.last.unwrap().text.as_deref(), Some("two"));
    let (batch, _) = table.online(&[], vec![ask("ann", DELETE), ask("ann", r#"{"op":"delete","ref":2}"#)]);
    assert_eq!((revised(&batch), batch.events.len()), (vec![(3, 4, String::new()), (2, 4, String::new())], 1));
    assert_eq!(table.room.info(&user("ann")).unwrap().last.unwrap().text, None);
}

#[test]
fn a_deletion_takes_the_text_out_of_all_edits_before() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND)]);
    let edit = |n: u64| ask("ann", &format!(r#"{{"op":"edit","ref":2,"body":{{"text":"secret {n}"}}}}"#));
    table.run(vec![edit(3), edit(4)]);
    table.run(vec![edit(5)]);
    let (batch, _) = table.online(&[], vec![ask("ann", DELETE)]);
    assert_eq!(revised(&batch), [(5, 6, String::new()), (2, 6, String::new())]);
    assert!(table.room.tail.iter().all(|event| !String::from_utf8_lossy(&event.frame).contains("secret")));
}

#[test]
fn what_may_not_be_revised_is_refused_with_the_reason() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND), ask("bob", SEND)]);
    table.told();
    for (who, json, wanted) in [
        ("bob", EDIT, "forbidden -"),
        ("bob", DELETE, "forbidden -"),
        ("ann", r#"{"op":"edit","ref":3,"body":{}}"#, "forbidden -"),
        ("ann", r#"{"op":"delete","ref":3}"#, "ok -"),
        ("bob", r#"{"op":"edit","ref":3,"body":{}}"#, "no_such_event ref"),
        ("bob", r#"{"op":"react","ref":3,"emoji":"x"}"#, "no_such_event ref"),
        ("bob", r#"{"op":"delete","ref":3}"#, "ok -"),
        ("ann", r#"{"op":"edit","ref":1,"body":{}}"#, "bad_field ref"),
        ("ann", r#"{"op":"edit","ref":0,"body":{}}"#, "no_such_event ref"),
        ("ann", r#"{"op":"delete","ref":99}"#, "no_such_event ref"),
    ] {
        table.run(vec![ask(who, json)]);
        let answer = table.answers().remove(0);
        let (code, field) = (answer["code"].as_str().unwrap_or("ok"), answer["field"].as_str().unwrap_or("-"));
        assert_eq!(format!("{code} {field}"), wanted, "{who}: {json}");
    }
}

#[test]
fn a_reaction_is_made_and_taken_back_once() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND)]);
    let (make, take) =
        (r#"{"op":"react","ref":2,"emoji":"👍"}"#, r#"{"op":"react","ref":2,"emoji":"👍","remove":true}"#);
    table.run([make, make, take, take, make].map(|json| ask("bob", json)).into());
    let repeats: Vec<bool> = table.answers()[1..].iter().map(|answer| answer["repeat"] == true).collect();
    assert_eq!((repeats, table.room.head.seq), (vec![false, true, false, true, false], 5));
    table.run(vec![ask("ann", make)]);
    assert_eq!(table.room.head.seq, 6);
}

#[test]
fn a_message_before_the_tail_is_read_and_then_revised_with_what_came_meanwhile() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", SEND)]);
    let message = table.room.tail.get(2).unwrap().clone();
    long_after(&mut table);
    let (edit, delete) = (ask("ann", EDIT), ask("ann", DELETE));
    assert_eq!(table.room.missing_target(&edit.request), Some(2));
    let as_of = table.room.dispatched;
    let read = || TargetEvent { event: Some(message.clone()), as_of };
    table.room.note_target(2, read());
    assert_eq!(table.room.missing_target(&edit.request), None);
    let (batch, _) = table.online(&[], vec![delete, edit]);
    assert_eq!(revised(&batch).len(), 1);
    assert_eq!(table.answers()[1]["code"], "no_such_event");
    // It was read before the deletion, and is noted after it.
    table.room.note_target(2, read());
    table.run(vec![ask("ann", r#"{"op":"edit","ref":2,"body":{}}"#)]);
    assert_eq!(table.answers()[0]["code"], "no_such_event");
    // The deletion has left the tail: it must be read again.
    long_after(&mut table);
    table.room.note_target(2, read());
    assert_eq!(table.room.missing_target(&ask("ann", EDIT).request), Some(2));
}
