//! Bounces: those of the worker's own, and those for which the timeline has to be read.

use std::sync::Arc;

use sendpi_model::flow::FlowRequest;
use sendpi_model::{Partition, Refusal, RoomId, UserId, Verb};
use sendpi_store::PushedRange;
use tokio::time::{Duration, Instant};

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::LiveEntry;
use crate::dispatch::DispatchOutcome;
use crate::job::JobError;
use crate::pending_pushes::PendingId;
use crate::room::{Bounce, BounceScan, OwnBounce, QueuedRequest};

/// The pause before another try of a bounce of the worker's own whose events could not be read.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A bounce of the worker's own that is tried again later.
#[derive(Debug)]
pub(super) struct PostponedBounce {
    due: Instant,
    pub(super) partition: Partition,
    room: RoomId,
    bounce: Bounce,
}

/// A room whose events of an earlier owner were dispatched again. Those of its members who do not come back are bounced
/// what the earlier owner had not pushed.
#[derive(Debug)]
pub(super) struct RecoveredRoom {
    pub(super) due: Instant,
    pub(super) partition: Partition,
    pub(super) room: RoomId,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) pushed: Vec<PushedRange>,
    pub(super) pending: PendingId,
}

impl Executor {
    /// Queues a bounce of the worker's own at its room.
    pub(super) fn enqueue_own_bounce(&mut self, partition: Partition, room: &RoomId, bounce: Bounce) {
        self.enqueue(partition, own_request(room, bounce));
    }

    /// Reads the timeline of a room for bounces whose ranges begin before its tail.
    pub(super) fn scan_bounces(&mut self, id: &RoomId, scans: Vec<BounceScan>) {
        let Some(entry) = self.rooms.get(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        let (context, tenure, chain, room) = (self.context.clone(), owned.tenure, room.chain.clone(), id.clone());
        let permits = Arc::clone(&self.scans);
        // It is a task of its own, because a range may be long, and other rooms must not wait for it.
        let scan = tokio::spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            let mut scans = scans;
            let result = context.scan(tenure, &room, &chain, &mut scans).await;
            JobResult::Scanned { room, partition: tenure.partition, scans, result }
        });
        self.start_job(tenure, async move {
            scan.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
        });
    }

    /// Handles bounces for which the timeline was read.
    pub(super) async fn scanned(
        &mut self,
        id: &RoomId,
        partition: Partition,
        scans: Vec<BounceScan>,
        result: Result<(), JobError>,
    ) {
        let room = self.rooms.get(id).and_then(|entry| entry.room.as_ref());
        match (result, room) {
            (Ok(()), Some(room)) => {
                let mut outcome = DispatchOutcome::default();
                for scan in scans {
                    outcome.bounced(room.scanned(scan), &mut self.links);
                }
                self.note_dispatched(id, outcome);
            }
            (Err(JobError::NotOwner(lost)), _) => {
                let asked = scans.into_iter().filter_map(|scan| scan.bounce.to);
                self.lose_partition(lost, asked.map(|to| to.node).collect()).await;
            }
            (result, _) => {
                if let Err(error) = result {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, %partition, room = %id, "the events of a bounce could not be read");
                }
                scans.into_iter().for_each(|scan| self.bounce_later(partition, id, scan.bounce));
            }
        }
    }

    /// Has a bounce asked again, or tries it again if it is the worker's own.
    fn bounce_later(&mut self, partition: Partition, room: &RoomId, bounce: Bounce) {
        match &bounce.to {
            Some(to) => self.links.answer(to, &Refusal::unavailable("the store did not answer", 1000)),
            None => {
                let due = Instant::now() + AGAIN_AFTER;
                self.postponed.push(PostponedBounce { due, partition, room: room.clone(), bounce });
            }
        }
    }

    /// Queues the bounces of recovered rooms that are due.
    pub(super) fn bounce_recovered(&mut self) {
        let now = Instant::now();
        for recovered in self.recovered.extract_if(.., |recovered| recovered.due <= now).collect::<Vec<_>>() {
            let RecoveredRoom { partition, room: id, first, last, pushed, pending, .. } = &recovered;
            let Some(room) = self.rooms.get(id).and_then(|entry| entry.room.as_ref()) else {
                // It failed since, and is opened again. If the partition was lost, nothing is owed any more.
                if self.partitions.contains_key(partition) {
                    self.rooms.entry(id.clone()).or_insert_with(|| LiveEntry::new(*partition));
                    self.slowed.insert(id.clone());
                    self.recovered.push(RecoveredRoom { due: now + AGAIN_AFTER, ..recovered });
                }
                continue;
            };
            tracing::debug!(%partition, room = %id, "members of a recovered room who did not come back are bounced");
            let at = pending.at();
            let away: Vec<UserId> = room.members.keys().filter(|user| !room.audience.contains(user)).cloned().collect();
            for user in away {
                let name = PushedRange::name(&user);
                let ranges = pushed.iter().filter(|range| range.users.contains(&name));
                let pushed = ranges.map(|range| (range.first, range.last)).collect();
                let own = OwnBounce { pending: self.pending.add(*partition, at), pushed };
                let bounce = Bounce { to: None, own: Some(own), user, first: *first, last: *last };
                self.enqueue_own_bounce(*partition, id, bounce);
            }
            self.pending.done(*pending);
        }
    }

    /// Queues the postponed bounces that are due.
    pub(super) fn bounce_postponed(&mut self) {
        let now = Instant::now();
        for PostponedBounce { partition, room, bounce, .. } in
            self.postponed.extract_if(.., |p| p.due <= now).collect::<Vec<_>>()
        {
            // The next owner of a partition that was lost dispatches the events again.
            if self.partitions.contains_key(&partition) {
                self.enqueue_own_bounce(partition, &room, bounce);
            }
        }
    }
}

/// Returns a bounce of the worker's own as a request that waits at its room.
pub(super) fn own_request(room: &RoomId, bounce: Bounce) -> QueuedRequest {
    let Bounce { own, user, first, last, .. } = bounce;
    let (room, verb) = (room.clone(), Verb::Bounce { first, last });
    let request = FlowRequest { n: 0, room, user, is_service: false, first: None, verb };
    QueuedRequest { to: None, own, request }
}
