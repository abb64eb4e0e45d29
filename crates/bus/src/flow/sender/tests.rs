use sendpi_model::flow::{FlowMessage, Requester, encode_request};
use sendpi_model::{RoomId, UserId, Verb};

use super::*;
use crate::flow::FlowReceiver;

const WALL: Millis = Millis(1_000);

fn flow() -> (FlowSender<u32>, Instant) {
    let now = Instant::now();
    (FlowSender::new(NodeId::parse("n").unwrap(), now), now)
}

fn request(verb: &Verb) -> Vec<u8> {
    encode_request(&RoomId::parse("r").unwrap(), Requester::User(&UserId::parse("u").unwrap()), verb)
}

fn push(flow: &mut FlowSender<u32>, tags: impl IntoIterator<Item = u32>, now: Instant) {
    for tag in tags {
        flow.push(request(&Verb::Peek), tag, now).unwrap();
    }
}

fn take(flow: &mut FlowSender<u32>, now: Instant) -> Option<FlowMessage> {
    flow.drain_message(now, WALL).map(|bytes| FlowMessage::parse(&bytes).unwrap())
}

fn numbers(message: &FlowMessage) -> Vec<u64> {
    message.requests.iter().map(|(n, _)| *n).collect()
}

#[test]
fn what_waits_goes_as_one_message() {
    let (mut flow, now) = flow();
    push(&mut flow, [10, 11, 12], now);
    let message = take(&mut flow, now).unwrap();
    assert_eq!((message.low, numbers(&message)), (1, vec![1, 2, 3]));
    assert!(take(&mut flow, now).is_none());
    push(&mut flow, [13], now);
    let message = take(&mut flow, now).unwrap();
    assert_eq!((message.low, numbers(&message)), (1, vec![4]));
}

#[test]
fn an_answer_gives_its_tag_once_and_low_moves_past_what_is_answered() {
    let (mut flow, now) = flow();
    push(&mut flow, [10, 11, 12], now);
    take(&mut flow, now);
    assert_eq!(flow.answered(2, now), Some(11));
    assert_eq!(flow.answered(2, now), None);
    assert_eq!(flow.answered(1, now), Some(10));
    push(&mut flow, [13], now);
    assert_eq!(take(&mut flow, now).unwrap().low, 3);
    assert_eq!(flow.answered(99, now), None);
    assert_eq!(flow.unanswered(), 2);
}

#[test]
fn after_a_refusal_all_unanswered_is_sent_again_in_order_and_says_when_it_was_first_sent() {
    let (mut flow, now) = flow();
    push(&mut flow, [10, 11, 12], now);
    take(&mut flow, now);
    flow.answered(2, now);
    flow.schedule_resend(now, 0.5);
    push(&mut flow, [13], now);
    assert!(take(&mut flow, now).is_none(), "nothing overtakes a resend");
    let message = take(&mut flow, now + Duration::from_millis(20)).unwrap();
    assert_eq!(numbers(&message), [1, 2, 3, 4]);
    let first = |i: usize| message.requests[i].1.as_ref().ok().and_then(|r| r.first);
    assert_eq!((first(0), first(2), first(3)), (Some(WALL), Some(WALL), None));
}

#[test]
fn answered_slots_behind_what_was_sent_again_leave_nothing_to_do_now() {
    let (mut flow, now) = flow();
    push(&mut flow, [10, 11, 12], now);
    take(&mut flow, now);
    flow.answered(2, now);
    flow.answered(3, now);
    flow.schedule_resend(now, 0.5);
    let later = now + FLOW_FIRST_PAUSE;
    assert_eq!(numbers(&take(&mut flow, later).unwrap()), [1]);
    assert!(take(&mut flow, later).is_none());
    assert_eq!(flow.due(later), Some(later + FLOW_SILENCE));
    push(&mut flow, [13], later);
    assert_eq!(flow.due(later), Some(later));
}

#[test]
fn an_owner_that_does_not_know_the_flow_is_not_held_up_by_what_another_answered() {
    let (mut flow, now) = flow();
    push(&mut flow, [10, 11, 12], now);
    take(&mut flow, now);
    flow.answered(2, now);
    flow.schedule_resend(now, 0.5);
    let message = take(&mut flow, now + Duration::from_millis(20)).unwrap();
    let taken = FlowReceiver::default().receive(message);
    let served: Vec<u64> = taken.iter().filter(|(_, request)| request.is_ok()).map(|(n, _)| *n).collect();
    assert_eq!(served, [1, 3]);
}

#[test]
fn the_pause_doubles_up_to_its_limit_and_begins_anew_after_an_answer() {
    let (mut flow, mut now) = flow();
    push(&mut flow, [10, 11], now);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        while take(&mut flow, now).is_some() {}
        flow.schedule_resend(now, 0.5);
        let due = flow.due(now).unwrap();
        pauses.push((due - now).as_millis());
        now = due;
    }
    assert_eq!(pauses, [20, 40, 80, 160, 320, 500, 500]);
    while take(&mut flow, now).is_some() {}
    flow.answered(1, now);
    flow.schedule_resend(now, 0.5);
    assert_eq!((flow.due(now).unwrap() - now).as_millis(), 20);
}

#[test]
fn two_seconds_without_an_answer_count_as_a_refusal() {
    let (mut flow, now) = flow();
    push(&mut flow, [10], now);
    take(&mut flow, now);
    let later = flow.due(now).unwrap();
    assert_eq!(later - now, FLOW_SILENCE);
    assert!(flow.tick(later, 0.5).is_empty());
    assert!(take(&mut flow, later).is_none());
    assert_eq!(numbers(&take(&mut flow, later + FLOW_FIRST_PAUSE).unwrap()), [1]);
}

#[test]
fn after_ten_seconds_a_request_ends_and_its_number_is_skipped() {
    let (mut flow, now) = flow();
    push(&mut flow, [10], now);
    let later = now + Duration::from_secs(5);
    push(&mut flow, [11], later);
    take(&mut flow, later);
    assert_eq!(flow.tick(now + FLOW_GIVE_UP, 0.5), [10]);
    assert_eq!(flow.answered(1, later), None);
    flow.schedule_resend(now + FLOW_GIVE_UP, 0.5);
    let message = take(&mut flow, now + FLOW_GIVE_UP + FLOW_LONGEST_PAUSE).unwrap();
    assert_eq!((message.low, numbers(&message)), (2, vec![2]));
}

#[test]
fn what_is_never_answered_is_sent_once_and_does_not_hold_up_the_rest() {
    let (mut flow, now) = flow();
    flow.push_unanswered(request(&Verb::Typing), now);
    push(&mut flow, [11], now);
    let mut owner = FlowReceiver::default();
    assert_eq!(owner.receive(take(&mut flow, now).unwrap()).len(), 2);
    assert_eq!((flow.unanswered(), flow.answered(2, now)), (1, Some(11)));
    assert!(flow.due(now).is_none());
}

#[test]
fn long_requests_make_several_messages() {
    let (mut flow, now) = flow();
    for tag in 0..5 {
        let mut long = request(&Verb::Peek);
        long.splice(1..1, format!(r#""x":"{}","#, "x".repeat(100_000)).bytes());
        flow.push(long, tag, now).unwrap();
    }
    let messages: Vec<Vec<u64>> = std::iter::from_fn(|| take(&mut flow, now)).map(|m| numbers(&m)).collect();
    assert_eq!(messages, [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn beyond_its_limit_a_flow_takes_nothing() {
    let (mut flow, now) = flow();
    push(&mut flow, 0..UNANSWERED as u32, now);
    assert_eq!(flow.push(Vec::new(), 7, now), Err(FlowFull(7)));
    while take(&mut flow, now).is_some() {}
    flow.answered(1, now);
    assert_eq!(flow.push(request(&Verb::Peek), 7, now), Ok(()));
}

#[test]
fn when_somebody_serves_again_all_unanswered_is_resent_at_once() {
    let (mut flow, now) = flow();
    flow.resend_now(now);
    assert!(take(&mut flow, now).is_none(), "there is nothing");
    push(&mut flow, [10, 11], now);
    take(&mut flow, now);
    // The pause has grown by now.
    for _ in 0..6 {
        flow.schedule_resend(now, 0.5);
        flow.resend_at = None;
    }
    flow.schedule_resend(now, 0.5);
    flow.resend_now(now);
    assert_eq!(numbers(&take(&mut flow, now).unwrap()), [1, 2]);
    flow.schedule_resend(now, 0.5);
    assert_eq!(numbers(&take(&mut flow, now + Duration::from_millis(20)).unwrap()), [1, 2], "it begins anew");
}
