//! Tests of which sessions get which frames.

use super::*;
use crate::state::session_state::Hold;

#[test]
fn all_sessions_of_the_audience_get_an_event_once() {
    let mut test = Test::new();
    let (ann1, ann2, bob) = (test.client("ann", "1"), test.client("ann", "2"), test.client("bob", "1"));
    test.added(1, "ann", 3);
    test.event(1, 4);
    test.event(2, 4);
    assert_eq!((ann1.got(), ann2.got(), bob.got()), ("e4 ".into(), "e4 ".into(), String::new()));
    test.added(1, "bob", 4);
    test.event(3, 5);
    test.event(3, 0);
    assert_eq!((ann1.got().as_str(), bob.got().as_str()), ("e5 e0 ", "e5 e0 "));
}

#[test]
fn what_a_link_does_not_bring_is_read_and_comes_in_order() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(1, 6);
    test.event(2, 7);
    assert_eq!((ann.got().as_str(), test.effects.fills.len()), ("", 1));
    let key = test.effects.fills.remove(0);
    let missing = test.state.next_missing(key).unwrap();
    assert_eq!((missing.after, missing.user_id), (3, user("ann")));
    let events: Vec<_> = (4..=6).map(|seq| (seq, ws_frame::text(format!("r{seq} ").as_bytes()))).collect();
    test.state.deliver_missing(key, &events, &mut test.effects);
    assert_eq!(ann.got(), "r4 r5 e6 e7 ");
    assert_eq!(test.state.next_missing(key), None);
    test.event(3, 8);
    assert_eq!(ann.got(), "e8 ");
}

#[test]
fn what_cannot_be_read_is_told_as_a_head() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(1, 6);
    let key = test.effects.fills.remove(0);
    test.state.skip_missing(key, None, &mut test.effects);
    assert!(ann.got().ends_with(r#"{"op":"heads","rooms":{"r":5}}e6 "#));
    assert_eq!(test.state.next_missing(key), None);
}

#[test]
fn a_head_that_shows_more_is_a_gap_for_those_who_are_behind() {
    let mut test = Test::new();
    let _ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.state.heads([(room("r"), 3)], &mut test.effects);
    assert!(test.effects.fills.is_empty());
    test.state.heads([(room("r"), 4)], &mut test.effects);
    assert_eq!(test.effects.fills.len(), 1);
}

#[test]
fn a_join_tells_the_room_and_reads_nothing_of_before() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added_for(1, "ann", 40, AudienceReason::Joined);
    test.event(1, 41);
    assert!(ann.got().ends_with(r#"{"op":"room_added","info":{}}e41 "#));
    assert!(test.effects.fills.is_empty());
}

#[test]
fn after_a_kick_nothing_of_the_room_comes() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.removed(1, "ann", AudienceReason::Kicked);
    test.event(1, 4);
    assert!(ann.got().ends_with(r#"{"op":"room_removed","room":"r","reason":"kicked"}"#));
    assert!(test.state.rooms.find(&room("r")).is_none());
}

#[test]
fn a_former_owners_late_word_does_not_end_the_present_audience() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.added(2, "ann", 3);
    test.removed(1, "ann", AudienceReason::Presence);
    test.removed(1, "ann", AudienceReason::Kicked);
    test.event_of(2, 1, 4);
    assert_eq!(ann.got(), "e4 ");
}

#[test]
fn the_audience_of_a_cut_link_is_void() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(1, 4);
    test.state.cut(1);
    test.event(2, 5);
    assert_eq!(ann.got(), "e4 ");
    test.added(2, "ann", 6);
    assert_eq!(test.effects.fills.len(), 1, "what came in the meantime is read");
}

#[test]
fn a_session_gets_what_came_during_its_sign_in_after_the_welcome() {
    let mut test = Test::new();
    let ann = test.connect();
    test.join(&ann, "ann", "1").unwrap();
    test.added(1, "ann", 3);
    test.event(1, 4);
    test.event(2, 5);
    assert_eq!(ann.got(), "");
    test.welcome(&ann, &[(room("r"), 4)]);
    assert!(ann.got().ends_with("welcome e5 "));
    test.event(3, 6);
    assert_eq!(ann.got(), "e6 ");
}

#[test]
fn rooms_that_are_resumed_wait_for_their_replay() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    assert!(test.state.hold(ann.key, Hold::of([room("r")])));
    assert!(!test.state.hold(ann.key, Hold::of([room("r")])));
    test.event(1, 4);
    test.event(2, 5);
    assert_eq!(ann.got(), "");
    test.state.replayed(ann.key, ws_frame::text(b"resumed "), vec![(room("r"), 4)], &mut test.effects);
    assert!(ann.got().ends_with("resumed e5 "));
}
