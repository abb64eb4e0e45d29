use super::entry::{HOLDS_UP, RANGES};
use super::*;

const P: Partition = Partition(3);

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn user(n: usize) -> UserId {
    UserId::parse(&format!("u{n}")).unwrap()
}

fn said(retries: &mut RetryQueue, partition: Partition) -> Vec<(RetryKey, String)> {
    let next = std::iter::from_fn(|| retries.next(partition));
    let say = |RetriedRequest { key, user, verb, .. }| match verb {
        Verb::Detach { signin } => (key, format!("detach {user} {signin}")),
        Verb::Bounce { first, last } => (key, format!("bounce {user} {first}-{last}")),
        other => (key, format!("{other:?}")),
    };
    next.map(say).collect()
}

fn texts(retries: &mut RetryQueue) -> Vec<String> {
    said(retries, P).into_iter().map(|(_, text)| text).collect()
}

/// Has the owner refuse what is under way, while events of other rooms come. Returns the origins that are released.
fn refuse(retries: &mut RetryQueue, key: RetryKey, pause: u64, now: Instant) -> Vec<Origin> {
    let mut released = Vec::new();
    retries.failed(key, Some(Duration::from_secs(pause)), now, |_| true, |origin| released.push(origin));
    released
}

#[test]
fn what_is_not_confirmed_is_asked_again_until_it_is() {
    let mut retries = RetryQueue::default();
    assert!(retries.detach(P, &room(), &user(1), 4) && retries.detach(P, &room(), &user(2), 4));
    let sent = said(&mut retries, P);
    retries.detach(P, &room(), &user(3), 4);
    let now = Instant::now();
    for (key, _) in &sent {
        retries.not_sent(*key, now);
    }
    assert_eq!(retries.retry(now + PAUSE.0), [P]);
    assert_eq!(texts(&mut retries), ["detach u3 4", "detach u1 4", "detach u2 4"]);
    assert!(retries.confirmed(sent[0].0).is_some() && retries.confirmed(sent[0].0).is_none());
    assert_eq!(retries.len(), 2);
}

#[test]
fn a_bounce_waits_until_the_detach_before_it_is_confirmed() {
    let mut retries = RetryQueue::default();
    retries.detach(P, &room(), &user(1), 4);
    retries.bounce(P, &room(), &user(1), UntakenRange::of(7..=7, (1, 1)));
    let (key, text) = said(&mut retries, P).remove(0);
    assert_eq!((text.as_str(), said(&mut retries, P).len()), ("detach u1 4", 0));
    let now = Instant::now();
    retries.not_sent(key, now);
    retries.retry(now + PAUSE.0);
    assert_eq!(texts(&mut retries), ["detach u1 4"]);
    let detached = Confirmed::Detach { room: room(), user: user(1), signin: 4 };
    assert_eq!(retries.confirmed(key), Some((P, detached)));
    assert_eq!(texts(&mut retries), ["bounce u1 7-7"]);
    assert_eq!(retries.confirmed(key), Some((P, Confirmed::Bounce { origins: vec![(1, 1)] })));
    assert_eq!(retries.len(), 0);
}

#[test]
fn events_in_a_row_are_one_range_with_the_first_message_of_each_link() {
    let mut retries = RetryQueue::default();
    assert_eq!(retries.bounce(P, &room(), &user(1), UntakenRange::of(7..=7, (1, 5))), Some(vec![]));
    assert_eq!(retries.bounce(P, &room(), &user(1), UntakenRange::of(8..=8, (1, 6))), Some(vec![(1, 6)]));
    assert_eq!(retries.bounce(P, &room(), &user(1), UntakenRange::of(9..=9, (2, 1))), Some(vec![]));
    assert_eq!(retries.bounce(P, &room(), &user(1), UntakenRange::of(12..=12, (2, 4))), Some(vec![]));
    let (key, text) = said(&mut retries, P).remove(0);
    assert_eq!(text, "bounce u1 7-9");
    assert_eq!(retries.confirmed(key), Some((P, Confirmed::Bounce { origins: vec![(1, 5), (2, 1)] })));
    assert_eq!(texts(&mut retries), ["bounce u1 12-12"]);
}

#[test]
fn the_ranges_of_one_user_in_one_room_are_limited_and_lose_nothing() {
    let mut retries = RetryQueue::default();
    for seq in (0..100).step_by(2) {
        retries.bounce(P, &room(), &user(1), UntakenRange::of(seq..=seq, (1, seq)));
    }
    let mut asked = Vec::new();
    while let Some((key, text)) = said(&mut retries, P).pop() {
        asked.push(text);
        retries.confirmed(key);
    }
    assert_eq!((asked.len(), asked.last().unwrap().as_str()), (RANGES, "bounce u1 14-98"));
}

#[test]
fn only_so_many_are_under_way_to_one_partition() {
    let mut retries = RetryQueue::default();
    for n in 0..UNDER_WAY + 10 {
        retries.detach(P, &room(), &user(n), 1);
    }
    retries.detach(Partition(4), &RoomId::parse("q").unwrap(), &user(0), 1);
    let under_way = said(&mut retries, P);
    assert_eq!((under_way.len(), retries.next(Partition(4)).is_some()), (UNDER_WAY, true));
    retries.confirmed(under_way[0].0);
    assert_eq!(texts(&mut retries), [format!("detach u{UNDER_WAY} 1")]);
}

#[test]
fn forgotten_bounces_make_room() {
    let mut retries = RetryQueue::default();
    retries.bounce(P, &room(), &user(1), UntakenRange::of(1..=1, (1, 1)));
    retries.bounce(P, &room(), &user(2), UntakenRange::of(1..=1, (1, 1)));
    let key = retries.next(P).unwrap().key;
    retries.drop_bounces();
    assert_eq!(retries.len(), 1, "what is under way stays until its answer");
    assert!(retries.confirmed(key).is_some());
    assert!(retries.next(P).is_none() && retries.len() == 0);
}

#[test]
fn those_whom_the_owner_refuses_wait_as_long_as_it_says_and_stand_in_nobodys_way() {
    let mut retries = RetryQueue::default();
    for n in 0..UNDER_WAY {
        retries.detach(P, &room(), &user(n), 1);
    }
    let (refused, now) = (said(&mut retries, P), Instant::now());
    retries.detach(P, &RoomId::parse("q").unwrap(), &user(UNDER_WAY), 1);
    for (key, _) in refused {
        refuse(&mut retries, key, 10, now);
    }
    assert_eq!(texts(&mut retries), [format!("detach u{UNDER_WAY} 1")]);
    retries.retry(now + Duration::from_secs(9));
    assert_eq!(texts(&mut retries).len(), 0);
    retries.retry(now + Duration::from_secs(10));
    assert_eq!(texts(&mut retries).len(), UNDER_WAY - 1, "one is under way");
}

#[test]
fn an_entry_that_is_refused_again_and_again_is_asked_ever_less_often() {
    let mut retries = RetryQueue::default();
    retries.detach(P, &room(), &user(1), 1);
    let (mut now, began, mut asked) = (Instant::now(), Instant::now(), 0);
    while now - began < Duration::from_mins(10) {
        for (key, _) in said(&mut retries, P) {
            asked += 1;
            refuse(&mut retries, key, 0, now);
        }
        now += Duration::from_millis(500);
        retries.retry(now);
    }
    assert!((15..30).contains(&asked), "{asked}");
}

#[test]
fn a_range_that_the_owner_refuses_waits_behind_the_others_of_its_user() {
    let mut retries = RetryQueue::default();
    let now = Instant::now();
    retries.bounce(P, &room(), &user(1), UntakenRange::of(7..=7, (1, 1)));
    let key = retries.next(P).unwrap().key;
    assert_eq!(refuse(&mut retries, key, 50, now), []);
    retries.bounce(P, &room(), &user(1), UntakenRange::of(8..=8, (1, 2)));
    assert_eq!(texts(&mut retries), ["bounce u1 8-8"], "it is no part of what was refused");
    assert_eq!(retries.confirmed(key), Some((P, Confirmed::Bounce { origins: vec![(1, 2)] })));
    assert_eq!(texts(&mut retries), ["bounce u1 7-7"]);
}

#[test]
fn what_was_released_is_asked_on_also_after_all_links_were_cut() {
    let mut retries = RetryQueue::default();
    let now = Instant::now();
    for seq in [7, 9] {
        retries.bounce(P, &room(), &user(1), UntakenRange::of(seq..=seq, (1, seq)));
    }
    let key = retries.next(P).unwrap().key;
    assert_eq!(refuse(&mut retries, key, 0, now), []);
    retries.retry(now + PAUSE.0);
    assert_eq!(texts(&mut retries), ["bounce u1 9-9"]);
    retries.not_sent(key, now);
    retries.retry(now + PAUSE.0);
    assert_eq!(texts(&mut retries), ["bounce u1 9-9"]);
    assert_eq!(refuse(&mut retries, key, 0, now), []);
    retries.retry(now + PAUSE.0);
    assert_eq!(texts(&mut retries), ["bounce u1 7-7"]);
    assert_eq!(refuse(&mut retries, key, 0, now + HOLDS_UP), [(1, 7)], "each range has its own minute");
    retries.drop_bounces();
    retries.retry(now + 2 * HOLDS_UP);
    assert_eq!(texts(&mut retries), ["bounce u1 7-7"]);
    assert_eq!(retries.confirmed(key), Some((P, Confirmed::Bounce { origins: vec![] })));
    assert_eq!(retries.len(), 0);
}

#[test]
fn a_node_that_stops_asks_at_once_what_waits() {
    let mut retries = RetryQueue::default();
    let now = Instant::now();
    retries.detach(P, &room(), &user(1), 1);
    for _ in 0..5 {
        let key = retries.next(P).unwrap().key;
        refuse(&mut retries, key, 0, now);
        retries.retry(now + HOLDS_UP);
    }
    let key = retries.next(P).unwrap().key;
    refuse(&mut retries, key, 60, now);
    retries.hurry(now);
    retries.retry(now);
    assert_eq!(texts(&mut retries), ["detach u1 1"]);
    refuse(&mut retries, key, 60, now);
    retries.retry(now + PAUSE.0);
    assert_eq!(texts(&mut retries), ["detach u1 1"]);
}

#[test]
fn what_is_not_answered_is_asked_as_often_as_before() {
    let mut retries = RetryQueue::default();
    let mut now = Instant::now();
    retries.bounce(P, &room(), &user(1), UntakenRange::of(7..=7, (1, 7)));
    for _ in 0..100 {
        let key = retries.next(P).unwrap().key;
        let released = |origin| panic!("{origin:?} was released");
        retries.failed(key, None, now, |_| true, released);
        now += PAUSE.0;
        retries.retry(now);
    }
}
