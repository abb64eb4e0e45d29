use super::*;
use crate::client::transport::Transport;
use crate::state::tests::OpenSocket;

struct Test {
    socket: Arc<OpenSocket>,
    session: SessionState,
}

impl Test {
    fn new(hold: Option<Hold>) -> Self {
        let socket = Arc::new(OpenSocket::default());
        let outbound = Arc::new(Outbound::new(Arc::clone(&socket) as Arc<dyn Transport>, 1000));
        let mut session = SessionState::new(outbound, Instant::now());
        session.hold = hold.map(Box::new);
        Self { socket, session }
    }

    fn deliver(&mut self, room: &str, seq: u64) {
        let frame = Bytes::from(format!("{room}{seq} "));
        let room = id(room);
        let parcel = Delivery { room: &room, seq, position: Some(seq + 100), frame: &frame, ephemeral: false };
        self.session.deliver(parcel, 50, &mut Effects::default());
    }

    fn release(&mut self, next: Option<Hold>) {
        self.session.release(next, &mut Effects::default());
    }

    fn got(&self) -> String {
        self.session.outbound.flush().unwrap();
        String::from_utf8_lossy(&std::mem::take(&mut *self.socket.0.lock().unwrap())).into_owned()
    }
}

fn id(room: &str) -> RoomId {
    RoomId::parse(room).unwrap()
}

#[test]
fn what_comes_before_the_welcome_follows_it_without_repeats() {
    let mut test = Test::new(Some(Hold::all()));
    for (room, seq) in [("a", 4), ("a", 5), ("b", 1)] {
        test.deliver(room, seq);
    }
    assert_eq!((test.got().as_str(), test.session.held_from()), ("", Some(101)));
    test.session.raise_floors([(id("a"), 4)]);
    test.release(None);
    assert_eq!(test.got(), "a5 b1 ");
    test.deliver("a", 6);
    assert_eq!(test.got(), "a6 ");
}

#[test]
fn what_was_held_back_was_not_prompt() {
    let mut test = Test::new(Some(Hold::all()));
    test.deliver("a", 4);
    test.release(None);
    assert_eq!(test.got(), "a4 ");
    assert!(!test.session.outbound.was_prompt(std::time::Duration::from_secs(5), Instant::now()));
}

#[test]
fn a_live_flow_behind_the_welcome_is_quiet_until_it_has_caught_up() {
    let mut test = Test::new(Some(Hold::all()));
    test.session.raise_floors([(id("a"), 5)]);
    test.release(None);
    for seq in 4..=6 {
        test.deliver("a", seq);
    }
    assert_eq!(test.got(), "a6 ");
    assert!(test.session.floors.is_none());
}

#[test]
fn rooms_that_are_not_replayed_go_on_while_others_are() {
    let mut test = Test::new(Some(Hold::all()));
    test.deliver("a", 1);
    test.deliver("b", 1);
    test.release(Some(Hold::of(0, [id("b")])));
    test.deliver("a", 2);
    test.deliver("b", 2);
    assert_eq!(test.got(), "a1 a2 ");
    test.session.raise_floors([(id("b"), 1)]);
    test.release(None);
    assert_eq!(test.got(), "b2 ");
}

#[test]
fn what_is_held_back_is_bounded_and_then_the_client_comes_back() {
    let mut test = Test::new(Some(Hold::all()));
    for seq in 1..=30 {
        test.deliver("a", seq);
    }
    test.release(None);
    assert!(test.got().contains("reads too slowly"));
}

#[test]
fn what_the_welcome_covers_may_be_dropped_before() {
    let mut test = Test::new(Some(Hold::all()));
    for seq in 1..=30 {
        test.deliver("a", seq);
    }
    test.session.raise_floors([(id("a"), 29)]);
    test.release(None);
    assert_eq!(test.got(), "a30 ");
}

#[test]
fn floors_below_the_live_flow_are_forgotten() {
    let mut test = Test::new(None);
    test.session.raise_floors([(id("a"), 5), (id("b"), 7), (id("c"), 7)]);
    test.session
        .prune_floors(|room| [("a", 3), ("c", 7)].into_iter().find(|(r, _)| room.as_str() == *r).map(|(_, seq)| seq));
    assert_eq!(test.session.floors.as_ref().map(|floors| floors.len()), Some(2), "of b nothing came yet");
    test.session.prune_floors(|_| Some(9));
    assert!(test.session.floors.is_none());
}

#[test]
fn a_heartbeat_may_be_answered_for_a_while_after_it_was_written() {
    use std::time::Duration;

    let timeouts = (Duration::from_secs(10), Duration::from_secs(30));
    let mut test = Test::new(None);
    let now = Instant::now();
    let state = |test: &Test, seconds| test.session.heartbeat(timeouts, now + Duration::from_secs(seconds));
    assert_eq!(state(&test, 0), HeartbeatState::Answered);
    test.session.beat.waiting_since = Some(now - Duration::from_secs(20));
    test.session.outbound.push_ping(Bytes::from_static(b"ping"));
    assert_eq!(state(&test, 1), HeartbeatState::Waiting(now + Duration::from_secs(10)));
    assert_eq!(state(&test, 11), HeartbeatState::Slow);
    assert_eq!(test.got(), "ping");
    assert!(matches!(state(&test, 9), HeartbeatState::Waiting(until) if until >= now + timeouts.0));
    assert_eq!(state(&test, 11), HeartbeatState::Silent);
    // Both together are the limit, however often the time for an answer begins anew.
    test.session.beat.waiting_since = Some(now - Duration::from_secs(39));
    assert_eq!(state(&test, 1), HeartbeatState::Silent);
}
