use sendpi_model::UserId;
use sendpi_model::link::{AudienceReason, read_message};

use super::*;

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn added(name: &str) -> AudienceAdded {
    AudienceAdded { room: room(), user: user(name), reason: AudienceReason::Presence, seq: 0, info: Bytes::new() }
}

fn removed(name: &str) -> AudienceRemoved {
    AudienceRemoved { room: room(), user: user(name), reason: AudienceReason::Presence }
}

fn event(link: &mut LinkSender, seq: u64) {
    range(link, seq, seq);
}

/// Sends an event that stands for all from `first` on.
fn range(link: &mut LinkSender, first: u64, seq: u64) {
    let (room, at, frame) = (&room(), Millis(first * 10), &Bytes::from_static(b"{}"));
    link.event(&LinkEvent { partition: Partition(3), room, first, seq, at, frame });
}

fn large(link: &mut LinkSender, seq: u64, bytes: usize) {
    let (room, at, frame) = (&room(), Millis(0), &Bytes::from(vec![b' '; bytes]));
    link.event(&LinkEvent { partition: Partition(0), room, first: seq, seq, at, frame });
}

fn ack(received: u64, settled: u64) -> LinkAck {
    LinkAck { v: 1, incarnation: 7, received, settled, gap: false }
}

fn numbers(messages: &[Bytes]) -> Vec<(u64, bool)> {
    messages.iter().map(|m| read_message(m.clone()).map(|(h, _)| (h.number, h.is_announcement)).unwrap()).collect()
}

#[test]
fn what_waits_goes_out_as_one_message_and_is_cut_at_256_kib() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    event(&mut link, 1);
    event(&mut link, 2);
    assert_eq!(numbers(&link.drain(now)), [(1, false)]);
    (3..6).for_each(|seq| large(&mut link, seq, 200 * 1024));
    assert_eq!(numbers(&link.drain(now)), [(2, false), (3, false)]);
    assert!(link.drain(now).is_empty());
}

#[test]
fn what_the_node_lacks_is_sent_again_after_a_second_or_at_once_when_it_asks() {
    let start = Instant::now();
    let mut link = LinkSender::new(7, start);
    event(&mut link, 1);
    link.drain(start);
    event(&mut link, 2);
    link.drain(start);
    assert!(link.tick(start + Duration::from_millis(900)).send.is_empty());
    let tick = link.tick(start + Duration::from_secs(1));
    assert_eq!(numbers(&tick.send), [(1, false), (2, false), (2, true)]);
    let gap = LinkAck { gap: true, ..ack(1, 0) };
    assert_eq!(numbers(&link.ack(&gap, start + Duration::from_millis(1100))), [(2, false)]);
    assert!(link.ack(&gap, start + Duration::from_millis(1101)).is_empty(), "no second resend at once");
}

#[test]
fn silence_makes_a_node_unreachable_and_answers_do_not() {
    let start = Instant::now();
    let mut link = LinkSender::new(7, start);
    let at = |ms: u64| start + Duration::from_millis(ms);
    assert_eq!(link.tick(at(1000)).give_up, None);
    link.ack(&ack(0, 0), at(1500));
    assert_eq!(link.tick(at(2000)).give_up, None);
    assert_eq!(link.tick(at(4900)).give_up, None);
    assert!(!link.was_heard(at(4900)));
    assert_eq!(link.tick(at(5000)).give_up, Some(GiveUp::Silent));
}

#[test]
fn silence_that_the_worker_could_not_hear_counts_for_nothing() {
    let start = Instant::now();
    let mut link = LinkSender::new(7, start);
    let at = |ms: u64| start + Duration::from_millis(ms);
    link.tick(at(1000));
    link.reset_silence(at(9000));
    assert!(link.was_heard(at(11_999)));
    assert_eq!(link.tick(at(11_999)).give_up, None);
    assert_eq!(link.tick(at(12_000)).give_up, Some(GiveUp::Silent));
}

#[test]
fn a_node_to_which_too_much_is_under_way_is_given_up() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    let large = Bytes::from(vec![b' '; 256 * 1024]);
    for n in 0..256 {
        assert_eq!(link.tick(now).give_up, None);
        link.answer(Partition(0), n, large.clone());
        link.drain(now);
    }
    assert_eq!(link.tick(now).give_up, Some(GiveUp::Full));
    link.ack(&ack(200, 200), now);
    assert_eq!(link.tick(now).give_up, None);
}

#[test]
fn an_answer_to_another_incarnation_counts_for_nothing() {
    let start = Instant::now();
    let mut link = LinkSender::new(7, start);
    event(&mut link, 1);
    link.drain(start);
    link.ack(&LinkAck { incarnation: 6, ..ack(1, 1) }, start);
    assert_eq!(link.tick(start + LINK_RESEND_AFTER).send.len(), 2, "the message is resent, beside an announcement");
    assert_eq!(link.give_up().len(), 1);
}

#[test]
fn the_audience_of_an_undelivered_event_is_the_one_of_its_time() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    link.added(added("ann"));
    event(&mut link, 1);
    link.drain(now);
    link.added(added("bob"));
    event(&mut link, 2);
    link.removed(removed("ann"));
    event(&mut link, 3);
    link.drain(now);
    link.ack(&ack(2, 1), now);
    let mut undelivered: Vec<(UserId, u64, u64, Millis)> =
        link.give_up().undelivered().into_iter().map(|u| (u.user, u.first, u.last, u.at)).collect();
    undelivered.sort();
    assert_eq!(undelivered, [(user("ann"), 2, 2, Millis(20)), (user("bob"), 2, 3, Millis(20))]);
}

#[test]
fn half_a_window_makes_it_heavy_until_the_node_has_it() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    (1..=32).for_each(|seq| large(&mut link, seq, 256 * 1024));
    assert_eq!(link.load(), LinkLoad::Heavy);
    link.drain(now);
    link.ack(&ack(32, 0), now);
    assert_eq!(link.load(), LinkLoad::Free);
}

#[test]
fn the_oldest_unsettled_event_is_told_for_each_partition() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    for seq in 1..4 {
        event(&mut link, seq);
        link.drain(now);
    }
    link.ack(&ack(3, 2), now);
    let mut oldest = Vec::new();
    link.oldest_unsettled(|partition, at| oldest.push((partition, at)));
    assert_eq!(oldest, [(Partition(3), Millis(30))]);
}

#[test]
fn the_oldest_unsettled_event_is_that_of_the_lowest_time_in_whatever_order_they_were_sent() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    for seq in [5, 3, 4] {
        event(&mut link, seq);
        link.drain(now);
    }
    let oldest = |link: &LinkSender| {
        let mut oldest = Vec::new();
        link.oldest_unsettled(|_, at| oldest.push(at));
        oldest
    };
    assert_eq!(oldest(&link), [Millis(30)]);
    link.ack(&ack(3, 1), now);
    assert_eq!(oldest(&link), [Millis(30)]);
    link.ack(&ack(3, 2), now);
    assert_eq!(oldest(&link), [Millis(40)]);
    link.ack(&ack(3, 3), now);
    assert_eq!(oldest(&link), []);
}

#[test]
fn an_event_that_stands_for_others_is_bounced_with_them() {
    let now = Instant::now();
    let mut link = LinkSender::new(7, now);
    link.added(added("ann"));
    range(&mut link, 5, 9);
    link.drain(now);
    let bounced: Vec<_> = link.give_up().undelivered().into_iter().map(|u| (u.first, u.last, u.at)).collect();
    assert_eq!(bounced, [(5, 9, Millis(50))]);
}
