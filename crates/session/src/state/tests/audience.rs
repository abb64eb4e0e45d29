//! Tests of which sessions get which frames.

use super::*;

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
    test.state.add_replay(ann.key, [room("r")].into()).unwrap();
    test.event(1, 4);
    test.event(2, 5);
    assert_eq!(ann.got(), "");
    test.state.replayed(ann.key, ws_frame::text(b"resumed "), vec![(room("r"), 4)], &mut test.effects);
    assert!(ann.got().ends_with("resumed e5 "));
}

#[test]
fn a_second_replay_waits_for_the_first_and_its_rooms_are_held_back_from_the_beginning() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    let first = test.state.add_replay(ann.key, [room("other")].into()).unwrap();
    let second = test.state.add_replay(ann.key, [room("r")].into()).unwrap();
    assert!(test.state.is_turn_of(ann.key, first) && !test.state.is_turn_of(ann.key, second));
    test.event(1, 4);
    test.state.replayed(ann.key, ws_frame::text(b"first "), vec![], &mut test.effects);
    test.event(2, 5);
    assert!(ann.got().ends_with("first ") && test.state.is_turn_of(ann.key, second));
    test.state.replayed(ann.key, ws_frame::text(b"second "), vec![(room("r"), 4)], &mut test.effects);
    assert!(ann.got().ends_with("second e5 "));
}

#[test]
fn a_welcome_tells_the_heads_that_it_does_not_cover() {
    let mut test = Test::new();
    let ann = test.connect();
    test.join(&ann, "ann", "1").unwrap();
    test.added(1, "ann", 9);
    // The owner did not answer in time: the welcome has what the room's row says.
    test.welcome(&ann, &[(room("r"), 4)]);
    assert!(ann.got().contains(r#"{"op":"heads","rooms":{"r":9}}"#));
    let bob = test.connect();
    test.join(&bob, "bob", "1").unwrap();
    test.added(1, "bob", 9);
    test.event(1, 10);
    test.welcome(&bob, &[(room("r"), 9)]);
    assert!(bob.got().ends_with("welcome e10 "), "what is held back continues the welcome");
}

#[test]
fn who_joined_again_before_a_late_no_stays_in_the_audience() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    let user = test.state.online_users().remove(0);
    let attach = AttachRequest { user, room: room("r"), telling: AttachTelling::IfGone };
    let refused = || Err(Refusal::no_such_room());
    test.state.attach_answered(&attach, &refused(), &mut test.effects);
    test.event(1, 4);
    assert_eq!(ann.got(), "e4 ");
    test.state.cut(1);
    test.state.attach_answered(&attach, &refused(), &mut test.effects);
    assert!(ann.got().contains("room_removed"));
    assert!(test.state.rooms.find(&room("r")).is_none());
}

#[test]
fn a_session_without_a_device_replaces_none_and_none_replaces_it() {
    let mut test = Test::new();
    let clients = ["", "phone", "", "tablet"].map(|device| test.client("ann", device));
    let replaced = |client: &TestClient| client.got().contains("replaced");
    assert!(!clients.iter().any(replaced));
    test.client("ann", "phone");
    assert_eq!(clients.each_ref().map(replaced), [false, true, false, false]);
}
