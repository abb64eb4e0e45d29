//! Nodes that come and go: what becomes of their users, and of the events that they did not settle.

use sendpi_bus::link::Undelivered;
use sendpi_bus::presence::{NodeChange, purge_node};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::flow::FlowRequest;
use sendpi_model::{NodeId, Partition, RoomId, Verb};
use tokio::time::{Duration, Instant};

use super::Executor;
use crate::room::{Bounce, QueuedRequest};

/// The pause before another try of a bounce whose event could not be read.
const BOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A node that was given up, with the events that it did not settle.
#[derive(Debug)]
pub(super) struct GivenUpNode {
    /// When the events are bounced.
    due: Instant,
    undelivered: Vec<Undelivered>,
}

impl Executor {
    pub(super) fn node_change(&mut self, change: NodeChange) {
        match change {
            NodeChange::Alive(node) => {
                self.live_nodes.insert(node);
            }
            NodeChange::Gone(node, revision) => {
                if self.live_nodes.remove(&node) {
                    if self.links.was_heard(&node) {
                        // It puts its key anew. If it is dead after all, its link falls silent.
                        tracing::info!(%node, "the key of a node is gone, but its link was heard of just now");
                    } else {
                        tracing::info!(%node, "a node is gone");
                        self.give_up(&node);
                    }
                }
                let bus = self.context.bus.clone();
                tokio::spawn(async move {
                    if let Err(error) = purge_node(&bus, &node, revision).await {
                        tracing::warn!(%error, %node, "what a dead node left in presence stays until the next start");
                    }
                });
            }
        }
    }

    /// Gives up a node and ends the link to it. Its users leave L1, and the events that it did not settle are bounced
    /// later, for the users who do not come back.
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
            event.users.iter().for_each(|_| self.pending.add(event.partition, event.at));
        }
        if !undelivered.is_empty() && !mutant(Mutant::DeadNodeBounceOff) {
            let due = Instant::now() + self.config.bounce_after;
            self.given_up.push(GivenUpNode { due, undelivered });
        }
        // As long as its key exists, the node is offered the next incarnation: a link announces itself every second.
        if self.live_nodes.contains(node) && !mutant(Mutant::OfferOff) {
            self.links.to(node);
        }
    }

    /// Queues the bounces that are due.
    pub(super) fn bounce_due(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.given_up).into_iter().partition(|given_up| given_up.due <= now);
        self.given_up = later;
        for Undelivered { partition, room, seq, at, users } in due.into_iter().flat_map(|given_up| given_up.undelivered)
        {
            for user in users {
                if !self.partitions.contains_key(&partition) {
                    // The next owner dispatches the event again.
                    self.pending.done(partition, at);
                    continue;
                }
                let request = FlowRequest { n: 0, room: room.clone(), user, first: None, verb: Verb::Bounce { seq } };
                self.enqueue(partition, QueuedRequest { to: None, pending_at: Some(at), request });
            }
        }
    }

    /// Keeps a bounce of the worker's own, to be tried again.
    pub(super) fn bounce_again(&mut self, partition: Partition, room: RoomId, bounce: Bounce) {
        let Bounce { pending_at, user, seq, .. } = bounce;
        let at = pending_at.unwrap_or_default();
        let undelivered = vec![Undelivered { partition, room, seq, at, users: vec![user] }];
        self.given_up.push(GivenUpNode { due: Instant::now() + BOUNCE_AGAIN_AFTER, undelivered });
    }
}
