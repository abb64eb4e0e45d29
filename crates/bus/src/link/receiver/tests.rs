use std::time::Duration;

use bytes::Bytes;
use sendpi_model::link::read_message;

use super::*;

fn message(incarnation: u64, number: u64) -> (LinkHeader, LinkItems, usize) {
    encoded(LinkHeader { incarnation, number, is_announcement: false })
}

fn announcement(incarnation: u64, number: u64) -> (LinkHeader, LinkItems, usize) {
    encoded(LinkHeader { incarnation, number, is_announcement: true })
}

fn encoded(header: LinkHeader) -> (LinkHeader, LinkItems, usize) {
    let bytes = Bytes::from(header.encode());
    let length = bytes.len();
    let (header, items) = read_message(bytes).unwrap();
    (header, items, length)
}

fn take(receiver: &mut LinkReceiver, message: (LinkHeader, LinkItems, usize), now: Instant) -> (bool, Vec<u64>) {
    let taken = receiver.receive(message.0, message.1, message.2, now);
    (taken.cut, taken.ready.into_iter().map(|(number, _)| number).collect())
}

fn has_and_gap(receiver: &mut LinkReceiver, now: Instant) -> Option<(u64, bool)> {
    receiver.answer(|received| received, now).map(|ack| (ack.received, ack.gap))
}

#[test]
fn messages_are_handed_over_in_order_and_each_once() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    assert_eq!(take(&mut receiver, message(7, 1), now), (false, vec![1]));
    assert_eq!(take(&mut receiver, message(7, 3), now), (false, vec![]));
    assert_eq!(take(&mut receiver, message(7, 1), now), (false, vec![]));
    assert_eq!(take(&mut receiver, message(7, 2), now), (false, vec![2, 3]));
    assert_eq!(take(&mut receiver, message(7, 3), now), (false, vec![]));
}

#[test]
fn a_hole_is_asked_for_at_once_and_again_while_it_is_there() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    take(&mut receiver, message(7, 1), now);
    assert_eq!(has_and_gap(&mut receiver, now), Some((1, false)));
    take(&mut receiver, message(7, 3), now);
    assert_eq!(has_and_gap(&mut receiver, now), Some((1, true)));
    take(&mut receiver, message(7, 4), now);
    assert_eq!(has_and_gap(&mut receiver, now), None);
    let later = now + LINK_ASK_AGAIN;
    assert_eq!(has_and_gap(&mut receiver, later), Some((1, true)));
    take(&mut receiver, message(7, 2), later);
    assert_eq!(has_and_gap(&mut receiver, later + LINK_ANSWER_EVERY), Some((4, false)));
}

#[test]
fn a_tell_shows_that_the_last_message_was_lost_and_is_always_answered() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    take(&mut receiver, announcement(7, 0), now);
    assert_eq!(has_and_gap(&mut receiver, now), Some((0, false)));
    take(&mut receiver, announcement(7, 1), now);
    assert_eq!(has_and_gap(&mut receiver, now), Some((0, true)));
}

#[test]
fn answers_wait_for_time_or_bytes() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    take(&mut receiver, message(7, 1), now);
    assert!(receiver.answer(|received| received, now).is_some());
    assert!(receiver.answer(|received| received, now + LINK_ANSWER_EVERY).is_none(), "there is nothing to answer");
    let (header, items, _) = message(7, 2);
    receiver.receive(header, items, 100, now);
    assert!(receiver.answer(|received| received, now).is_none());
    assert!(receiver.answer(|received| received, now + LINK_ANSWER_EVERY).is_some());
    let (header, items, _) = message(7, 3);
    receiver.receive(header, items, ANSWER_BYTES, now);
    assert_eq!(receiver.answer(|_| 1, now).map(|ack| (ack.received, ack.settled)), Some((3, 1)));
}

#[test]
fn another_incarnation_cuts_the_link_and_begins_the_next_life() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    take(&mut receiver, message(7, 1), now);
    assert_eq!(take(&mut receiver, message(8, 1), now), (true, vec![1]));
    assert_eq!(take(&mut receiver, message(7, 2), now), (false, vec![]), "a late message of the former incarnation");
    assert_eq!(take(&mut receiver, message(8, 2), now), (false, vec![2]));
}

#[test]
fn five_seconds_of_silence_cut_the_link_and_its_life_gets_no_answer_any_more() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    take(&mut receiver, message(7, 1), now);
    assert!(!receiver.tick(now + Duration::from_secs(4)));
    assert!(receiver.tick(now + LINK_WORKER_SILENCE));
    assert!(!receiver.tick(now + LINK_WORKER_SILENCE));
    assert_eq!(take(&mut receiver, message(7, 2), now + LINK_WORKER_SILENCE), (false, vec![]));
    assert!(receiver.answer(|received| received, now + 2 * LINK_WORKER_SILENCE).is_none());
    assert_eq!(take(&mut receiver, message(9, 1), now + LINK_WORKER_SILENCE), (false, vec![1]));
}

#[test]
fn a_hole_that_stays_cuts_the_link() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    take(&mut receiver, message(7, 500), now);
    take(&mut receiver, announcement(7, 500), now + Duration::from_secs(4));
    assert!(receiver.tick(now + LINK_WORKER_SILENCE));
}

#[test]
fn silence_that_the_node_could_not_hear_cuts_nothing() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    let at = |s: u64| now + Duration::from_secs(s);
    take(&mut receiver, message(7, 500), now);
    receiver.reset_silence(at(60));
    assert!(!receiver.tick(at(64)));
    assert!(receiver.tick(at(65)), "the gap stayed");
}

#[test]
fn what_is_held_back_is_bounded_and_comes_again() {
    let (mut receiver, now) = (LinkReceiver::new(), Instant::now());
    let (header, items, _) = message(7, 2);
    receiver.receive(header, items, HELD_BYTES, now);
    take(&mut receiver, message(7, 3), now);
    assert_eq!(take(&mut receiver, message(7, 1), now), (false, vec![1, 2]));
    assert_eq!(take(&mut receiver, message(7, 3), now), (false, vec![3]));
}
