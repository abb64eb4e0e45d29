//! Requests: from a flow's message to the rooms where they are queued.

use bytes::Bytes;
use sendpi_bus::{NatsMessage, SendError, subject};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::{FlowMessage, FlowRefusal, FlowRequest};
use sendpi_model::rights::Action;
use sendpi_model::{Event, Millis, NodeId, Partition, Refusal, RoomId, Verb, encode_json};
use tokio::time::Instant;

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::LiveEntry;
use super::store_failure::refusal;
use crate::dispatch::dispatch_typing;
use crate::job::spawned;
use crate::room::{AnswerAddress, QueuedRequest, ReadKind, RoomRead};

/// The most queued requests of one room. Further ones are answered `unavailable`.
const ROOM_QUEUE: usize = 4_096;

impl Executor {
    /// Subscribes to the requests of a partition.
    pub(super) async fn subscribe_requests(&mut self, partition: Partition) -> Result<(), SendError> {
        // Not in a queue group: NATS would give some requests only to a former owner, for as long as it takes the
        // connection of one that is frozen or cut off for alive.
        let requests = self.context.bus.subscribe(subject::room(partition)).await?;
        self.inboxes.open(partition, requests);
        // Flows that wait for an owner need not find it out by themselves.
        self.context.bus.publish(subject::served(partition), Bytes::from_static(b"{\"v\":1}")).await
    }

    /// Ends the subscriptions to the requests of all partitions.
    pub(super) async fn unsubscribe_requests(&mut self) {
        // Dropping a subscription ends it at the server. Flows resend the requests that had arrived but were not
        // read.
        self.inboxes.close_all();
        if let Err(error) = self.context.bus.flush().await {
            tracing::debug!(%error, "the subscriptions may end later");
        }
    }

    pub(super) async fn receive_flow(&mut self, partition: Partition, message: &NatsMessage) {
        let flow = match FlowMessage::parse(message.payload()) {
            Ok(flow) => flow,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, %partition, "a flow message cannot be read");
                return;
            }
        };
        let node = flow.node.clone();
        let due = match self.partitions.get_mut(&partition) {
            Some(owned) if owned.serves() => owned.flows.receive(flow),
            _ => return self.refuse_flow(&node, partition).await,
        };
        let serves = self.store_serves();
        for (n, request) in due {
            let to = AnswerAddress { node: node.clone(), partition, n };
            match request {
                Ok(request) if !serves && !matches!(request.verb, Verb::Typing) => self.links.answer(&to, &refusal()),
                Ok(request) => self.route_request(partition, to, request),
                Err(refusal) => self.links.answer(&to, &refusal),
            }
        }
    }

    /// Refuses a flow, because this worker does not own the partition. The node resends everything unanswered, to the
    /// worker that does.
    pub(super) async fn refuse_flow(&mut self, node: &NodeId, partition: Partition) {
        if *node == NodeId::own_requests() {
            // The task that asks does so again by itself.
            return;
        }
        let payload = encode_json(&FlowRefusal::NotOwner);
        if let Err(error) = self.context.bus.publish(subject::flow_reply(node, partition), payload.into()).await {
            tracing::debug!(%error, %partition, %node, "cannot refuse a flow");
        }
    }

    fn route_request(&mut self, partition: Partition, to: AnswerAddress, request: FlowRequest) {
        match &request.verb {
            Verb::Heads { rooms } => {
                let rooms = rooms.clone();
                self.heads(partition, to, rooms);
            }
            Verb::Typing => {
                if !self.typing_now(&request) && self.store_serves() {
                    self.enqueue(partition, QueuedRequest { to: None, own: None, request });
                }
            }
            Verb::Peek if self.is_idle(partition, &request.room) => {
                self.ask(vec![read_of(to, request, ReadKind::Peek)]);
            }
            Verb::Detach { .. } if self.is_idle(partition, &request.room) => {
                self.ask(vec![read_of(to, request, ReadKind::Detach)]);
            }
            _ => self.enqueue(partition, QueuedRequest { to: Some(to), own: None, request }),
        }
    }

    /// Returns whether a room is not in the live table, and its rows are up to date.
    fn is_idle(&self, partition: Partition, room: &RoomId) -> bool {
        let owned = self.partitions.get(&partition);
        !self.rooms.contains_key(room) && owned.is_some_and(|owned| !owned.is_recovering(room))
    }

    /// Dispatches typing in an active channel at once. It is neither stored nor fenced, and goes on while the store
    /// is down. Returns `false` if the channel is not active.
    fn typing_now(&mut self, request: &FlowRequest) -> bool {
        let Some(entry) = self.rooms.get_mut(&request.room) else { return false };
        let Some(room) = entry.room.as_mut().filter(|room| room.active) else { return false };
        if room.check_may(request.requester(), Action::TakePart).is_ok() {
            let frame = Event::typing(&room.id, &request.user, Millis::now());
            dispatch_typing(room, entry.partition, &frame, &mut self.links);
            room.head.seq += u64::from(mutant(Mutant::TypingCounted));
        }
        true
    }

    /// Puts a request into the queue of its room. The room is put into the live table if it is not there.
    pub(super) fn enqueue(&mut self, partition: Partition, waiting: QueuedRequest) {
        let id = waiting.request.room.clone();
        if let (Some(to), Some(pause)) = (&waiting.to, self.open_backoff.pause(&id, Instant::now())) {
            let refusal = Refusal::unavailable(format!("{id} cannot be opened"), pause.as_millis() as u64);
            return self.links.answer(to, &refusal);
        }
        let entry = self.rooms.entry(id.clone()).or_insert_with(|| LiveEntry::new(partition));
        if entry.requests() >= ROOM_QUEUE && waiting.own.is_none() {
            if let Some(to) = waiting.to {
                let refusal = Refusal::unavailable(format!("too much is waiting at {id}"), 200);
                self.links.answer(&to, &refusal);
            }
            return;
        }
        entry.queue.push_back(waiting);
        self.make_ready(&id);
    }

    fn heads(&mut self, partition: Partition, to: AnswerAddress, rooms: Vec<RoomId>) {
        let Some(owned) = self.partitions.get(&partition) else { return };
        let (tenure, context) = (owned.tenure, self.context.clone());
        let (mut live, mut idle) = (Vec::new(), Vec::new());
        for room in rooms {
            match self.rooms.get(&room).and_then(|entry| entry.room.as_ref()) {
                Some(open) => live.push((room, open.dispatched)),
                None => idle.push(room),
            }
        }
        let heads = spawned(async move {
            let mut heads = context.heads(tenure, idle).await?;
            heads.extend(live);
            Ok(heads)
        });
        self.start_job(tenure, async move { JobResult::Heads { to, result: heads.await } });
    }
}

fn read_of(to: AnswerAddress, request: FlowRequest, kind: ReadKind) -> RoomRead {
    let FlowRequest { room, user, is_service, .. } = request;
    RoomRead { to, room, user, is_service, kind }
}
