//! The fence: a worker that was overtaken answers nothing.

use std::time::Duration;

use futures_util::StreamExt;
use sendpi_bus::{Bus, subject};
use sendpi_channel::ChannelConfig;
use sendpi_model::flow::{NumberedRequest, Requester, encode_message, encode_request};
use sendpi_model::link::{LinkAck, LinkItem, read_message};
use sendpi_model::{Fields, Partitions, RoomId, UserId, Verb};
use sendpi_store::{Fence, Row};
use sendpi_tests::{NatsServer, TestStore, WorkerNode, step, within};

const TEST: &str = "fence::a_worker_that_was_overtaken_answers_nothing";

/// What a worker says to a request: its answer, or that it is not the owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Answer(String),
    NotOwner,
}

/// A node that the test plays by hand, with one flow and one link.
pub(crate) struct OtherNode {
    bus: Bus,
    links: sendpi_bus::Subscription,
    refusals: sendpi_bus::Subscription,
    /// The room that it asks. All rooms of one node must be in one partition, because it has one flow.
    pub(crate) room: RoomId,
    sent: u64,
}

impl OtherNode {
    pub(crate) async fn start(nats: &NatsServer, room: RoomId) -> Self {
        let bus = nats.connect("node").await;
        let links = bus.subscribe(subject::node(bus.node(), subject::NodeSubject::Link)).await.unwrap();
        let refusals = bus.subscribe(subject::flow_replies(bus.node())).await.unwrap();
        Self { bus, links, refusals, room, sent: 0 }
    }

    pub(crate) async fn ask(&mut self, json: &str) -> Said {
        let fields = Fields::parse(json.as_bytes()).unwrap();
        let verb = Verb::read(&fields.required::<String>("op").unwrap(), &fields).unwrap().unwrap();
        let request = encode_request(&self.room, Requester::User(&UserId::parse("ann").unwrap()), &verb);
        self.sent += 1;
        let (n, node, partition) = (self.sent, self.bus.node().clone(), Partitions::DEFAULT.of(&self.room));
        let message = encode_message(&node, n, [NumberedRequest { n, first: None, request: &request }]);
        let (to, reply) = (subject::room(partition), subject::flow_reply(&node, partition));
        self.bus.publish_with_reply(to, reply, message.into()).await.unwrap();
        within(Duration::from_secs(20), "an answer", self.next(n)).await
    }

    async fn next(&mut self, wanted: u64) -> Said {
        loop {
            tokio::select! {
                Some(refusal) = self.refusals.next() => {
                    // Once the worker knows, it does not even listen.
                    assert!(refusal.is_no_responders() || &refusal.payload()[..] == b"\"not_owner\"");
                    return Said::NotOwner;
                }
                Some(message) = self.links.next() => {
                    let (header, items) = read_message(message.payload().clone()).unwrap();
                    let (v, has) = (1, header.number);
                    let ack = LinkAck { v, incarnation: header.incarnation, received: has, settled: has, gap: false };
                    self.bus.publish(message.reply().unwrap().to_owned(), ack.encode()).await.unwrap();
                    for item in items {
                        if let LinkItem::Answer { n, frame, .. } = item.unwrap() && n == wanted {
                            return Said::Answer(String::from_utf8(frame.to_vec()).unwrap());
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_worker_that_was_overtaken_answers_nothing() {
    let nats = NatsServer::start().await;
    let worker_node = WorkerNode::start(&nats).await;
    let kept = TestStore::make().await;
    let store = kept.get();
    let worker = worker_node.run(store.clone(), ChannelConfig::default()).await;

    let room = RoomId::parse("lobby").unwrap();
    let mut node = OtherNode::start(&nats, room.clone()).await;
    step("a node creates a room and sends");
    assert!(matches!(node.ask(r#"{"op":"create","name":"lobby","nonce":"n"}"#).await, Said::Answer(_)));
    assert!(matches!(node.ask(r#"{"op":"send","nonce":"a","body":{}}"#).await, Said::Answer(_)));

    // Another worker takes over the partition, and this one does not know about it.
    step("another worker raises the fence and the node sends again");
    let fence = Fence { epoch: 99, claim: "another".to_owned() };
    store.write(vec![Row::Fence(Partitions::DEFAULT.of(&room), fence)]).await.unwrap();
    assert_eq!(node.ask(r#"{"op":"send","nonce":"b","body":{}}"#).await, Said::NotOwner);
    assert_eq!(node.ask(r#"{"op":"history","limit":10}"#).await, Said::NotOwner);
    worker.stop().await;
}

/// Runs that test again in a process of its own, because the environment chooses the mutant, and checks that it fails.
pub(crate) async fn notices_mutant() {
    let test = std::env::current_exe().unwrap();
    let output = tokio::process::Command::new(test)
        .args(["--exact", TEST, "--nocapture"])
        .env("SENDPI_MUTANT", "FenceOff")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "nothing noticed FenceOff: {said}");
    assert!(said.contains("right: NotOwner"), "it failed for another reason: {said}");
}
