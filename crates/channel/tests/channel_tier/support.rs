//! A NATS server for one test, a worker on it, and a node that asks it by flows and hears it on a link.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::link::LinkReceiver;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_bus::{Bus, Subscription};
use sendpi_channel::{ChannelConfig, Worker};
use sendpi_model::flow::{NumberedRequest, Requester, encode_message, encode_request};
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved, LinkItem, read_message};
use sendpi_model::{Fields, Partition, Partitions, RoomId, UserId, Verb};
use sendpi_store::Row;
use sendpi_tests::{DisturbedStore, NatsServer, TestStore, WorkerNode, until};
use serde_json::Value;
use tokio::time::{Instant, interval};

/// What the node heard on the link.
#[derive(Debug, Default)]
struct Heard {
    answers: HashMap<(Partition, u64), Bytes>,
    added: Vec<AudienceAdded>,
    removed: Vec<AudienceRemoved>,
    /// How often each flow was refused.
    refusals: HashMap<Partition, usize>,
}

/// A worker, its store, and a node that asks it.
pub(crate) struct ChannelTier {
    pub(crate) store: Arc<DisturbedStore>,
    pub(crate) node: Bus,
    /// The numbers of the last requests, by partition.
    numbers: Mutex<HashMap<Partition, u64>>,
    /// The lowest numbers of the flows that the worker is to begin with.
    lows: Mutex<HashMap<Partition, u64>>,
    heard: Arc<Mutex<Heard>>,
    _worker: Worker,
    _worker_node: WorkerNode,
    _nats: NatsServer,
    _kept: TestStore,
}

impl ChannelTier {
    /// Starts a worker on a store that holds `rows`.
    pub(crate) async fn start(config: ChannelConfig, rows: Vec<Row>) -> Self {
        let tier = Self::start_held(config, rows).await;
        tier.store.timelines.release();
        tier
    }

    /// Starts a worker on a store that holds `rows`, and holds up all reads of timelines.
    pub(crate) async fn start_held(config: ChannelConfig, rows: Vec<Row>) -> Self {
        let (nats, kept) = (NatsServer::start().await, TestStore::make().await);
        kept.get().write(rows).await.unwrap();
        let store = Arc::new(DisturbedStore::new(kept.get()));
        store.timelines.hold().await;
        let (worker_node, node) = (WorkerNode::start(&nats).await, nats.connect("node").await);
        let heard = Arc::<Mutex<Heard>>::default();
        let link = node.subscribe(subject::node(node.node(), NodeSubject::Link)).await.unwrap();
        tokio::spawn(hear(node.clone(), link, Arc::clone(&heard)));
        let replies = node.subscribe(subject::flow_replies(node.node())).await.unwrap();
        tokio::spawn(hear_refusals(replies, Arc::clone(&heard)));
        let worker = worker_node.run(store.clone(), config).await;
        // This node sends nothing again, so the worker must be subscribed before the first request.
        Self {
            store,
            node,
            numbers: Mutex::default(),
            lows: Mutex::default(),
            heard,
            _worker: worker,
            _worker_node: worker_node,
            _nats: nats,
            _kept: kept,
        }
    }

    /// Sends a request. Returns its place in the answers.
    pub(crate) async fn send(&self, user: &str, room: &str, json: &str) -> (Partition, u64) {
        self.send_all(&[(user, room, json)]).await[0]
    }

    /// Sends requests to rooms of one partition in one message.
    pub(crate) async fn send_all(&self, asked: &[(&str, &str, &str)]) -> Vec<(Partition, u64)> {
        let mut requests = Vec::new();
        for (user, room, json) in asked {
            requests.push(self.number(user, room, json));
        }
        let partition = requests[0].0;
        let numbered = requests.iter().map(|(_, n, request)| NumberedRequest { n: *n, first: None, request });
        let low = self.lows.lock().unwrap().get(&partition).copied().unwrap_or(1);
        let message = encode_message(self.node.node(), low, numbered);
        let reply = subject::flow_reply(self.node.node(), partition);
        self.node.publish_with_reply(subject::room(partition), reply, message.into()).await.unwrap();
        requests.into_iter().map(|(partition, n, _)| (partition, n)).collect()
    }

    /// Has the flow to a partition begin with the next request, for an owner that does not know it.
    pub(crate) fn begin_flow_anew(&self, partition: Partition) {
        let next = self.numbers.lock().unwrap().get(&partition).map_or(1, |last| last + 1);
        self.lows.lock().unwrap().insert(partition, next);
    }

    /// Returns how often the flow to a partition was refused, or nobody listened.
    pub(crate) fn refusals(&self, partition: Partition) -> usize {
        self.heard.lock().unwrap().refusals.get(&partition).copied().unwrap_or(0)
    }

    fn number(&self, user: &str, room: &str, json: &str) -> (Partition, u64, Vec<u8>) {
        let fields = Fields::parse(json.as_bytes()).unwrap();
        let verb = Verb::read(&fields.required::<String>("op").unwrap(), &fields).unwrap().unwrap();
        let (room, user) = (RoomId::parse(room).unwrap(), UserId::parse(user).unwrap());
        let partition = Partitions::DEFAULT.of(&room);
        let n = {
            let mut numbers = self.numbers.lock().unwrap();
            let last = numbers.entry(partition).or_default();
            *last += 1;
            *last
        };
        (partition, n, encode_request(&room, Requester::User(&user), &verb))
    }

    /// Waits for the answer to a request.
    pub(crate) async fn answer(&self, place: (Partition, u64)) -> Value {
        let mut answer = None;
        until("an answer", async || {
            answer = self.heard.lock().unwrap().answers.get(&place).cloned();
            answer.is_some()
        })
        .await;
        serde_json::from_slice(&answer.unwrap()).unwrap()
    }

    /// Returns what the worker said of a user who was added to an audience on the node.
    pub(crate) fn added(&self, user: &str) -> Vec<AudienceReason> {
        let heard = self.heard.lock().unwrap();
        heard.added.iter().filter(|added| added.user.as_str() == user).map(|added| added.reason).collect()
    }

    /// Returns what the worker said of a user who was removed from an audience on the node.
    pub(crate) fn removed(&self, user: &str) -> Vec<AudienceReason> {
        let heard = self.heard.lock().unwrap();
        heard.removed.iter().filter(|removed| removed.user.as_str() == user).map(|removed| removed.reason).collect()
    }

    /// Returns whether a request is answered.
    pub(crate) fn is_answered(&self, place: (Partition, u64)) -> bool {
        self.heard.lock().unwrap().answers.contains_key(&place)
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, user: &str, room: &str, json: &str) -> Value {
        let place = self.send(user, room, json).await;
        self.answer(place).await
    }
}

/// Receives the worker's link, keeps what it says of answers and audiences, and settles everything at once.
async fn hear(node: Bus, mut messages: Subscription, heard: Arc<Mutex<Heard>>) {
    let (mut link, mut reply) = (LinkReceiver::new(), None);
    let mut ticks = interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return };
                reply = message.reply().map(str::to_owned);
                let (header, items) = read_message(message.payload().clone()).unwrap();
                let received = link.receive(header, items, message.payload().len(), Instant::now());
                for item in received.ready.into_iter().flat_map(|(_, items)| items) {
                    let mut heard = heard.lock().unwrap();
                    match item.unwrap() {
                        LinkItem::Answer { partition, n, frame } => drop(heard.answers.insert((partition, n), frame)),
                        LinkItem::Added(added) => heard.added.push(added),
                        LinkItem::Removed(removed) => heard.removed.push(removed),
                        LinkItem::Event { .. } => {}
                    }
                }
            }
            _ = ticks.tick() => {}
        }
        if let (Some(reply), Some(ack)) = (&reply, link.answer(|received| received, Instant::now())) {
            node.publish(reply.clone(), ack.encode()).await.unwrap();
        }
    }
}

/// Counts the refusals of flows.
async fn hear_refusals(mut replies: Subscription, heard: Arc<Mutex<Heard>>) {
    while let Some(reply) = replies.next().await {
        let partition = subject::partition_of(reply.subject()).unwrap();
        *heard.lock().unwrap().refusals.entry(partition).or_default() += 1;
    }
}
