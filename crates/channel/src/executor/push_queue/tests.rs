use sendpi_model::{Content, Event, Head, Millis};
use serde_json::value::RawValue;

use super::*;

fn users(names: &[&str]) -> Arc<[UserId]> {
    names.iter().map(|name| UserId::parse(name).unwrap()).collect()
}

fn range(seq: u64) -> WantedRange {
    let body: Box<RawValue> = serde_json::from_str("{}").unwrap();
    let content = Content::message(&body, None);
    let last = Head { seq: seq - 1, count: seq - 1, at: Millis(seq) };
    let ann = UserId::parse("ann").unwrap();
    let newest = Event::next(&RoomId::parse("r").unwrap(), last, Millis(seq), &ann, None, &content);
    WantedRange { first: seq, last: seq, count: 1, newest, at: Millis(seq) }
}

fn order(users: &Arc<[UserId]>, seq: u64) -> PushOrder {
    PushOrder { users: Arc::clone(users), range: range(seq), then: None, pending: None }
}

struct Test {
    room: RoomPushes,
    pending: PendingPushes,
}

impl Test {
    fn new() -> Self {
        let room =
            RoomPushes { partition: Partition(1), waiting: VecDeque::new(), under_way: false, next: Instant::now() };
        Self { room, pending: PendingPushes::default() }
    }

    fn add(&mut self, order: PushOrder) {
        let given_back = self.room.add(order, |at| self.pending.add(Partition(1), at));
        given_back.into_iter().for_each(|id| self.pending.done(id));
    }

    /// Returns first, last, count and users of each job.
    fn jobs(&mut self) -> Vec<(u64, u64, u64, String)> {
        let round = self.room.take(RoomId::parse("r").unwrap());
        let names = |job: &PushJob| job.users.iter().map(UserId::as_str).collect::<Vec<_>>().join(" ");
        round.jobs.iter().map(|job| (job.first, job.last, job.count, names(job))).collect()
    }
}

#[test]
fn many_messages_to_the_same_users_are_one_job_and_one_pending_push() {
    let (mut test, list) = (Test::new(), users(&["bob", "cid"]));
    for seq in 1..=1_000 {
        test.add(order(&list, seq));
    }
    assert_eq!((test.room.waiting.len(), test.pending.count()), (1, 1));
    assert_eq!(test.pending.oldest(Partition(1)), Some(Millis(1)));
    assert_eq!(test.jobs(), [(1, 1_000, 1_000, "bob cid".to_owned())]);
}

#[test]
fn ranges_that_are_alike_become_one_job_for_all_their_users() {
    let mut test = Test::new();
    for name in ["bob", "cid", "dan"] {
        test.add(order(&users(&[name]), 4));
    }
    test.add(order(&users(&["eve"]), 5));
    assert_eq!(test.jobs(), [(4, 4, 1, "bob cid dan".to_owned()), (5, 5, 1, "eve".to_owned())]);
}

#[test]
fn a_job_names_500_users_at_most() {
    let mut test = Test::new();
    let names: Vec<String> = (0..1_001).map(|n| format!("u{n}")).collect();
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    test.add(order(&users(&list), 4));
    assert_eq!(
        test.room.take(RoomId::parse("r").unwrap()).jobs.iter().map(|j| j.users.len()).collect::<Vec<_>>(),
        [500, 500, 1]
    );
}

#[test]
fn of_two_pending_pushes_that_become_one_the_older_stays() {
    let mut test = Test::new();
    let bob = users(&["bob"]);
    let (newer, older) = (test.pending.add(Partition(1), Millis(8)), test.pending.add(Partition(1), Millis(3)));
    test.add(PushOrder { pending: Some(newer), ..order(&bob, 8) });
    test.add(PushOrder { pending: Some(older), ..order(&bob, 3) });
    assert_eq!((test.pending.count(), test.pending.oldest(Partition(1))), (1, Some(Millis(3))));
    assert_eq!(test.jobs(), [(3, 8, 2, "bob".to_owned())]);
}
