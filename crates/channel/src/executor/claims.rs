//! Claims: which partitions this worker claims, and when. It claims those that it should own by rendezvous hashing over
//! the live workers, if they are nobody's or their owner is dead.
//!
//! | what it hears | what it does |
//! |---|---|
//! | a worker came, went, or changed its part | looks through all partitions |
//! | a lease was released | claims the partition, if it should own it |
//! | nobody answers for a partition | claims it if it should own it without its owner, and NATS says that one is dead |
//! | a worker that it looks after does not live | claims what it should own of that one's, and tells the others |
//! | nothing | looks through all partitions every few seconds, since a watch may lag |

use std::collections::{HashMap, HashSet};

use sendpi_bus::lease::{Lease, LeaseChange, PartitionChange};
use sendpi_bus::{NatsMessage, subject};
use sendpi_model::flow::{ORPHAN_VERSION, OrphanReport};
use sendpi_model::{NodeId, Partition, encode_json};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::Executor;
use super::job_result::JobResult;
use super::moves::Move;
use crate::claim::{ClaimError, ClaimedPartition, OwnerState, claim, dies_within, is_dead};

/// How often all partitions are looked through, whatever the watches bring.
const SURVEY_EVERY: Duration = Duration::from_secs(5);
/// How long another worker is looked at in one go.
const LOOK: Duration = Duration::from_secs(1);
/// The pause before a claim that failed is tried again.
const CLAIM_PAUSE: Duration = Duration::from_secs(1);

/// What this worker knows of the partitions that it does not own.
#[derive(Debug)]
pub(super) struct ClaimState {
    /// The leases as the watch brought them.
    leases: HashMap<Partition, LeaseChange>,
    under_way: HashSet<Partition>,
    /// When a partition may be claimed again of which a claim failed.
    pauses: HashMap<Partition, Instant>,
    /// The partitions that a live worker held when this one last looked.
    held: HashSet<Partition>,
    /// The workers that are being asked whether they live.
    asked: HashSet<NodeId>,
    last_survey: Instant,
    /// Told once this worker owns what it can.
    started: Option<oneshot::Sender<()>>,
}

impl ClaimState {
    pub(super) fn new(started: oneshot::Sender<()>) -> Self {
        Self {
            leases: HashMap::new(),
            under_way: HashSet::new(),
            pauses: HashMap::new(),
            held: HashSet::new(),
            asked: HashSet::new(),
            last_survey: Instant::now(),
            started: Some(started),
        }
    }

    fn may_claim(&self, partition: Partition, now: Instant) -> bool {
        !self.under_way.contains(&partition) && self.pauses.get(&partition).is_none_or(|until| now >= *until)
    }

    /// Returns whether a claim is under way.
    pub(super) fn is_claiming(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Has a partition claimed again after a pause.
    pub(super) fn pause(&mut self, partition: Partition, pause: Duration) {
        self.pauses.insert(partition, Instant::now() + pause);
    }

    fn lease(&self, partition: Partition) -> Option<&Lease> {
        self.leases.get(&partition)?.lease.as_ref()
    }
}

impl Executor {
    /// Claims the partitions that this worker should own and that nobody else does, as far as the watches show.
    pub(super) fn claim_rightful(&mut self) {
        self.survey(|executor, partition| {
            let lease = executor.claims.lease(partition).filter(|lease| !lease.released);
            lease.is_none_or(|lease| lease.owner == *executor.key.node() || !executor.fleet.is_live(&lease.owner))
        });
    }

    /// Looks through all partitions from time to time, whatever the watches show.
    pub(super) fn survey_if_due(&mut self) {
        if self.claims.last_survey.elapsed() >= SURVEY_EVERY {
            self.claims.last_survey = Instant::now();
            self.miss_nodes();
            self.survey(|_, _| true);
            self.release_stale();
        } else if self.claims.pauses.extract_if(|_, until| *until <= Instant::now()).count() > 0 {
            self.claim_rightful();
        }
    }

    fn survey(&mut self, is_free: impl Fn(&Self, Partition) -> bool) {
        if !self.fleet.knows_all() || self.stopping.is_some() || !self.context.bus.connection().borrow().up {
            return;
        }
        let now = Instant::now();
        let due = self.all.all().filter(|partition| {
            !self.partitions.contains_key(partition)
                && self.claims.may_claim(*partition, now)
                && self.fleet.is_own(*partition)
                && is_free(self, *partition)
        });
        for partition in due.collect::<Vec<_>>() {
            self.claim(partition, None);
        }
        self.tell_started();
    }

    /// Begins to claim a partition. `doubt` is what somebody says of its owner, if that seems to live.
    fn claim(&mut self, partition: Partition, doubt: Option<OwnerState>) {
        self.claims.under_way.insert(partition);
        self.claims.pauses.remove(&partition);
        let (context, leases, config) = (self.context.clone(), self.leases.clone(), self.config);
        let owner = self.claims.lease(partition).map(|lease| lease.owner.clone());
        let is_live = self.fleet.live_now();
        let trusts_loss = self.fleet.trusts_loss(Instant::now());
        self.start_untenured_job(async move {
            let state = |found: &NodeId| match is_live.contains(found) {
                true if owner.as_ref().is_none_or(|owner| owner == found) => doubt.unwrap_or(OwnerState::Live),
                true => OwnerState::Live,
                false if trusts_loss => OwnerState::Gone,
                false => OwnerState::Unsure,
            };
            let result = claim(&context, &leases, partition, &config, state).await.map(Box::new);
            JobResult::Claimed { partition, result }
        });
    }

    pub(super) async fn claimed(&mut self, partition: Partition, result: Result<Box<ClaimedPartition>, ClaimError>) {
        self.claims.under_way.remove(&partition);
        self.claims.held.remove(&partition);
        match result {
            Ok(claimed) if self.claims.lease(partition).is_some_and(|lease| lease.epoch > claimed.tenure.epoch) => {
                let epoch = claimed.tenure.epoch;
                tracing::warn!(%partition, epoch, "the partition was lost before it was taken over");
                self.claims.pause(partition, CLAIM_PAUSE);
            }
            Ok(claimed) => {
                let dead = claimed.dead.clone();
                if let Err(error) = self.take_over(*claimed).await {
                    tracing::error!(%error, %partition, "cannot subscribe");
                    self.claims.pause(partition, CLAIM_PAUSE);
                }
                if let Some(dead) = dead {
                    self.metrics.takeovers.inc();
                    self.presume_dead(&dead).await;
                }
            }
            Err(ClaimError::Held { owner, .. }) => {
                tracing::debug!(%partition, %owner, "the partition is held by a live worker");
                self.claims.held.insert(partition);
                if !self.fleet.is_live(&owner) {
                    // It answers, and its key is not there: it will put it again.
                    self.claims.pause(partition, CLAIM_PAUSE);
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %partition, "the partition is not claimed yet");
                self.claims.pause(partition, CLAIM_PAUSE);
            }
        }
        self.tell_started();
    }

    /// Notes that a node is dead although its key has not expired, and has all that it owned claimed, by whoever should
    /// own it now.
    async fn presume_dead(&mut self, dead: &NodeId) {
        if !self.fleet.gone(dead) {
            return;
        }
        tracing::warn!(node = %dead, "NATS says that nobody listens there any more: the worker is dead");
        self.claim_rightful();
        let of_others = self.claims.leases.values().filter(|change| {
            let is_its = change.lease.as_ref().is_some_and(|lease| lease.owner == *dead && !lease.released);
            is_its && !self.fleet.is_own(change.partition)
        });
        let report = OrphanReport { v: ORPHAN_VERSION, dead: Some(dead.clone()) };
        for partition in of_others.map(|change| change.partition).collect::<Vec<_>>() {
            let told = self.context.bus.publish(subject::orphan(partition), encode_json(&report).into()).await;
            if let Err(error) = told {
                tracing::debug!(%error, %partition, "cannot tell that nobody answers for a partition");
            }
        }
    }

    /// Handles the report that nobody answers for a partition, or that its owner is dead.
    pub(super) fn orphaned(&mut self, message: &NatsMessage) {
        let Some(partition) = subject::partition_of(message.subject()).filter(|p| p.0 < self.all.count()) else {
            return;
        };
        let Ok(report) = serde_json::from_slice::<OrphanReport>(message.payload()) else { return };
        // Nobody owns what was released, whoever did that.
        let lease = self.claims.lease(partition).filter(|lease| !lease.released);
        let (now, owner) = (Instant::now(), lease.map(|lease| lease.owner.clone()));
        let is_own = self.partitions.contains_key(&partition) || owner.as_ref() == Some(self.key.node());
        // After this worker's own reconnect others may still be reconnecting.
        if is_own || self.stopping.is_some() || !self.fleet.knows_all() || !self.hearing.has_heard(now) {
            return;
        }
        let is_heir = self.fleet.rightful_without(partition, owner.as_ref()) == Some(self.key.node());
        if is_heir && self.claims.may_claim(partition, now) {
            let is_told = report.dead.is_some() && report.dead == owner;
            self.claim(partition, Some(if is_told { OwnerState::ToldDead } else { OwnerState::Orphaned }));
        }
    }

    /// Asks the workers that this one looks after whether they live. Each is looked after by one other. What somebody
    /// had sent to a worker that dies is lost, and so are flows to it silent, not refused.
    pub(super) fn look_after_others(&mut self) {
        if !self.hearing.has_heard(Instant::now()) || self.stopping.is_some() || !self.fleet.knows_all() {
            return;
        }
        let others =
            self.fleet.others().filter(|node| !self.claims.asked.contains(*node) && self.fleet.is_heir_of(node));
        for node in others.cloned().collect::<Vec<_>>() {
            self.claims.asked.insert(node.clone());
            let (context, silence) = (self.context.clone(), self.config.owner_silence);
            self.start_untenured_job(async move {
                let is_dead = dies_within(&context, &node, LOOK, silence).await;
                JobResult::LookedAfter { node, is_dead }
            });
        }
    }

    pub(super) async fn looked_after(&mut self, node: &NodeId, is_dead: bool) {
        self.claims.asked.remove(node);
        if is_dead && self.hearing.has_heard(Instant::now()) {
            self.presume_dead(node).await;
        }
    }

    /// Handles a lease that the watch brought. If it is of a later epoch than this worker's, the partition is lost at
    /// once, not only when the fence is met: two owners take each other's consumer of system events.
    pub(super) async fn lease_changed(&mut self, change: PartitionChange) {
        let change = match change {
            PartitionChange::Lease(change) => change,
            PartitionChange::Pin(partition, node) => {
                self.fleet.pinned(partition, node);
                return self.claim_rightful();
            }
        };
        let partition = change.partition;
        let is_free = change.lease.as_ref().is_none_or(|lease| lease.released);
        let (epoch, revision) = (change.lease.as_ref().map(|lease| lease.epoch), change.revision);
        self.claims.leases.insert(partition, change);
        match (epoch, self.partitions.get(&partition)) {
            (None, _) => self.lease_vanished(partition, revision),
            // What is being released is served no more, and the next owner may be fast.
            (Some(epoch), Some(owned)) if epoch > owned.tenure.epoch && owned.moving != Some(Move::Releasing) => {
                self.lose_partition(partition, Vec::new()).await;
            }
            _ => {}
        }
        if is_free {
            self.claims.pauses.remove(&partition);
            self.claim_rightful();
        }
    }

    /// Releases leases of this worker for partitions that it neither owns nor should own: a claim was won whose fence
    /// was not, or a release got no answer.
    fn release_stale(&mut self) {
        let own = self.key.node();
        let stale = self.claims.leases.values().filter(|change| {
            let partition = change.partition;
            change.lease.as_ref().is_some_and(|lease| lease.owner == *own && !lease.released)
                && !self.partitions.contains_key(&partition)
                && !self.claims.under_way.contains(&partition)
                && self.fleet.is_anothers(partition)
        });
        for LeaseChange { partition, lease, revision } in stale.cloned().collect::<Vec<_>>() {
            let (leases, Some(lease)) = (self.leases.clone(), lease) else { continue };
            tokio::spawn(async move {
                if let Err(error) = leases.release(partition, &lease, revision).await {
                    tracing::warn!(%error, %partition, "a lease that is not needed could not be released");
                }
            });
        }
    }

    /// Asks the other workers that there were when this one started whether they live. A key outlives its node.
    pub(super) fn probe_others(&mut self) {
        let (context, silence) = (self.context.clone(), self.config.owner_silence);
        let others: Vec<NodeId> = self.fleet.others().cloned().collect();
        self.start_untenured_job(async move {
            let probes = others.iter().map(|node| is_dead(&context, node, silence));
            let found = futures_util::future::join_all(probes).await;
            let dead = others.into_iter().zip(found).filter(|(_, is_dead)| *is_dead).map(|(node, _)| node).collect();
            JobResult::Probed { dead }
        });
    }

    /// Begins to claim, now that it is known which workers live.
    pub(super) fn probed(&mut self, dead: &[NodeId]) {
        for node in dead {
            tracing::info!(%node, "NATS says that nobody listens there any more: the worker is dead");
            self.fleet.gone(node);
        }
        self.fleet.all_known();
        self.survey(|_, _| true);
    }

    /// Tells that this worker owns what it can, once it does.
    fn tell_started(&mut self) {
        if self.claims.started.is_none() || !self.fleet.knows_all() {
            return;
        }
        let is_done =
            |p: Partition| self.partitions.contains_key(&p) || self.claims.held.contains(&p) || !self.fleet.is_own(p);
        if self.all.all().all(is_done)
            && let Some(started) = self.claims.started.take()
        {
            // Who waits for it may have given up.
            let _ = started.send(());
        }
    }
}
