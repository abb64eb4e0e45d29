//! Tests of several sessions of one user.

use super::*;

const REPLACED: &str = "replaced by the same device";

impl Test {
    /// Tells that a device signed in on another node. Returns the stamp of a newer session here.
    fn elsewhere(&mut self, device: &str, stamp: u64) -> Option<u64> {
        let device = DeviceId::parse(device).unwrap();
        self.state.signed_in_elsewhere(&user("ann"), &device, stamp, &mut self.effects)
    }

    fn stamp(&mut self, client: &TestClient, stamp: u64) -> bool {
        self.state.stamp(client.key, stamp, &mut self.effects)
    }
}

#[test]
fn the_same_device_replaces_its_older_session() {
    let mut test = Test::new();
    let first = test.client("ann", "1");
    let second = test.client("ann", "1");
    let other = test.client("ann", "2");
    assert!(first.got().ends_with(REPLACED));
    assert!(test.stamp(&second, 5) && test.stamp(&other, 6) && !test.stamp(&first, 7));
}

#[test]
fn of_two_nodes_the_session_with_the_higher_stamp_remains() {
    let mut test = Test::new();
    let older = test.client("ann", "1");
    let laptop = test.client("ann", "2");
    assert!(test.stamp(&older, 5) && test.stamp(&laptop, 6));
    assert_eq!((test.elsewhere("1", 4), older.got().as_str()), (Some(5), ""));
    assert_eq!(test.elsewhere("1", 9), None);
    assert!(older.got().ends_with(REPLACED));
    assert_eq!(laptop.got(), "");
}

#[test]
fn a_session_whose_stamp_comes_later_is_judged_then() {
    let mut test = Test::new();
    let (loser, winner) = (test.client("ann", "1"), test.client("ann", "2"));
    assert_eq!((test.elsewhere("1", 9), test.elsewhere("2", 9)), (None, None));
    assert!(!test.stamp(&loser, 8) && test.stamp(&winner, 10));
    assert!(loser.got().ends_with(REPLACED));
    assert_eq!(winner.got(), "");
}

#[test]
fn the_twenty_first_session_ends_the_one_that_has_been_silent_longest() {
    let mut test = Test::new();
    let sessions: Vec<TestClient> = (1..=20).map(|n| test.client("ann", &n.to_string())).collect();
    for (n, session) in sessions.iter().enumerate().filter(|(n, _)| *n != 7) {
        session.outbound.hear(Instant::now() + Duration::from_secs(1 + n as u64));
    }
    let late = test.connect();
    test.join(&late, "ann", "99").unwrap();
    let ended: Vec<usize> =
        (0..20).filter(|n| sessions[*n].got().ends_with("too many sessions of this user")).collect();
    assert_eq!(ended, [7]);
}
