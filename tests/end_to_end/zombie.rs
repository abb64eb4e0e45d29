//! Two workers that both believe they own a room, because each has a NATS of its own, over one store.

use sendpi_channel::{ChannelConfig, Worker};
use sendpi_model::RoomId;
use sendpi_store::Store;
use sendpi_tests::{DisturbedStore, NatsServer, TestStore, WorkerNode, step, until};
use std::sync::Arc;

use crate::fence::{OtherNode, Said};

const CREATE: &str = r#"{"op":"create","name":"lobby","nonce":"n"}"#;
const HISTORY: &str = r#"{"op":"history","limit":20}"#;

/// A worker and a node that asks it, apart from all others but for the store.
struct Island {
    node: OtherNode,
    worker: Worker,
    _worker_node: WorkerNode,
    _nats: NatsServer,
}

impl Island {
    async fn start(store: Arc<dyn Store>) -> Self {
        let nats = NatsServer::start().await;
        let worker_node = WorkerNode::start(&nats).await;
        let worker = worker_node.run(store, ChannelConfig::default()).await;
        let node = OtherNode::start(&nats, RoomId::parse("lobby").unwrap()).await;
        Self { node, worker, _worker_node: worker_node, _nats: nats }
    }

    /// Sends a message. Returns its seq, or `None` if the worker says that it is not the owner.
    async fn send(&mut self, text: &str) -> Option<u64> {
        let said = self.node.ask(&format!(r#"{{"op":"send","nonce":"{text}","body":{{"text":"{text}"}}}}"#)).await;
        let Said::Answer(frame) = said else { return None };
        let answer: serde_json::Value = serde_json::from_str(&frame).unwrap();
        Some(answer["seq"].as_u64().unwrap_or_else(|| panic!("{text} is refused: {frame}")))
    }

    /// Returns the texts of the room, by seq.
    async fn texts(&mut self) -> Vec<(u64, String)> {
        let Said::Answer(frame) = self.node.ask(HISTORY).await else { panic!("not the owner") };
        let answer: serde_json::Value = serde_json::from_str(&frame).unwrap();
        let events = answer["events"].as_array().unwrap().iter();
        events.filter_map(|e| Some((e["seq"].as_u64()?, e["body"]["text"].as_str()?.to_owned()))).collect()
    }
}

fn texts(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(seq, text)| (*seq, (*text).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_former_owner_writes_late_is_never_shown_and_overwrites_nothing() {
    let kept = TestStore::make().await;
    let store = Arc::new(DisturbedStore::new(kept.get()));
    let mut former = Island::start(store.clone()).await;
    former.node.ask(CREATE).await;
    assert_eq!(former.send("first").await, Some(2));

    step("a write of the owner is on its way, and another worker takes the room");
    store.events.hold().await;
    let late = tokio::spawn(async move { (former.send("late").await, former) });
    until("the write to be on its way", async || store.events.held() > 0).await;
    let mut owner = Island::start(kept.get()).await;
    assert_eq!(owner.send("second").await, Some(3));

    step("the write arrives");
    store.events.release();
    let (seq, former) = late.await.unwrap();
    assert_eq!(seq, None, "an event that is not in the timeline was acknowledged");
    let all = texts(&[(2, "first"), (3, "second")]);
    assert_eq!(owner.texts().await, all);

    step("a third worker sees the same");
    owner.worker.stop().await;
    former.worker.stop().await;
    let mut third = Island::start(kept.get()).await;
    assert_eq!(third.texts().await, all);
    assert_eq!(third.send("third").await, Some(4));
    third.worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_former_owner_wrote_before_it_was_overtaken_is_kept_though_it_is_not_acknowledged() {
    let kept = TestStore::make().await;
    let store = Arc::new(DisturbedStore::new(kept.get()));
    let mut former = Island::start(store.clone()).await;
    former.node.ask(CREATE).await;
    assert_eq!(former.send("first").await, Some(2));

    step("the owner has written and not passed the fence yet, and another worker takes the room");
    store.fences.hold().await;
    let written = tokio::spawn(async move { (former.send("written").await, former) });
    until("the fence to be read", async || store.fences.held() > 0).await;
    let mut owner = Island::start(kept.get()).await;
    assert_eq!(owner.send("second").await, Some(4));

    step("the former owner goes on");
    store.fences.release();
    let (seq, former) = written.await.unwrap();
    assert_eq!(seq, None);
    assert_eq!(owner.texts().await, texts(&[(2, "first"), (3, "written"), (4, "second")]));
    owner.worker.stop().await;
    former.worker.stop().await;
}
