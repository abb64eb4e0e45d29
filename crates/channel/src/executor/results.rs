//! Results of jobs: what a room does next, or what becomes of it if the job failed.

use std::collections::HashSet;

use bytes::Bytes;
use sendpi_bus::presence::Online;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::link::{AudienceAdded, AudienceReason};
use sendpi_model::server_frame::HeadsAnswer;
use sendpi_model::{Millis, Refusal, RoomId, UserId};
use tokio::time::Instant;

use super::Executor;
use super::bounces::{RecoveredRoom, own_request};
use super::job_result::{FinishedJob, JobResult};
use super::live_entry::Stage;
use super::open_backoff::FailedOpen;
use crate::dispatch::{DispatchOutcome, dispatch};
use crate::job::{CommitOutcome, CommittedBatch, JobError, LeftEvents, OpenedRoom};
use crate::room::{AnswerAddress, Batch, BatchStep, IdleClock, QueuedRequest, ReadKind, Room};

impl Executor {
    pub(super) async fn handle_result(&mut self, finished: FinishedJob) {
        let FinishedJob { tenure, result } = finished;
        if let Some(tenure) = tenure {
            debug_assert!(self.tenured_jobs > 0, "a job ended that was not started");
            self.tenured_jobs = self.tenured_jobs.saturating_sub(1);
            match self.partitions.get_mut(&tenure.partition).filter(|owned| owned.tenure == tenure) {
                Some(owned) => owned.jobs = owned.jobs.saturating_sub(1),
                None => return self.drop_stale(&result),
            }
        }
        match result {
            JobResult::Opened { room, result } => match result {
                Ok(opened) => self.opened(&room, *opened),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::LookedUp { room, search, wanted, result } => {
                self.looked_up(&room, search, wanted, result).await;
            }
            JobResult::Prepared { room, preparation, at, newcomers, counts, result } => {
                self.prepared(&room, preparation, at, (newcomers, counts), result).await;
            }
            JobResult::Counted { room, counts } => self.counted(&room, counts),
            JobResult::Activated { room, rows_at, result } => match result {
                Ok(online) => self.activated(&room, rows_at, &online),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::Committed(CommitOutcome { rooms, online, result }) => match result {
                Ok(()) => rooms.into_iter().for_each(|room| self.committed(room, &online)),
                Err(error) => {
                    for CommittedBatch { room, batch } in rooms {
                        self.room_failed(&room, &error, unanswered(batch)).await;
                    }
                }
            },
            JobResult::Evicted { room, result } => match result {
                Ok(()) => self.evicted(&room),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::Answered { begun, result } => self.answered(begun, result).await,
            JobResult::Renewed { outcomes } => self.renewed(outcomes).await,
            JobResult::Claimed { partition, result } => self.claimed(partition, result).await,
            JobResult::Released { partition, outcome } => self.released(partition, outcome).await,
            JobResult::LookedAfter { node, is_dead } => self.looked_after(&node, is_dead).await,
            JobResult::Probed { dead } => self.probed(&dead),
            JobResult::Scanned { room, partition, scans, result } => {
                self.scanned(&room, partition, scans, result).await;
            }
            JobResult::Undelivered { undelivered, until_found } => self.bounce_undelivered(undelivered, until_found),
            JobResult::Heads { to, result } => match result {
                Ok(heads) => self.links.answer(&to, &HeadsAnswer { rooms: heads.into_iter().collect() }),
                Err(JobError::NotOwner(_)) => self.refuse_flow(&to.node, to.partition).await,
                Err(error) => {
                    let partition = to.partition;
                    tracing::warn!(error = &error as &dyn std::error::Error, %partition, "heads could not be read");
                    self.links.answer(&to, &Refusal::unavailable(error.to_string(), 1000));
                }
            },
        }
    }

    /// Drops the result of a job of a tenure that is over. Whoever waited for it was refused when that ended.
    fn drop_stale(&mut self, result: &JobResult) {
        tracing::debug!(result = result.name(), "dropped the result of a job of a tenure that is over");
        match result {
            JobResult::Answered { begun, .. } => self.read_ended(begun),
            JobResult::LookedUp { wanted, .. } => self.search_ended(wanted),
            _ => {}
        }
    }

    fn opened(&mut self, id: &RoomId, opened: OpenedRoom) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get_mut(&entry.partition) else { return };
        if !entry.end(Stage::Opening) {
            return;
        }
        self.open_backoff.opened(id);
        let OpenedRoom { stored, left, pushed } = opened;
        let mut room = Room::open(id.clone(), owned.tenure.epoch, stored);
        room.retention_default = self.config.retention_days;
        // A channel that was live when its worker died has not written its head, so lists of rooms show the one
        // before.
        entry.lags = room.head_row_lags();
        owned.saw(room.head.at);
        if let Some(left) = &left {
            owned.left(left.last.head.at);
        }
        if !mutant(Mutant::RedispatchOff) {
            entry.left = left;
            entry.pushed_before = pushed;
        }
        // Events that are dispatched again count as not dispatched yet.
        if let Some(left) = &entry.left {
            room.dispatched = left.first.seq - 1;
        }
        entry.idle =
            Some(IdleClock::new(self.config.idle, room.tail.iter().map(|event| event.head.at), Instant::now()));
        if entry.left.is_none() || room.members.is_empty() {
            entry.left = None;
            // Until the head is written, the room's row does not tell what the room is.
            if !entry.lags {
                owned.recovered(id);
            }
        }
        entry.room = Some(Box::new(room));
        self.continue_room(id);
    }

    fn counted(&mut self, id: &RoomId, counts: Vec<(UserId, usize)>) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if !entry.end(Stage::Counting) {
            return;
        }
        let Some(room) = &mut entry.room else { return };
        for (user, rooms) in counts {
            let has_place = self.room_counts.note(&user, rooms, Instant::now());
            room.note_counted(user, has_place);
        }
        self.make_ready(id);
    }

    /// Adds the users whom presence found to L1. A user who attached in the meantime stays, and the other members are
    /// L2.
    fn activated(&mut self, id: &RoomId, rows_at: Option<Millis>, online: &Online) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if !entry.end(Stage::Activating) {
            return;
        }
        let Some(room) = &mut entry.room else { return };
        // Who joins with the batch that waits is told of the room when that is dispatched.
        let mut joining = HashSet::new();
        if let Some((committed, known)) = &mut entry.stored {
            joining.extend(committed.batch.joining().cloned());
            let found = online.iter().filter(|(user, _)| joining.contains(*user));
            known.extend(found.map(|(user, places)| (user.clone(), places.clone())));
        }
        for (user, places) in online.iter().filter(|(user, _)| !joining.contains(*user)) {
            for (node, signin) in places {
                if room.attach(user, node, *signin) {
                    let seq = room.dispatched;
                    let (room, user, info) = (id.clone(), user.clone(), Bytes::new());
                    self.links.added(node, AudienceAdded { room, user, reason: AudienceReason::Presence, seq, info });
                }
            }
        }
        if rows_at.is_some() {
            room.order_rows_stored();
        }
        room.activate(rows_at);
        let partition = entry.partition;
        let Some(owned) = self.partitions.get_mut(&partition) else { return };
        let now = owned.now(Millis::now());
        let waits = entry.stored.is_some() || entry.left.is_some();
        if waits && !room.has_fresh_rows(now, self.config.window.order_rows_age()) {
            return self.activate(id, now, true);
        }
        let stored = entry.stored.take();
        if let Some(LeftEvents { first, last }) = entry.left.take() {
            tracing::info!(
                %partition, room = %id, events = last.head.seq + 1 - first.seq,
                "dispatching again what an earlier owner may not have dispatched to everybody"
            );
            let recovered = RecoveredRoom {
                due: Instant::now() + self.config.bounce_after,
                partition,
                room: id.clone(),
                first: first.seq,
                last: last.head.seq,
                pushed: entry.pushed_before.take().map(|row| row.ranges).unwrap_or_default(),
                pending: self.pending.add(partition, first.at),
            };
            self.recovered.push(recovered);
            let steps = vec![BatchStep::Again { event: last, first }];
            let outcome = dispatch(room, partition, steps, online, &mut self.links);
            self.note_dispatched(id, outcome);
        }
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.recovered(id);
        }
        match stored {
            Some((committed, online)) => self.dispatch_batch(committed, &online),
            None => self.continue_room(id),
        }
    }

    fn committed(&mut self, committed: CommittedBatch, online: &Online) {
        let id = &committed.room;
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if !entry.end(Stage::Committing) {
            return;
        }
        let Some(room) = &entry.room else { return };
        let Some(owned) = self.partitions.get_mut(&entry.partition) else { return };
        let now = owned.now(Millis::now());
        if room.needs_new_rows(&committed.batch.steps, now, self.config.window.order_rows_age()) {
            // Who signs in now does not find the room by the rows that there are.
            let id = id.clone();
            entry.stored = Some((committed, online.clone()));
            return self.activate(&id, now, true);
        }
        self.dispatch_batch(committed, online);
    }

    /// Dispatches a batch that is in the store, behind the fence, under fresh order rows.
    fn dispatch_batch(&mut self, committed: CommittedBatch, online: &Online) {
        let CommittedBatch { room: id, batch } = committed;
        let Some(entry) = self.rooms.get_mut(&id) else { return };
        let Some(room) = &mut entry.room else { return };
        let outcome = dispatch(room, entry.partition, batch.steps, online, &mut self.links);
        self.metrics.events.inc_by(outcome.heads.len() as u64);
        if let Some(owned) = self.partitions.get_mut(&entry.partition) {
            owned.count_events(outcome.heads.len() as u64);
        }
        debug_assert!(room.dispatched <= room.head.seq, "an event was dispatched that the room does not have");
        let mut asked = batch.asked;
        for read in &mut asked {
            if let ReadKind::Members { cursor, limit, listed } = &mut read.kind {
                *listed = Some((room.head.seq, room.members_list(cursor.as_ref(), *limit)));
            }
        }
        self.ask(asked);
        self.note_dispatched(&id, outcome);
        self.continue_room(&id);
    }

    pub(super) fn note_dispatched(&mut self, id: &RoomId, outcome: DispatchOutcome) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (partition, DispatchOutcome { pushes, heads, not_pending, scans }) = (entry.partition, outcome);
        if let Some(idle) = &mut entry.idle {
            heads.iter().for_each(|_| idle.event(Instant::now()));
        }
        self.has_dispatched |= !heads.is_empty();
        for push in pushes {
            self.push(partition, id, push);
        }
        for pending in not_pending {
            self.pending.done(pending);
        }
        if !scans.is_empty() {
            self.scan_bounces(id, scans);
        }
    }

    /// Continues a room after a job, with the next thing that waits. A room that is not active leaves the live table
    /// a while after nothing waits any more.
    pub(super) fn continue_room(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(room) = &entry.room else { return };
        if let Some(idle) = &mut entry.idle {
            idle.subscribed(!room.audience.is_empty(), Instant::now());
        }
        let active = room.active;
        if entry.has_work() {
            self.make_ready(id);
        } else if !active && entry.aside.is_empty() {
            if entry.lags { self.evict(id) } else { self.linger(id) }
        }
    }

    /// Handles a failed job of a room. The room is forgotten, to be opened anew, and everybody who waited for it is
    /// refused.
    async fn room_failed(&mut self, id: &RoomId, error: &JobError, mut steps: Vec<BatchStep>) {
        if let Some((CommittedBatch { batch, .. }, _)) = self.rooms.get_mut(id).and_then(|entry| entry.stored.take()) {
            steps.extend(unanswered(batch));
        }
        if let JobError::NotOwner(lost) = error {
            let asked = steps.iter().filter_map(answered_by).filter(|to| to.partition == *lost);
            let nodes = asked.map(|to| to.node.clone()).collect();
            self.lose_partition(*lost, nodes).await;
        }
        let serves = self.store_serves();
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let partition = entry.partition;
        // Events of the batch may be in the store without having been dispatched. Until they are, nothing is settled.
        if steps.iter().any(|step| matches!(step, BatchStep::Event(_)))
            && let Some(owned) = self.partitions.get_mut(&partition)
        {
            owned.recovering.insert(id.clone());
        }
        if entry.stage() == Stage::Opening && matches!(error, JobError::Read(_)) && serves {
            let FailedOpen { pause, patience_ended } = self.open_backoff.failed(id, Instant::now());
            if patience_ended && let Some(owned) = self.partitions.get_mut(&partition) {
                owned.wait_no_longer_for(id);
            }
            tracing::warn!(
                error = error as &dyn std::error::Error, %partition, room = %id, again_in = ?pause,
                "a room cannot be opened"
            );
        } else if entry.requests() == 0 && steps.is_empty() {
            tracing::debug!(error = error as &dyn std::error::Error, %partition, room = %id, "a job of a room failed");
        } else {
            tracing::warn!(error = error as &dyn std::error::Error, %partition, room = %id, "a job of a room failed");
        }
        if !serves {
            entry.keep_audience();
        } else if let Some(room) = entry.close() {
            self.links.end_audience(&room);
            // Its head is written when it is opened anew.
            if room.head_row_lags()
                && let Some(owned) = self.partitions.get_mut(&partition)
            {
                owned.recovering.insert(id.clone());
            }
        }
        let refusal = Refusal::unavailable("the store did not take it", 1000);
        for to in steps.iter().filter_map(answered_by) {
            self.links.answer(to, &refusal);
        }
        // The worker's own bounces are owed all the same, those of the batch that failed too.
        let own = steps.into_iter().filter_map(|step| match step {
            BatchStep::Bounce(bounce) if bounce.to.is_none() => Some(own_request(id, bounce)),
            _ => None,
        });
        let mut bounces: Vec<QueuedRequest> = own.collect();
        for waiting in entry.queue.drain(..) {
            match waiting.to {
                Some(to) => self.links.answer(&to, &refusal),
                None if waiting.own.is_some() => bounces.push(waiting),
                None => {}
            }
        }
        let is_recovering = self.partitions.get(&partition).is_some_and(|owned| owned.is_recovering(id));
        if bounces.is_empty() && !is_recovering && !entry.room.as_ref().is_some_and(|room| room.active) {
            self.rooms.remove(id);
        } else {
            // The worker's own bounces and the room's recovery are tried again with the next tick.
            entry.queue.extend(bounces);
            self.slowed.insert(id.clone());
        }
    }
}

/// Returns the steps of a batch that failed, and among them the answers to what was to be read after it.
fn unanswered(batch: Batch) -> Vec<BatchStep> {
    let asked = batch.asked.into_iter().map(|read| BatchStep::Answer { to: read.to, frame: Bytes::new() });
    batch.steps.into_iter().chain(asked).collect()
}

/// Returns where the answer to a step goes.
pub(super) fn answered_by(step: &BatchStep) -> Option<&AnswerAddress> {
    match step {
        BatchStep::Attach { to, .. } | BatchStep::Detach { to, .. } | BatchStep::Answer { to, .. } => Some(to),
        BatchStep::Bounce(bounce) => bounce.to.as_ref(),
        BatchStep::Left { then, .. } => then.as_ref().map(|(to, _)| to),
        BatchStep::Event(_) | BatchStep::Again { .. } | BatchStep::Typing(_) | BatchStep::Joined(_) => None,
    }
}
