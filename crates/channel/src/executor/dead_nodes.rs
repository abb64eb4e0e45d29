//! Nodes: their answers to links, their coming and going, and what becomes of what they did not settle.

use bytes::Bytes;
use sendpi_bus::presence::{NodeChange, purge_node};
use sendpi_bus::subject::{self, NodeSubject};
use sendpi_bus::{NatsMessage, link::Undelivered};
use sendpi_model::faults::{BusFault, Mutant, bus_fault, mutant};
use sendpi_model::flow::FlowRequest;
use sendpi_model::link::LinkAck;
use sendpi_model::timing::RECONNECT_GRACE;
use sendpi_model::{NodeId, Verb};
use tokio::time::Instant;

use super::{Executor, GivenUp};
use crate::room::QueuedRequest;

impl Executor {
    /// Sends messages of a link.
    pub(super) async fn send(&mut self, node: &NodeId, messages: Vec<Bytes>) {
        let (to, reply) = (subject::node(node, NodeSubject::Link), subject::link_reply(self.context.bus.node(), node));
        for message in messages {
            if bus_fault(BusFault::LoseLinkMessage) {
                continue;
            }
            if let Err(error) = self.context.bus.publish_with_reply(to.clone(), reply.clone(), message).await {
                tracing::error!(%error, "the connection to NATS is closed");
                return;
            }
        }
    }

    pub(super) async fn receive_link_answer(&mut self, message: &NatsMessage) {
        let Some(node) = subject::link_reply_node(message.subject()) else { return };
        if message.is_no_responders() {
            if self.connected.elapsed() > RECONNECT_GRACE {
                tracing::info!(%node, "nobody listens there any more");
                self.give_up(&node);
            }
            return;
        }
        match LinkAck::parse(message.payload()) {
            Ok(ack) => {
                let again = self.links.ack(&node, &ack);
                self.send(&node, again).await;
            }
            Err(error) => tracing::warn!(%error, %node, "a link's answer cannot be read"),
        }
    }

    pub(super) async fn node_change(&mut self, change: NodeChange) {
        match change {
            NodeChange::Alive(node) => {
                self.live.insert(node);
            }
            NodeChange::Gone(node, revision) => {
                if self.live.remove(&node) {
                    tracing::info!(%node, "a node is gone");
                    self.give_up(&node);
                }
                let bus = self.context.bus.clone();
                tokio::spawn(async move {
                    if let Err(error) = purge_node(&bus, &node, Some(revision)).await {
                        tracing::warn!(%error, %node, "what a dead node left in presence stays until the next start");
                    }
                });
            }
        }
    }

    /// Ends the link to a node: its users leave L1, and what it did not settle is bounced later, for whoever does not come back.
    pub(super) fn give_up(&mut self, node: &NodeId) {
        let Some(undelivered) = self.links.give_up(node) else { return };
        for entry in self.rooms.values_mut() {
            if let Some(room) = &mut entry.room {
                room.detach_node(node);
            }
        }
        for owned in self.partitions.values_mut() {
            owned.flows.forget(node);
        }
        for event in &undelivered {
            event.users.iter().for_each(|_| self.owed.add(event.partition, event.at));
        }
        if !undelivered.is_empty() && !mutant(Mutant::DeadNodeBounceOff) {
            let due = Instant::now() + self.config.bounce_after;
            self.given_up.push(GivenUp { due, undelivered });
        }
        // As long as its key lives it is offered the next incarnation: a link tells of itself every second.
        if self.live.contains(node) && !mutant(Mutant::OfferOff) {
            self.links.to(node);
        }
    }

    /// Bounces what is due.
    pub(super) fn bounce_due(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.given_up).into_iter().partition(|given_up| given_up.due <= now);
        self.given_up = later;
        let due: Vec<GivenUp> = due;
        for Undelivered { partition, room, seq, at, users } in due.into_iter().flat_map(|given_up| given_up.undelivered)
        {
            for user in users {
                if !self.partitions.contains_key(&partition) {
                    // The next owner hands it out again.
                    self.owed.done(partition, at);
                    continue;
                }
                let request = FlowRequest { n: 0, room: room.clone(), user, first: None, verb: Verb::Bounce { seq } };
                self.enqueue(partition, QueuedRequest { to: None, owed: Some(at), request });
            }
        }
    }
}
