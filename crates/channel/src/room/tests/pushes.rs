//! Bounces, and who is pushed what.

use std::sync::Arc;

use sendpi_model::{Millis, Notify};

use super::{TestRoom, ask, node, user};
use crate::room::BounceOutcome;

#[test]
fn a_bounce_is_pushed_unless_the_user_is_in_l1_again() {
    let mut table = TestRoom::new();
    table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    let bounce = || ask("bob", r#"{"op":"bounce","first":2,"last":2}"#);
    assert_eq!(table.run(vec![bounce()]).pushes.len(), 1);
    table.room.attach(&user("bob"), &node("n2"), 1);
    assert_eq!(table.run(vec![bounce()]).pushes.len(), 0);
}

#[test]
fn a_bounce_of_many_events_is_one_push_of_those_that_the_user_wants() {
    let mut table = TestRoom::new();
    for from in ["ann", "bob", "ann", "ann"] {
        table.run(vec![ask(from, r#"{"op":"send","body":{}}"#)]);
    }
    let mut pushes = table.run(vec![ask("bob", r#"{"op":"bounce","first":1,"last":4}"#)]).pushes;
    let range = pushes.remove(0).range;
    assert_eq!((range.first, range.last, range.count, range.newest.head.seq), (2, 4, 2, 4));
    assert!(pushes.is_empty());
    let own = table.run(vec![ask("bob", r#"{"op":"bounce","first":3,"last":3}"#)]);
    assert!(own.pushes.is_empty() && own.scans.is_empty());
}

#[test]
fn a_bounce_from_before_the_tail_needs_the_timeline() {
    let mut table = TestRoom::new();
    for _ in 0..1_100 {
        table.run(vec![ask("ann", r#"{"op":"send","body":{}}"#)]);
    }
    let mut scans = table.run(vec![ask("bob", r#"{"op":"bounce","first":2,"last":1101}"#)]).scans;
    let mut scan = scans.remove(0);
    table.room.tail.iter().rev().for_each(|event| scan.look(event));
    let BounceOutcome::Push(_, range) = table.room.scanned(scan) else { panic!("the user wants nothing") };
    assert_eq!((range.first, range.last, range.count), (102, 1101, 1_000));
}

#[test]
fn who_is_offline_and_wants_all_shares_one_list_that_a_change_makes_anew() {
    let mut table = TestRoom::new();
    let send = || vec![ask("ann", r#"{"op":"send","body":{}}"#)];
    let list = |table: &mut TestRoom| table.run(send()).pushes.remove(0).users;
    let (first, second) = (list(&mut table), list(&mut table));
    assert!(Arc::ptr_eq(&first, &second) && *first == [user("bob"), user("eve")]);
    table.room.attach(&user("bob"), &node("n2"), 1);
    assert_eq!(*list(&mut table), [user("eve")]);
}

#[test]
fn a_mute_that_ends_and_a_mention_count_from_then_on() {
    let mut table = TestRoom::new();
    let muted = table.room.members.get_mut(&user("bob")).unwrap();
    muted.muted_until = Some(Millis(table.clock + 2));
    table.room.members.get_mut(&user("eve")).unwrap().notify = Notify::Mentions;
    let mut pushed = |json: &str| {
        let pushes = table.run(vec![ask("ann", json)]).pushes;
        pushes.iter().flat_map(|push| push.users.iter().map(|user| user.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(pushed(r#"{"op":"send","body":{}}"#), Vec::<String>::new());
    assert_eq!(pushed(r#"{"op":"send","body":{},"mentions":["eve"]}"#), ["bob", "eve"]);
    assert_eq!(pushed(r#"{"op":"send","body":{},"mentions":["bob"]}"#), ["bob"]);
}
