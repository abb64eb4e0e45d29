//! Nodes that come and go: what becomes of their users, and of the events that they did not settle.

use sendpi_bus::Revision;
use sendpi_bus::link::{Undelivered, Unsettled};
use sendpi_bus::presence::{NodeChange, purge_node};
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, NodeId, Partition};
use tokio::time::Instant;

use super::Executor;
use super::job_result::JobResult;
use crate::pending_pushes::PendingId;
use crate::room::{Bounce, OwnBounce};

/// A node that was given up, with the events that it did not settle.
#[derive(Debug)]
pub(super) struct GivenUpNode {
    /// When the events are bounced.
    due: Instant,
    unsettled: Unsettled,
}

impl GivenUpNode {
    /// Calls `tell` for each partition with the time of the oldest event that is not settled.
    pub(super) fn oldest_unsettled(&self, tell: impl FnMut(Partition, Millis)) {
        self.unsettled.oldest(tell);
    }
}

impl Executor {
    pub(super) fn node_change(&mut self, change: NodeChange) {
        match change {
            // What this worker says of itself, it knows before the watch.
            NodeChange::Alive(node, _) if node == *self.key.node() => self.fleet.heard_of_itself(Instant::now()),
            NodeChange::Alive(node, info) => {
                if self.fleet.alive(&node, info.and_then(|info| info.share), Instant::now()) {
                    self.claim_rightful();
                }
            }
            NodeChange::AllKnown => self.probe_others(),
            // It is put again with the next refresh. Others may have claimed what this worker owned.
            NodeChange::Gone(node, _) if node == *self.key.node() => {
                tracing::info!(%node, "this worker's own key was gone");
            }
            NodeChange::Gone(node, revision) => self.node_gone(&node, Some(revision)),
        }
    }

    /// Handles that nothing was heard of some nodes for so long that their keys must have expired, although the watch
    /// did not say so: it was away for longer than it is told afterwards.
    pub(super) fn miss_nodes(&mut self) {
        for node in self.fleet.missing(Instant::now()) {
            tracing::info!(%node, "nothing was heard of the key of a node");
            self.node_gone(&node, None);
        }
    }

    fn node_gone(&mut self, node: &NodeId, revision: Option<Revision>) {
        let was_live = self.fleet.gone(node);
        if self.links.was_heard(node) {
            // It puts its key anew. If it is dead after all, its link falls silent.
            tracing::info!(%node, "the key of a node is gone, but its link was heard of just now");
        } else if !self.fleet.trusts_loss(Instant::now()) {
            tracing::info!(%node, "the key of a node is gone, but JetStream was away");
        } else if was_live {
            tracing::info!(%node, "a node is gone");
            self.give_up(node);
        }
        if let Some(revision) = revision.filter(|_| self.fleet.is_heir_of(node)) {
            let (bus, node) = (self.context.bus.clone(), node.clone());
            tokio::spawn(async move {
                if let Err(error) = purge_node(&bus, &node, revision).await {
                    tracing::warn!(%error, %node, "what a dead node left in presence stays until the next start");
                }
            });
        }
        self.claim_rightful();
    }

    /// Gives up a node and ends the link to it. Its users leave L1, and the events that it did not settle are bounced
    /// later, for the users who do not come back.
    pub(super) fn give_up(&mut self, node: &NodeId) {
        let Some(unsettled) = self.links.give_up(node) else { return };
        for entry in self.rooms.values_mut() {
            if let Some(room) = &mut entry.room {
                room.detach_node(node);
            }
        }
        for owned in self.partitions.values_mut() {
            owned.flows.forget(node);
        }
        if !unsettled.is_empty() && !mutant(Mutant::DeadNodeBounceOff) {
            let due = Instant::now() + self.config.bounce_after;
            self.given_up.push(GivenUpNode { due, unsettled });
        }
        // As long as its key exists, the node is offered the next incarnation: a link announces itself every second.
        if self.fleet.is_live(node) && !mutant(Mutant::OfferOff) {
            self.links.to(node);
        }
    }

    /// Finds what is due to be bounced. It is looked for beside the executor, because a node that died may have left
    /// hundreds of thousands of events.
    pub(super) fn bounce_due(&mut self) {
        let now = Instant::now();
        for GivenUpNode { unsettled, .. } in
            self.given_up.extract_if(.., |given_up| given_up.due <= now).collect::<Vec<_>>()
        {
            let mut until_found = Vec::new();
            unsettled.oldest(|partition, at| until_found.push(self.pending.add(partition, at)));
            let find = tokio::task::spawn_blocking(move || unsettled.undelivered());
            self.start_untenured_job(async move {
                let undelivered = find.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                JobResult::Undelivered { undelivered, until_found }
            });
        }
        self.bounce_recovered();
        self.bounce_postponed();
    }

    /// Queues one bounce for each room and user who did not come back.
    pub(super) fn bounce_undelivered(&mut self, undelivered: Vec<Undelivered>, until_found: Vec<PendingId>) {
        for Undelivered { partition, room, user, first, last, at } in undelivered {
            let present = self.rooms.get(&room).and_then(|entry| entry.room.as_ref());
            let is_back = present.is_some_and(|room| room.active && room.audience.contains(&user));
            // The next owner of a partition that was lost dispatches the events again.
            if !is_back && self.partitions.contains_key(&partition) {
                let own = OwnBounce { pending: self.pending.add(partition, at), pushed: Vec::new() };
                self.enqueue_own_bounce(partition, &room, Bounce { to: None, own: Some(own), user, first, last });
            }
        }
        until_found.into_iter().for_each(|id| self.pending.done(id));
    }
}
