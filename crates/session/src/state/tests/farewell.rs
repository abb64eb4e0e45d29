//! Tests of a node's drain.

use super::*;

impl Test {
    fn say_bye(&mut self, all: bool) {
        self.state.say_bye(all, || 17, self.now, &mut self.effects);
    }
}

#[test]
fn a_drained_node_says_goodbye_to_who_has_answered_and_lets_nobody_in() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.state.begin_drain(test.now, &mut test.effects);
    test.say_bye(false);
    let got = ann.got();
    assert!(got.contains(r#"{"op":"ping"}"#) && !got.contains("bye"), "{got}");
    test.state.pong(ann.key);
    test.say_bye(false);
    let got = ann.got();
    assert!(got.contains(r#""reconnect_in_ms":17"#) && got.ends_with("drain"), "{got}");
    let outbound = Arc::new(Outbound::new(Arc::new(OpenSocket::default()), 1));
    assert_eq!(test.state.open(outbound, test.now).unwrap_err().code, Code::Unavailable);
}

#[test]
fn a_drain_bounces_nothing_that_clients_confirm_and_the_rest_of_those_that_do_not() {
    let mut test = Test::new();
    let (ann, bob) = (test.client("ann", "1"), test.client("bob", "1"));
    test.added(1, "ann", 3);
    test.added(1, "bob", 3);
    test.event(5, 4);
    test.state.begin_drain(test.now, &mut test.effects);
    test.state.pong(ann.key);
    test.say_bye(false);
    test.say_bye(true);
    assert!(ann.got().ends_with("drain") && bob.got().ends_with("drain"));
    test.leave(&ann);
    test.leave(&bob);
    let told = ["detach ann 1", "detach bob 2", "bounce bob 4-4"];
    assert_eq!(test.confirm_all(), told);
}

#[test]
fn a_client_that_owes_an_answer_is_asked_again_after_it() {
    let mut test = Test::new();
    let ann = test.client("ann", "1");
    test.added(1, "ann", 3);
    test.pass(26);
    test.event(5, 4);
    test.state.begin_drain(test.now, &mut test.effects);
    test.say_bye(false);
    assert_eq!(ann.got().matches("ping").count(), 1, "no second heartbeat while one is unanswered");
    test.state.pong(ann.key);
    test.say_bye(false);
    let got = ann.got();
    assert!(got.contains("ping") && !got.contains("bye"), "{got}");
    test.state.pong(ann.key);
    test.say_bye(false);
    assert!(ann.got().ends_with("drain"));
    test.leave(&ann);
    assert_eq!(test.asked(), ["detach ann 1"]);
}

#[test]
fn who_waits_for_a_welcome_is_told_to_go_at_once() {
    let mut test = Test::new();
    let ann = test.connect();
    test.join(&ann, "ann", "1").unwrap();
    test.state.begin_drain(test.now, &mut test.effects);
    test.say_bye(false);
    let got = ann.got();
    assert!(!got.contains("ping") && got.ends_with("drain"), "{got}");
}
