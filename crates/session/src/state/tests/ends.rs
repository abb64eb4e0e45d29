//! Tests of heartbeats, of the end of sessions, and of what is bounced.

use super::*;

#[test]
fn a_session_that_ends_without_a_word_is_bounced_after_its_detach() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    test.event(6, 5);
    assert_eq!(test.settled(), 4);
    test.leave(&ann);
    assert_eq!(test.asked(), ["detach ann 1"], "for a user who is attached the owner would push nothing");
    assert_eq!(test.effects.signed_out, [user("ann")]);
    assert_eq!(test.settled(), 4, "a bounce counts once it is confirmed");
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 4-5"]);
    assert_eq!(test.settled(), 99);
    assert!(test.state.user_index.is_empty() && test.state.rooms.find(&room("r")).is_none());
}

#[test]
fn an_answered_heartbeat_confirms_what_came_before_it() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    test.pass(26);
    test.event(6, 5);
    test.state.pong(ann.key);
    assert!(ann.got().contains(r#"{"op":"ping"}"#));
    assert_eq!(test.settled(), 5);
    test.leave(&ann);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 5-5"]);
}

#[test]
fn what_another_device_was_there_for_is_not_bounced() {
    let mut test = Test::new();
    let first = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    let second = test.client("ann", "2");
    test.event(6, 5);
    test.leave(&first);
    assert_eq!(test.confirm_all(), ["bounce ann 4-4"]);
    test.leave(&second);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 5-5"]);
}

#[test]
fn a_session_that_ends_costs_one_bounce_for_each_room_however_much_was_under_way() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    for number in 0..10_000 {
        test.event(5 + number, 4 + number);
    }
    test.leave(&ann);
    assert_eq!(test.state.retries.len(), 1);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 4-10003"]);
    assert_eq!(test.settled(), 99);
}

#[test]
fn an_event_for_a_user_who_has_left_is_bounced_at_once() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.leave(&ann);
    test.asked();
    test.event(5, 4);
    test.event(6, 5);
    assert_eq!(test.settled(), 4);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 4-5"]);
    assert_eq!(test.settled(), 99);
    assert!(test.state.user_index.is_empty(), "the detach's answer ended the audience");
}

#[test]
fn a_user_found_online_too_late_is_detached() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.leave(&ann);
    test.added(1, "ann", 3);
    assert_eq!(test.asked(), ["detach ann 1"]);
    test.removed(1, "ann", AudienceReason::Presence);
    assert!(test.state.user_index.is_empty());
}

#[test]
fn an_attach_under_way_is_detached_with_the_last_session() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    let key = test.state.user_index[&user("ann")];
    let present = test.state.online_user(key).unwrap();
    let (tag, _wait) = crate::context::waiting();
    assert!(test.state.attach(&present, &room("r"), tag, &mut test.effects));
    test.leave(&ann);
    assert_eq!(test.asked(), ["Attach { signin: 1 }", "detach ann 1"]);
    let (tag, _wait) = crate::context::waiting();
    assert!(!test.state.attach(&present, &room("q"), tag, &mut test.effects));
}

#[test]
fn a_new_sign_in_does_not_trust_what_was_known_while_nobody_was_here() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.leave(&ann);
    test.event(5, 4);
    let ann = test.client("ann", "1");
    test.event(6, 9);
    assert!(test.effects.fills.is_empty());
    assert_eq!(ann.got(), "e9 ");
    test.leave(&ann);
    assert!(test.confirm_all().contains(&"detach ann 2".to_owned()));
}

#[test]
fn the_clients_own_close_answers_for_what_is_five_seconds_old() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    ann.got();
    test.pass(6);
    test.event(6, 5);
    ann.got();
    test.state.client_closed(ann.key, test.now);
    test.leave(&ann);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 5-5"]);
}

#[test]
fn the_clients_own_close_does_not_answer_for_what_was_never_written() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    test.pass(6);
    test.state.client_closed(ann.key, test.now);
    test.leave(&ann);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 4-4"]);
}

#[test]
fn a_heartbeat_does_not_confirm_what_is_held_back() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 6);
    test.pass(26);
    test.state.pong(ann.key);
    assert_eq!(test.settled(), 4);
    let key = test.effects.fills.remove(0);
    test.state.skip_missing(key, None, &mut test.effects);
    test.pass(26);
    test.state.pong(ann.key);
    assert_eq!(test.settled(), 99);
}

#[test]
fn a_heartbeat_does_not_confirm_what_a_filled_gap_gave_to_a_session_that_waits_for_its_replay() {
    for readable in [true, false] {
        let mut test = Test::new();
        let ann = test.client("ann", "1");
        test.added(1, "ann", 3);
        test.state.add_replay(ann.key, [room("r")].into()).unwrap();
        test.event(5, 5);
        let key = test.effects.fills.remove(0);
        if readable {
            test.state.deliver_missing(key, &[(4, ws_frame::text(b"r4 "))], &mut test.effects);
        } else {
            test.state.skip_missing(key, None, &mut test.effects);
        }
        test.pass(26);
        test.state.pong(ann.key);
        assert_eq!(test.settled(), 4);
        test.leave(&ann);
        assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 5-5"]);
    }
}

#[test]
fn a_heartbeat_does_not_confirm_what_was_read_for_a_session_that_waits_before_the_link_brings_it() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.state.add_replay(ann.key, [room("r")].into()).unwrap();
    test.state.heads([(room("r"), 4)], &mut test.effects);
    let key = test.effects.fills.remove(0);
    test.state.deliver_missing(key, &[(4, ws_frame::text(b"r4 "))], &mut test.effects);
    test.event(5, 4);
    test.pass(26);
    test.state.pong(ann.key);
    assert_eq!(test.settled(), 4);
}

#[test]
fn tokens_that_end_now_later_now_earlier_leave_one_expiry_per_session() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    for _ in 0..200 {
        for seconds in [9000, 8000, 9000, 8000] {
            let who = identity("ann", test.wall.after(Duration::from_secs(seconds)));
            test.state.renewed(ann.key, &who, test.now);
        }
        test.pass(1);
        test.state.pong(ann.key);
    }
    // Replaced entries stay until their time, which is at most one heartbeat away.
    assert!(test.state.timers.len() < 30, "{}", test.state.timers.len());
    test.pass(26);
    assert_eq!(test.state.timers.len(), 1);
}

#[test]
fn silence_after_a_heartbeat_ends_the_session_and_no_second_one_is_sent_before() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.pass(26);
    assert_eq!(ann.got().matches("ping").count(), 1);
    test.pass(9);
    assert_eq!(ann.got(), "");
    test.pass(2);
    assert!(ann.got().ends_with("no sign of life"));
}

#[test]
fn silence_while_the_process_is_frozen_ends_no_session_and_a_lasting_overload_is_no_freeze() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.pass(26);
    assert!(ann.got().contains("ping"));
    test.freeze(17);
    test.pass(5);
    assert!(!ann.outbound.is_closing());
    let ended = (0..).find(|_| {
        test.freeze(2);
        ann.outbound.is_closing()
    });
    // Of 17 s that were excused already, 13 of 30 are left. Without a limit it would be closed after 19 freezes.
    assert!((8..14).contains(&ended.unwrap()), "{ended:?}");
}

#[test]
fn a_session_ends_with_its_token_and_a_renewed_one_goes_on() {
    let mut test = Test::new();
    let (ann, bob) = (test.client("ann", "1"), test.client("bob", "1"));
    let who = identity("bob", test.wall.after(Duration::from_secs(9000)));
    test.state.renewed(bob.key, &who, test.now);
    for _ in 0..129 {
        test.pass(28);
        test.state.pong(ann.key);
        test.state.pong(bob.key);
    }
    assert!(ann.got().ends_with("token expired"));
    assert!(!bob.got().contains("token"));
}

#[test]
fn what_was_not_confirmed_is_asked_again() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    test.leave(&ann);
    assert_eq!(test.asked(), ["detach ann 1"]);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 4-4"]);
}

#[test]
fn a_bounce_that_its_owner_refuses_holds_up_the_link_for_a_minute_if_others_go_on_and_is_asked_on() {
    for others_go_on in [true, false] {
        let mut test = Test::new();
        let (ann, bob) = (test.client("ann", "1"), test.client("bob", "1"));
        test.added(1, "ann", 3);
        test.added(1, "bob", 3);
        test.event(5, 4);
        test.leave(&ann);
        assert_eq!(test.asking(), ["detach ann 1"]);
        test.answer_asked(true);
        for round in 0..2 {
            assert_eq!(test.asking(), ["bounce ann 4-4"], "round {round}");
            test.answer_asked(false);
            assert_eq!(test.settled(), 4);
            if others_go_on {
                test.event(6 + round, 5 + round);
            }
            test.pass(26);
            test.state.pong(bob.key);
            test.pass(5);
            test.state.ask_again(test.now, &mut test.effects);
        }
        test.answer_asked(false);
        assert_eq!(test.settled(), if others_go_on { 99 } else { 4 });
        test.pass(9);
        assert_eq!(test.confirm_all(), ["bounce ann 4-4"]);
        assert_eq!(test.settled(), 99);
    }
}

#[test]
fn a_close_that_may_be_older_than_it_seems_answers_for_nothing() {
    // How long after a freeze the close frame is read.
    for (seconds, confirms) in [(0, false), (3, false), (5, true)] {
        let mut test = Test::new();
        let ann = test.client("ann", "1");
        test.added(1, "ann", 3);
        test.event(5, 4);
        ann.got();
        test.freeze(8);
        test.pass(seconds);
        test.state.client_closed(ann.key, test.now);
        test.leave(&ann);
        let bounced = test.confirm_all().contains(&"bounce ann 4-4".to_owned());
        assert_eq!(bounced, !confirms, "{seconds} s after it");
    }
}

#[test]
fn a_close_that_is_read_before_the_first_tick_after_a_freeze_answers_for_nothing() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.event(5, 4);
    ann.got();
    test.now += Duration::from_secs(8);
    test.state.client_closed(ann.key, test.now);
    test.leave(&ann);
    assert_eq!(test.confirm_all(), ["detach ann 1", "bounce ann 4-4"]);
}

#[test]
fn a_sign_out_ends_the_sessions_whose_tokens_are_older_and_no_other() {
    let mut test = Test::new();
    let clients = [None, Some(5), Some(6), Some(7)].map(|issued| {
        let client = test.connect();
        let who = Identity { issued_at: issued.map(Millis), ..identity("ann", Millis(u64::MAX)) };
        test.state.join(client.key, &who, None, &mut test.effects).unwrap();
        client
    });
    let bob = test.connect();
    test.join(&bob, "bob", "phone").unwrap();
    test.state.revoke(&user("ann"), Millis(6), &mut test.effects);
    assert_eq!(clients.map(|client| client.outbound.is_closing()), [true, true, true, false]);
    assert!(!bob.outbound.is_closing());
}
