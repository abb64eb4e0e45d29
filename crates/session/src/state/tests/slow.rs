//! Tests of sessions whose clients read slowly, or whose tokens are short.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A socket that takes everything, or nothing.
#[derive(Debug, Default)]
struct Gate(AtomicBool);

impl Transport for Gate {
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(bufs.iter().map(|buf| buf.len()).sum())
    }
}

impl Test {
    fn with(config: SessionConfig) -> Self {
        let mut test = Self::new();
        test.state = State::new(config, Partitions::DEFAULT, test.now);
        test
    }

    /// Returns a client that is signed in, and whose socket takes nothing any more.
    fn stuck(&mut self, name: &str) -> TestClient {
        let gate = Arc::new(Gate::default());
        let outbound = Arc::new(Outbound::within(Arc::clone(&gate) as Arc<dyn Transport>, self.state.budget()));
        let key = self.state.open(Arc::clone(&outbound), self.now).unwrap();
        let client = TestClient { key, outbound, socket: Arc::default() };
        self.join(&client, name, "1").unwrap();
        self.welcome(&client, &[]);
        client.outbound.flush().unwrap();
        gate.0.store(true, Ordering::Relaxed);
        client
    }
}

impl TestClient {
    fn queue(&self, bytes: usize) {
        self.outbound.push(Bytes::from(vec![b'x'; bytes]), false);
        self.outbound.flush().unwrap();
    }
}

#[test]
fn a_token_that_expires_before_the_first_heartbeat_ends_its_session() {
    let mut test = Test::new();
    let ann = test.connect();
    let expires_at = test.wall.after(Duration::from_secs(2));
    let who = Identity { user: user("ann"), expires_at, issued_at: None, service: false };
    test.state.join(ann.key, &who, Some(&DeviceId::parse("1").unwrap()), &mut test.effects).unwrap();
    test.welcome(&ann, &[]);
    test.pass(1);
    assert!(!ann.got().contains("token"));
    test.pass(2);
    assert!(ann.got().ends_with("token expired"));
}

#[test]
fn a_heartbeat_that_cannot_be_written_ends_the_session_later_than_one_that_is_not_answered() {
    let mut test = Test::new();
    let ann = test.stuck("ann");
    ann.queue(1000);
    for seconds in [25, 11, 11] {
        test.pass(seconds);
        assert!(!ann.outbound.is_closing(), "its client may still read what came before");
    }
    test.pass(9);
    assert!(ann.outbound.is_closing());
}

#[test]
fn when_too_much_waits_for_all_sessions_the_largest_is_closed() {
    let mut test = Test::with(SessionConfig { node_outbox_bytes: 500, outbox_bytes: 500, ..SessionConfig::default() });
    let (ann, bob, cleo) = (test.stuck("ann"), test.stuck("bob"), test.stuck("cleo"));
    ann.queue(150);
    bob.queue(300);
    test.pass(1);
    assert!(!bob.outbound.is_closing(), "it is not too much yet");
    cleo.queue(100);
    test.pass(1);
    let closing = [&ann, &bob, &cleo].map(|client| client.outbound.is_closing());
    assert_eq!(closing, [false, true, false]);
    ann.queue(100);
    test.pass(1);
    assert!(!ann.outbound.is_closing(), "what was closed does not count for others");
}

#[test]
fn ephemeral_events_make_room_before_a_session_is_closed() {
    let mut test = Test::with(SessionConfig { node_outbox_bytes: 500, outbox_bytes: 500, ..SessionConfig::default() });
    let (ann, bob) = (test.stuck("ann"), test.stuck("bob"));
    ann.queue(300);
    bob.queue(100);
    bob.outbound.push(Bytes::from(vec![b't'; 300]), true);
    test.pass(1);
    assert!(!ann.outbound.is_closing() && !bob.outbound.is_closing());
    assert_eq!((ann.outbound.waiting(), bob.outbound.waiting()), (300, 100));
}

#[test]
fn what_is_held_back_counts_for_the_node_until_its_session_ends() {
    let mut test = Test::with(SessionConfig { node_outbox_bytes: 40, outbox_bytes: 40, ..SessionConfig::default() });
    let ann = test.stuck("ann");
    ann.queue(20);
    let bob = test.connect();
    let shared = Arc::new(Outbound::within(Arc::clone(&bob.socket) as Arc<dyn Transport>, test.state.budget()));
    let key = test.state.open(Arc::clone(&shared), test.now).unwrap();
    let bob = TestClient { key, outbound: shared, socket: bob.socket };
    test.join(&bob, "bob", "1").unwrap();
    test.added(1, "bob", 3);
    for seq in 4..=8 {
        test.event(seq, seq);
    }
    test.pass(1);
    assert!(bob.outbound.is_closing() && !ann.outbound.is_closing());
    ann.queue(10);
    test.pass(1);
    assert!(!ann.outbound.is_closing());
}
