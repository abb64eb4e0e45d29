//! An owner of all partitions that keeps its rooms in memory and can lose what it sends.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sendpi_bus::link::LinkEvent;
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_bus::{Bus, flow, link};
use sendpi_model::flow::{FlowMessage, FlowRequest};
use sendpi_model::link::{AudienceAdded, AudienceReason, AudienceRemoved, LinkAck};
use sendpi_model::server_frame::{EventPage, HeadsAnswer, OkAnswer, OpFrame};
use sendpi_model::{
    Access, Content, Event, Head, Mark, Millis, NodeId, Notify, Partition, Partitions, Refusal, Role, RoomId, RoomInfo,
    RoomKind, UserId, Verb,
};
use tokio::time::{Instant, interval};

#[derive(Default)]
struct OwnerRoom {
    head: Head,
    events: Vec<Event>,
    audience: BTreeMap<UserId, u64>,
}

/// The owner: what a test can see of it, and how a test can disturb it.
#[derive(Default)]
pub(crate) struct Owner {
    rooms: Mutex<HashMap<RoomId, OwnerRoom>>,
    pub(crate) bounced: Mutex<BTreeSet<(UserId, u64)>>,
    pub(crate) settled: Mutex<LinkProgress>,
    /// How many links have messages that are not settled.
    pub(crate) unsettled: AtomicUsize,
    /// How many of the next link messages are lost.
    pub(crate) lose: AtomicU32,
    /// If set, the links begin a new incarnation. Unset once that is done.
    pub(crate) anew: AtomicBool,
    /// How many links began a new incarnation, because a test asked for it or because the node was silent.
    pub(crate) links: AtomicU32,
    /// If set, the owner ignores all requests.
    pub(crate) deaf: AtomicBool,
    /// What the owner does with the requests to some rooms.
    pub(crate) disturbed: Mutex<HashMap<String, Disturbance>>,
    /// How many requests were disturbed.
    pub(crate) disturbances: AtomicU32,
}

/// What an owner does with the requests to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disturbance {
    /// It never answers.
    Silent,
    /// It cannot read the room at present.
    Unavailable,
    /// It does not know the user there.
    Gone,
}

/// The numbers in the last answer to a link: received and settled.
pub(crate) type LinkProgress = (u64, u64);

impl Owner {
    pub(crate) async fn start(bus: Bus) -> Arc<Self> {
        let owner = Arc::new(Self::default());
        let mut flows = bus.subscribe("sendpi.room.*".to_owned()).await.unwrap();
        let mut acks = bus.subscribe(subject::link_replies(bus.node())).await.unwrap();
        let own = Arc::clone(&owner);
        tokio::spawn(async move {
            let mut receivers: HashMap<Partition, flow::FlowReceiver> = HashMap::new();
            let mut links: HashMap<NodeId, link::LinkSender> = HashMap::new();
            let mut ticks = interval(Duration::from_millis(50));
            loop {
                tokio::select! {
                    Some(message) = flows.next() => {
                        if own.deaf.load(Ordering::Relaxed) { continue }
                        let message = FlowMessage::parse(message.payload()).unwrap();
                        let node = message.node.clone();
                        let new_link = || link::LinkSender::new(rand::random(), Instant::now());
                        let link = links.entry(node).or_insert_with(new_link);
                        own.serve(&mut receivers, link, message);
                    }
                    Some(message) = acks.next() => {
                        let Some(node) = subject::link_reply_node(message.subject()) else { continue };
                        let Ok(ack) = LinkAck::parse(message.payload()) else { continue };
                        let Some(link) = links.get_mut(&node) else { continue };
                        *own.settled.lock().unwrap() = (ack.received, ack.settled);
                        for again in link.ack(&ack, Instant::now()) {
                            own.publish(&bus, &node, again).await;
                        }
                    }
                    _ = ticks.tick() => {
                        for (node, link) in &mut links {
                            let mut tick = link.tick(Instant::now());
                            if own.anew.swap(false, Ordering::Relaxed) || tick.give_up.is_some() {
                                *link = link::LinkSender::new(rand::random(), Instant::now());
                                own.links.fetch_add(1, Ordering::Relaxed);
                                receivers.values_mut().for_each(|flows| flows.forget(node));
                                own.give_users_up();
                                tick = link.tick(Instant::now());
                            }
                            for message in tick.send {
                                own.publish(&bus, node, message).await;
                            }
                        }
                    }
                }
                let unsettled = links.values().filter(|link| !link.is_settled()).count();
                own.unsettled.store(unsettled, Ordering::SeqCst);
                for (node, link) in &mut links {
                    for message in link.drain(Instant::now()) {
                        own.publish(&bus, node, message).await;
                    }
                }
            }
        });
        owner
    }

    async fn publish(&self, bus: &Bus, node: &NodeId, message: Bytes) {
        if self.lose.load(Ordering::Relaxed) > 0 {
            self.lose.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let reply = subject::link_reply(bus.node(), node);
        bus.publish_with_reply(subject::node(node, NodeSubject::Link), reply, message).await.unwrap();
    }

    fn serve(
        &self,
        receivers: &mut HashMap<Partition, flow::FlowReceiver>,
        link: &mut link::LinkSender,
        message: FlowMessage,
    ) {
        let partition = message
            .requests
            .iter()
            .find_map(|(_, request)| request.as_ref().ok())
            .map_or(Partition(0), |request| Partitions::DEFAULT.of(&request.room));
        for (n, request) in receivers.entry(partition).or_default().receive(message) {
            let Ok(request) = request else { continue };
            if let Some(answer) = self.answer(partition, link, &request) {
                link.answer(partition, n, answer.into());
            }
        }
    }

    fn answer(&self, partition: Partition, link: &mut link::LinkSender, request: &FlowRequest) -> Option<Vec<u8>> {
        let disturbance = self.disturbed.lock().unwrap().get(request.room.as_str()).copied();
        if let Some(disturbance) = disturbance {
            self.disturbances.fetch_add(1, Ordering::Relaxed);
            return match disturbance {
                Disturbance::Silent => None,
                Disturbance::Unavailable => Some(Refusal::unavailable("the room cannot be read", 1_000).to_frame()),
                Disturbance::Gone => Some(Refusal::no_such_room().to_frame()),
            };
        }
        let mut rooms = self.rooms.lock().unwrap();
        let room = rooms.entry(request.room.clone()).or_default();
        let (id, user) = (&request.room, &request.user);
        if id.as_str() == "closed" {
            return Some(Refusal::no_such_room().to_frame());
        }
        let ok = Some(OkAnswer::default().to_frame());
        match &request.verb {
            Verb::Attach { signin } => {
                if room.audience.insert(user.clone(), *signin).is_none() {
                    let (room, user, seq) = (id.clone(), user.clone(), room.head.seq);
                    link.added(AudienceAdded { room, user, reason: AudienceReason::Presence, seq, info: Bytes::new() });
                }
                Some(view(id, room))
            }
            Verb::Detach { .. } => {
                if room.audience.remove(user).is_some() {
                    link.removed(AudienceRemoved {
                        room: id.clone(),
                        user: user.clone(),
                        reason: AudienceReason::Presence,
                    });
                }
                ok
            }
            Verb::Peek => Some(view(id, room)),
            Verb::Send { body, nonce, .. } => {
                let content = Content::message(body, None);
                let event = Event::next(id, room.head, Millis::now(), user, nonce.as_ref(), &content);
                room.head = event.head;
                if !room.audience.is_empty() {
                    let Head { seq, at, .. } = event.head;
                    link.event(&LinkEvent { partition, room: id, first: seq, seq, at, frame: &event.frame });
                }
                let ok = OkAnswer::event(event.head, false).to_frame();
                room.events.push(event);
                Some(ok)
            }
            Verb::Read { seq } => {
                Some(OkAnswer { seq: Some(*seq), count: Some(*seq), ..OkAnswer::default() }.to_frame())
            }
            Verb::History { after, .. } => {
                let events = room.events.iter().filter(|event| event.head.seq > after.unwrap_or(0));
                let frames: Vec<&[u8]> = events.map(|event| event.frame.as_ref()).collect();
                Some(EventPage::join(id, &frames, false))
            }
            Verb::Heads { rooms: asked } => {
                let head = |id: &RoomId| Some((id.clone(), rooms.get(id)?.head.seq));
                Some(HeadsAnswer { rooms: asked.iter().filter_map(head).collect() }.to_frame())
            }
            Verb::Bounce { first, last } => {
                self.bounced.lock().unwrap().extend((*first..=*last).map(|seq| (user.clone(), seq)));
                ok
            }
            _ => None,
        }
    }

    /// Adds events to a room without dispatching them.
    pub(crate) fn happen(&self, id: &str, count: usize) {
        self.happen_with(id, count, "{}");
    }

    /// Does the same with events of some 2 KB.
    pub(crate) fn happen_long(&self, id: &str, count: usize) {
        self.happen_with(id, count, &format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000)));
    }

    fn happen_with(&self, id: &str, count: usize, body: &str) {
        let id = RoomId::parse(id).unwrap();
        let mut rooms = self.rooms.lock().unwrap();
        let room = rooms.entry(id.clone()).or_default();
        let body: Box<serde_json::value::RawValue> = serde_json::from_str(body).unwrap();
        let from = UserId::parse("ghost").unwrap();
        for _ in 0..count {
            let content = Content::message(&body, None);
            let event = Event::next(&id, room.head, Millis::now(), &from, None, &content);
            room.head = event.head;
            room.events.push(event);
        }
    }

    /// Forgets all audiences, as a worker does that gives a node up. The node is not told.
    pub(crate) fn give_users_up(&self) {
        self.rooms.lock().unwrap().values_mut().for_each(|room| room.audience.clear());
    }

    /// Disturbs the requests to a room from now on, or disturbs them no longer.
    pub(crate) fn disturb(&self, id: &str, how: Option<Disturbance>) {
        let mut disturbed = self.disturbed.lock().unwrap();
        match how {
            Some(how) => drop(disturbed.insert(id.to_owned(), how)),
            None => drop(disturbed.remove(id)),
        }
    }

    pub(crate) fn audience(&self, id: &str) -> Vec<String> {
        let rooms = self.rooms.lock().unwrap();
        let room = rooms.get(&RoomId::parse(id).unwrap());
        room.into_iter().flat_map(|room| room.audience.keys().map(ToString::to_string)).collect()
    }
}

fn view(id: &RoomId, room: &OwnerRoom) -> Vec<u8> {
    let info = RoomInfo {
        room: id.clone(),
        name: "n".to_owned(),
        kind: RoomKind::Group,
        access: Access::Open,
        role: Role::Member,
        seq: room.head.seq,
        count: room.head.count,
        marker: Mark::default(),
        unread: 0,
        notify: Notify::All,
        muted_until: None,
        last_at: room.head.at,
        last: None,
        members: 2,
        retention_days: None,
    };
    OkAnswer::room(info, true, false).to_frame()
}
