//! What time and the connection ask for: leases, idle channels, what is settled.

use std::collections::HashMap;

use sendpi_bus::lease::ClaimOutcome;
use sendpi_model::timing::NODE_KEY_MAX_AGE;
use sendpi_model::{Millis, NodeId, Partition, RoomId};
use sendpi_store::Row;
use tokio::time::{Duration, Instant};

use super::{Executor, end_audience};
use crate::claim::{ClaimError, ClaimedPartition, claim};
use crate::job::{JobResult, Tenure};
use crate::owned_partition::OwnedPartition;

/// How often leases that could not be written again are tried.
const RESUME_EVERY: Duration = Duration::from_millis(500);
/// How long a partition that was lost is left alone before it is claimed again.
const RECLAIM_AFTER: Duration = Duration::from_secs(1);

impl Executor {
    /// Takes a claimed partition into service. What an earlier owner may have left is handed out again at once.
    pub(crate) async fn take_over(&mut self, claimed: ClaimedPartition) -> Result<(), sendpi_bus::SendError> {
        let (owned, rooms) = OwnedPartition::new(claimed);
        let partition = owned.tenure.partition;
        self.partitions.insert(partition, owned);
        for room in rooms {
            self.rooms.entry(room.clone()).or_insert_with(|| super::LiveEntry::new(partition));
            self.make_ready(&room);
        }
        self.subscribe_requests(partition).await
    }

    pub(super) async fn tick(&mut self) {
        let (send, silent) = self.links.tick();
        for (node, messages) in send {
            self.send(&node, messages).await;
        }
        let hearing = self.is_hearing();
        for node in silent.into_iter().filter(|_| hearing) {
            tracing::info!(%node, "a node is silent: it counts as unreachable");
            self.give_up(&node);
        }
        self.bounce_due();
        for room in std::mem::take(&mut self.slowed) {
            self.make_ready(&room);
        }
        if self.last_settle.elapsed() >= self.config.settle_every {
            self.last_settle = Instant::now();
            self.settle();
            self.evict_idle();
        }
        if self.key.watch().borrow().refreshed.elapsed() > NODE_KEY_MAX_AGE && !self.all_suspended() {
            tracing::warn!("this node's key has not been refreshed for {NODE_KEY_MAX_AGE:?}: it stops serving");
            self.suspend().await;
        } else if self.partitions.values().any(|owned| owned.suspended)
            && self.context.bus.connection().borrow().up
            && self.last_resume.elapsed() >= RESUME_EVERY
        {
            self.resume().await;
        }
    }

    /// Without a connection of its own a worker hears nobody; and one that was made again counts only when the links know of it.
    fn is_hearing(&self) -> bool {
        let connection = *self.context.bus.connection().borrow();
        connection.up && connection.connects == self.connects
    }

    fn all_suspended(&self) -> bool {
        !self.partitions.is_empty() && self.partitions.values().all(|owned| owned.suspended)
    }

    /// The client subscribes again by itself when it reconnects, so a worker that was away stops serving until it knows that nobody was
    /// between.
    pub(super) async fn connection_changed(&mut self) {
        let connection = *self.context.bus.connection().borrow();
        if !connection.up || connection.connects == self.connects {
            return;
        }
        self.connects = connection.connects;
        self.connected = Instant::now();
        self.links.reset_silence();
        self.suspend().await;
        self.resume().await;
    }

    async fn suspend(&mut self) {
        self.partitions.values_mut().for_each(|owned| owned.suspended = true);
        self.unsubscribe_requests().await;
    }

    /// Writes each lease again from its own revision: success means that nobody was between.
    async fn resume(&mut self) {
        self.last_resume = Instant::now();
        if self.key.refresh().await.is_none() {
            return;
        }
        let suspended: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, owned)| owned.suspended)
            .map(|(partition, owned)| (*partition, owned.lease.clone(), owned.revision))
            .collect();
        let leases = self.leases.clone();
        let renewals = suspended.iter().map(|(p, lease, revision)| leases.claim(*p, lease, *revision));
        let renewed = futures_util::future::join_all(renewals).await;
        for ((partition, ..), claim) in suspended.into_iter().zip(renewed) {
            match claim {
                Ok(ClaimOutcome::Won(revision)) => self.serve_again(partition, revision).await,
                Ok(ClaimOutcome::Lost) => self.lose_partition(partition, Vec::new()).await,
                Err(error) => tracing::warn!(%error, %partition, "the lease could not be written; it is tried again"),
            }
        }
    }

    async fn serve_again(&mut self, partition: Partition, revision: u64) {
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.revision = revision;
            owned.suspended = false;
        }
        if let Err(error) = self.subscribe_requests(partition).await {
            tracing::error!(%error, %partition, "cannot subscribe");
        }
    }

    /// Another worker owns the partition now: its rooms are forgotten, and the flows of `nodes` and of whoever waits are told.
    pub(super) async fn lose_partition(&mut self, partition: Partition, mut nodes: Vec<NodeId>) {
        if self.partitions.remove(&partition).is_some() {
            tracing::warn!(%partition, "the partition was lost to another worker");
            self.reclaim(partition);
        }
        let gone: Vec<RoomId> =
            self.rooms.iter().filter(|(_, entry)| entry.partition == partition).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let waiting = self.rooms.remove(&id).map(|entry| entry.queue).unwrap_or_default();
            nodes.extend(waiting.into_iter().filter_map(|waiting| waiting.to).map(|to| to.node));
        }
        nodes.sort();
        nodes.dedup();
        for node in nodes {
            self.refuse_flow(&node, partition).await;
        }
    }

    /// Claims a lost partition again, as soon as its owner lets it go or dies: none is left without a worker for good.
    fn reclaim(&mut self, partition: Partition) {
        let (context, leases, config) = (self.context.clone(), self.leases.clone(), self.config);
        self.job(async move {
            tokio::time::sleep(RECLAIM_AFTER).await;
            let result = claim(&context, &leases, partition, &config).await.map(Box::new);
            JobResult::Claimed { partition, result }
        });
    }

    pub(super) async fn claimed(&mut self, partition: Partition, result: Result<Box<ClaimedPartition>, ClaimError>) {
        if let Err(error) = self.take_if_claimed(result.map(|claimed| *claimed)).await {
            tracing::debug!(error, %partition, "the partition is not claimed yet");
            self.reclaim(partition);
        }
    }

    /// Takes a partition over, or says why it was not claimed.
    async fn take_if_claimed(&mut self, result: Result<ClaimedPartition, ClaimError>) -> Result<(), String> {
        match result {
            Ok(claimed) => self.take_over(claimed).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Claims what this worker does not hold yet. Gives how many partitions are still missing.
    pub(crate) async fn claim_missing(&mut self, partitions: impl Iterator<Item = Partition>) -> usize {
        let missing: Vec<Partition> = partitions.filter(|p| !self.partitions.contains_key(p)).collect();
        let claims = missing.iter().map(|partition| claim(&self.context, &self.leases, *partition, &self.config));
        let claimed = futures_util::future::join_all(claims).await;
        let mut left = 0;
        for result in claimed {
            if let Err(error) = self.take_if_claimed(result).await {
                tracing::warn!(error, "a partition is not claimed yet");
                left += 1;
            }
        }
        left
    }

    /// Writes down up to when everything is settled, for each partition where that is further than before.
    fn settle(&mut self) {
        let mut oldest: HashMap<Partition, Millis> = HashMap::new();
        let mut note = |partition: Partition, at: Millis| {
            oldest.entry(partition).and_modify(|known| *known = at.min(*known)).or_insert(at);
        };
        self.links.oldest_unsettled(&mut note);
        for partition in self.partitions.keys() {
            if let Some(at) = self.owed.oldest(*partition) {
                note(*partition, at);
            }
        }
        // Events of a batch under way have times from now on, but may have got them before this moment.
        for entry in self.rooms.values().filter(|entry| entry.busy) {
            if let Some(room) = &entry.room {
                for event in room.tail.from(room.dispatched + 1) {
                    note(entry.partition, event.head.at);
                }
            }
        }
        let rows: Vec<Row> = self
            .partitions
            .iter_mut()
            .filter_map(|(partition, owned)| {
                owned.settle(oldest.get(partition).copied()).map(|row| Row::Settled(*partition, row))
            })
            .collect();
        if !rows.is_empty() {
            let store = self.context.store.clone();
            tokio::spawn(async move {
                // Not written, it only means that more is handed out again after a crash.
                if let Err(error) = store.write(rows).await {
                    tracing::warn!(%error, "cannot write down what is settled");
                }
            });
        }
    }

    /// Evicts channels that are idle, after their heads are written. Nothing of them may be unfinished.
    fn evict_idle(&mut self) {
        let now = Millis::now();
        let mut idle = Vec::new();
        for (id, entry) in &self.rooms {
            let (Some(room), Some(clock)) = (&entry.room, &entry.idle) else { continue };
            let settled = self
                .partitions
                .get(&entry.partition)
                .and_then(|owned| owned.settled)
                .is_some_and(|row| room.head.at <= row.at);
            if !entry.busy && entry.queue.is_empty() && room.active && settled && clock.is_idle(now) {
                idle.push(id.clone());
            }
        }
        for id in idle {
            self.evict(&id);
        }
    }

    pub(super) fn evict(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        entry.busy = true;
        let (tenure, context, rows, room) = (owned.tenure, self.context.clone(), room.head_rows(), id.clone());
        self.job(async move {
            let result = async {
                context.pass_fence(tenure).await?;
                context.write(&[tenure], rows).await
            }
            .await;
            JobResult::Evicted { room, result }
        });
    }

    /// The head is written: the channel ends, unless something came meanwhile.
    pub(super) fn evicted(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        entry.busy = false;
        if !entry.queue.is_empty() {
            return self.make_ready(id);
        }
        tracing::debug!(room = %id, "a channel is evicted");
        let Some(room) = self.rooms.remove(id).and_then(|entry| entry.room) else { return };
        end_audience(&room, &mut self.links);
    }

    /// At the end: the heads of all live channels, so that the next owner finds them up to date.
    pub(super) async fn write_heads(&mut self) {
        self.settle();
        let tenures: Vec<Tenure> = self.partitions.values().map(|owned| owned.tenure).collect();
        for tenure in tenures {
            if self.context.pass_fence(tenure).await.is_err() {
                self.partitions.remove(&tenure.partition);
            }
        }
        // The head of a room with a batch under way counts events that may never be stored.
        let idle = self.rooms.values().filter(|entry| !entry.busy && self.partitions.contains_key(&entry.partition));
        let rows: Vec<Row> = idle.filter_map(|entry| entry.room.as_ref()).flat_map(|room| room.head_rows()).collect();
        if !rows.is_empty()
            && let Err(error) = self.context.store.write(rows).await
        {
            tracing::warn!(%error, "cannot write the heads of live rooms; the next start reads them from their tails");
        }
    }
}
