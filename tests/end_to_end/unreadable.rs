//! A room that cannot be read, for example because a later release wrote one of its rows: it holds up nobody else, is
//! tried ever less often, and loses nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sendpi_channel::ChannelConfig;
use sendpi_model::{Content, Event, Head, Millis, Partitions, RoomId, UserId};
use sendpi_store::{EventRow, Row, Store};
use sendpi_tests::{DisturbedStore, NatsServer, PushRecorder, TestStore, WorkerNode, step, within};
use serde_json::value::RawValue;

use crate::fence::{OtherNode, Said};

/// Returns two rooms of one partition.
fn two_rooms() -> [RoomId; 2] {
    let first = RoomId::parse("unreadable").unwrap();
    let partition = Partitions::DEFAULT.of(&first);
    let second = (0..).map(|n| RoomId::parse(&format!("readable-{n}")).unwrap());
    let second = second.into_iter().find(|room| Partitions::DEFAULT.of(room) == partition).unwrap();
    [first, second]
}

/// Writes a message to a room by hand, as an owner does that ends before it dispatches it.
async fn write_message(store: &dyn Store, room: &RoomId) -> u64 {
    let newest = store.timeline(room, 1..=99, 1, true).await.unwrap().remove(0);
    let body = RawValue::from_string(r#"{"text":"last words"}"#.to_owned()).unwrap();
    let content = Content::message(&body, None);
    let from = UserId::parse("bob").unwrap();
    // An owner gives no event a time up to which everything is settled.
    let settled = store.settled(Partitions::DEFAULT.of(room)).await.unwrap().last().map_or(Millis(0), |row| row.at);
    let at = Millis::now().max(Millis(settled.0 + 1));
    let event = Event::next(room, newest.event.head, at, &from, None, &content);
    let Head { seq, .. } = event.head;
    store.write(vec![Row::Event(room.clone(), EventRow { epoch: newest.epoch, event, expires: None })]).await.unwrap();
    seq
}

#[tokio::test]
async fn a_room_that_cannot_be_read_holds_up_nobody_and_is_handed_out_when_it_can_be() {
    let nats = NatsServer::start().await;
    let worker_node = WorkerNode::start(&nats).await;
    let [unreadable, readable] = two_rooms();
    let partition = Partitions::DEFAULT.of(&unreadable);
    let kept = TestStore::make().await;
    let store = Arc::new(DisturbedStore::new(kept.get()));
    let start = async || worker_node.run(store.clone(), ChannelConfig::default()).await;
    let mut pushes = PushRecorder::start(&nats).await;

    step("a node creates two rooms and sends");
    let worker = start().await;
    let mut node = OtherNode::start(&nats, readable.clone()).await;
    for room in [&readable, &unreadable] {
        node.room = room.clone();
        let create = format!(r#"{{"op":"create","name":"{room}","nonce":"n"}}"#);
        assert!(matches!(node.ask(&create).await, Said::Answer(_)));
        assert!(matches!(node.ask(r#"{"op":"send","nonce":"a","body":{}}"#).await, Said::Answer(_)));
    }
    worker.stop().await;
    let seq = write_message(store.as_ref(), &unreadable).await;

    step("the next owner cannot read one of them, and serves the other");
    *store.unreadable.lock().unwrap() = Some(unreadable.clone());
    let worker = start().await;
    node.room = readable;
    let Said::Answer(said) = node.ask(r#"{"op":"send","nonce":"b","body":{}}"#).await else { panic!("not the owner") };
    assert!(said.contains(r#""op":"ok""#), "{said}");
    node.room = unreadable.clone();
    let Said::Answer(said) = node.ask(r#"{"op":"history","limit":10}"#).await else { panic!("not the owner") };
    assert!(said.contains("unavailable") && said.contains("retry_in_ms"), "{said}");

    step("what is settled goes on without it");
    let goes_on = async {
        let epoch = store.fences(partition, 0).await.unwrap().last().unwrap().epoch;
        while store.settled(partition).await.unwrap().last().is_none_or(|row| row.epoch < epoch) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(Duration::from_secs(15), "a record of what is settled", goes_on).await;
    let tries = store.failed_timelines.load(Ordering::SeqCst);
    assert!((5..12).contains(&tries), "it was tried {tries} times");
    assert!(!pushes.seen().iter().any(|(room, ..)| room == unreadable.as_str()));

    step("it can be read again, and is handed out");
    *store.unreadable.lock().unwrap() = None;
    pushes.until(unreadable.as_str(), seq, "ann").await;
    worker.stop().await;
}
