//! A room that cannot be read, for example because a later release wrote one of its rows: it holds up nobody else, is
//! tried ever less often, and loses nothing.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sendpi_bus::presence::{NodeKey, answer_alive, watch_nodes};
use sendpi_bus::{Bus, BusConfig, setup};
use sendpi_channel::ChannelConfig;
use sendpi_model::{Content, Event, Head, Mark, Millis, NodeId, Partition, Partitions, RoomId, UserId};
use sendpi_store::embedded::Embedded;
use sendpi_store::{
    EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, ReadError, RoomOfUser, RoomRow, Row, SettledRow, Start,
    Store, WriteError,
};
use sendpi_tests::{NatsServer, PushRecorder, step, within};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::fence::{OtherNode, Said};

/// A store in which the timeline of one room cannot be read for a while.
#[derive(Debug)]
struct OneRoomUnreadable {
    inner: Embedded,
    room: RoomId,
    is_unreadable: AtomicBool,
    tries: AtomicUsize,
}

#[async_trait]
impl Store for OneRoomUnreadable {
    async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        if *room == self.room && self.is_unreadable.load(Ordering::SeqCst) {
            self.tries.fetch_add(1, Ordering::SeqCst);
            return Err(ReadError("a later release wrote it".to_owned()));
        }
        self.inner.timeline(room, seqs, limit, newest).await
    }

    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        self.inner.write(rows).await
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        self.inner.partitions().await
    }

    async fn fence(&self, partition: Partition) -> Result<Option<Fence>, ReadError> {
        self.inner.fence(partition).await
    }

    async fn starts(&self, room: &RoomId) -> Result<Vec<Start>, ReadError> {
        self.inner.starts(room).await
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError> {
        self.inner.room(room).await
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<MemberRow>, ReadError> {
        self.inner.members(room).await
    }

    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        self.inner.rooms_of_user(user, after, limit).await
    }

    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        self.inner.rooms_of_user_among(user, rooms).await
    }

    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError> {
        self.inner.count_rooms_of_user(user, most).await
    }

    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        self.inner.rooms_by_activity(user, since, before, limit).await
    }

    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError> {
        self.inner.read_markers(user, rooms).await
    }

    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        self.inner.active_rooms(partition, minutes).await
    }

    async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        self.inner.nonces(room, seqs).await
    }

    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRow>, ReadError> {
        self.inner.member(room, user).await
    }

    async fn pushed(&self, room: &RoomId) -> Result<Option<PushedRow>, ReadError> {
        self.inner.pushed(room).await
    }

    async fn settled(&self, partition: Partition) -> Result<Vec<SettledRow>, ReadError> {
        self.inner.settled(partition).await
    }
}

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
    let newest = store.timeline(room, 1..=u64::MAX, 1, true).await.unwrap().remove(0);
    let body = RawValue::from_string(r#"{"text":"last words"}"#.to_owned()).unwrap();
    let content = Content::Message { body: &body, mentions: None };
    let from = UserId::parse("bob").unwrap();
    let event = Event::next(room, newest.event.head, Millis::now(), &from, None, &content);
    let Head { seq, .. } = event.head;
    store.write(vec![Row::Event(room.clone(), EventRow { epoch: newest.epoch, event })]).await.unwrap();
    seq
}

#[tokio::test]
async fn a_room_that_cannot_be_read_holds_up_nobody_and_is_handed_out_when_it_can_be() {
    let nats = NatsServer::start().await;
    let config = BusConfig { servers: nats.url(), ..BusConfig::default() };
    let stop = CancellationToken::new();
    let bus = Bus::connect(&config, NodeId::parse("worker").unwrap()).await.unwrap();
    setup(&bus, Partitions::DEFAULT, 1).await.unwrap();
    answer_alive(&bus, stop.clone()).await.unwrap();
    let key = NodeKey::start(&bus, "{}".into(), stop.clone()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [unreadable, readable] = two_rooms();
    let partition = Partitions::DEFAULT.of(&unreadable);
    let store = Arc::new(OneRoomUnreadable {
        inner: Embedded::open(folder.path().join("store")).unwrap(),
        room: unreadable.clone(),
        is_unreadable: AtomicBool::new(false),
        tries: AtomicUsize::new(0),
    });
    let start = async || {
        let changes = watch_nodes(&bus, stop.clone());
        let (store, key) = (store.clone(), key.clone());
        sendpi_channel::start(&bus, store, Partitions::DEFAULT, key, changes, ChannelConfig::default()).await.unwrap()
    };
    let mut pushes = PushRecorder::start(&nats).await;

    step("a node creates two rooms and sends");
    let worker = start().await;
    let mut node = OtherNode::start(&config, readable.clone()).await;
    for room in [&readable, &unreadable] {
        node.room = room.clone();
        let create = format!(r#"{{"op":"create","name":"{room}","nonce":"n"}}"#);
        assert!(matches!(node.ask(&create).await, Said::Answer(_)));
        assert!(matches!(node.ask(r#"{"op":"send","nonce":"a","body":{}}"#).await, Said::Answer(_)));
    }
    worker.stop().await;
    let seq = write_message(store.as_ref(), &unreadable).await;

    step("the next owner cannot read one of them, and serves the other");
    store.is_unreadable.store(true, Ordering::SeqCst);
    let worker = start().await;
    node.room = readable;
    let Said::Answer(said) = node.ask(r#"{"op":"send","nonce":"b","body":{}}"#).await else { panic!("not the owner") };
    assert!(said.contains(r#""op":"ok""#), "{said}");
    node.room = unreadable.clone();
    let Said::Answer(said) = node.ask(r#"{"op":"history","limit":10}"#).await else { panic!("not the owner") };
    assert!(said.contains("unavailable") && said.contains("retry_in_ms"), "{said}");

    step("what is settled goes on without it");
    let goes_on = async {
        let epoch = store.fence(partition).await.unwrap().unwrap().epoch;
        while store.settled(partition).await.unwrap().last().is_none_or(|row| row.epoch < epoch) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within(Duration::from_secs(15), "a record of what is settled", goes_on).await;
    let tries = store.tries.load(Ordering::SeqCst);
    assert!((5..12).contains(&tries), "it was tried {tries} times");
    assert!(!pushes.seen().iter().any(|(room, ..)| room == unreadable.as_str()));

    step("it can be read again, and is handed out");
    store.is_unreadable.store(false, Ordering::SeqCst);
    pushes.until(unreadable.as_str(), seq, "ann").await;
    worker.stop().await;
    stop.cancel();
}
