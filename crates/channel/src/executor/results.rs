//! Results of jobs: what a room does next, or what becomes of it if the job failed.

use bytes::Bytes;
use sendpi_bus::presence::Online;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::link::{AudienceAdded, AudienceReason};
use sendpi_model::server_frame::HeadsAnswer;
use sendpi_model::{Millis, Partition, Refusal, RoomId, UserId};
use tokio::time::Instant;

use super::Executor;
use super::live_entry::Stage;
use crate::claim::{ClaimError, ClaimedPartition};
use crate::dispatch::{DispatchOutcome, dispatch};
use crate::job::{CommitOutcome, CommittedBatch, JobError, OpenedRoom};
use crate::room::{AnswerAddress, BatchStep, IdleClock, Lookups, Room};

/// The result of a job.
#[derive(Debug)]
pub(super) enum JobResult {
    /// A room was opened.
    Opened { room: RoomId, result: Result<Box<OpenedRoom>, JobError> },
    /// Nonces were looked for.
    LookedUp { room: RoomId, result: Result<Lookups, JobError> },
    /// The rooms of users who are about to join were counted.
    Counted { room: RoomId, users: Vec<(UserId, usize)> },
    /// The order rows were written (if there is a time) and presence was read behind the barrier.
    Activated { room: RoomId, rows_at: Option<Millis>, result: Result<Online, JobError> },
    /// Batches were committed. If that succeeded, they are in the store, behind the fence.
    Committed(CommitOutcome),
    /// The head of a room that is to be evicted was written.
    Evicted { room: RoomId, result: Result<(), JobError> },
    /// A lost partition was claimed again, or not yet.
    Claimed { partition: Partition, result: Result<Box<ClaimedPartition>, ClaimError> },
    /// The heads of several rooms were read.
    Heads { to: AnswerAddress, result: Result<Vec<(RoomId, u64)>, JobError> },
}

impl Executor {
    pub(super) async fn handle_result(&mut self, result: JobResult) {
        match result {
            JobResult::Opened { room, result } => match result {
                Ok(opened) => self.opened(&room, *opened),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::LookedUp { room, result } => match result {
                Ok(found) => self.looked_up(&room, found),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::Counted { room, users } => self.counted(&room, users),
            JobResult::Activated { room, rows_at, result } => match result {
                Ok(online) => self.activated(&room, rows_at, &online),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::Committed(CommitOutcome { rooms, online, result }) => match result {
                Ok(()) => rooms.into_iter().for_each(|room| self.committed(room, &online)),
                Err(error) => {
                    for CommittedBatch { room, batch, .. } in rooms {
                        self.room_failed(&room, &error, batch.steps).await;
                    }
                }
            },
            JobResult::Evicted { room, result } => match result {
                Ok(()) => self.evicted(&room),
                Err(error) => self.room_failed(&room, &error, Vec::new()).await,
            },
            JobResult::Claimed { partition, result } => self.claimed(partition, result).await,
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

    fn opened(&mut self, id: &RoomId, opened: OpenedRoom) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get_mut(&entry.partition) else { return };
        if !entry.end(Stage::Opening) {
            return;
        }
        let OpenedRoom { stored, unsettled } = opened;
        let mut room = Room::open(id.clone(), owned.tenure.epoch, stored);
        owned.saw(room.head.at);
        if !mutant(Mutant::RedispatchOff) {
            entry.unsettled = unsettled;
        }
        // Events that are dispatched again count as not dispatched yet.
        if let Some(first) = entry.unsettled.first() {
            room.dispatched = first.head.seq - 1;
        }
        entry.idle = Some(IdleClock::new(self.config.idle, room.tail.iter().map(|event| event.head.at), Millis::now()));
        if entry.unsettled.is_empty() || room.members.is_empty() {
            entry.unsettled.clear();
            owned.recovering.remove(id);
        }
        // A channel that was live when its worker died has not written its head, so lists of rooms show the one
        // before.
        let stale = room.row.as_ref().is_some_and(|row| row.head.seq < room.head.seq) && !room.members.is_empty();
        entry.room = Some(Box::new(room));
        if stale && !entry.has_work() {
            self.evict(id);
        } else {
            self.continue_room(id);
        }
    }

    fn looked_up(&mut self, id: &RoomId, found: Lookups) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if entry.end(Stage::LookingUp) {
            entry.lookups.extend(found);
            self.make_ready(id);
        }
    }

    fn counted(&mut self, id: &RoomId, users: Vec<(UserId, usize)>) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if !entry.end(Stage::LookingUp) {
            return;
        }
        let Some(room) = &mut entry.room else { return };
        for (user, rooms) in users {
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
        for (user, places) in online {
            for (node, signin) in places {
                if room.attach(user, node, *signin) {
                    let seq = room.dispatched;
                    let (room, user, info) = (id.clone(), user.clone(), Bytes::new());
                    self.links.added(node, AudienceAdded { room, user, reason: AudienceReason::Presence, seq, info });
                }
            }
        }
        room.activate(rows_at);
        let (partition, unsettled) = (entry.partition, std::mem::take(&mut entry.unsettled));
        if !unsettled.is_empty() {
            tracing::info!(
                %partition, room = %id, events = unsettled.len(),
                "dispatching again what an earlier owner may not have dispatched to everybody"
            );
            let steps = unsettled.into_iter().map(BatchStep::Event).collect();
            let outcome = dispatch(room, partition, steps, &[], online, &mut self.links);
            self.note_dispatched(id, outcome);
        }
        if let Some(owned) = self.partitions.get_mut(&partition) {
            owned.recovering.remove(id);
        }
        self.continue_room(id);
    }

    fn committed(&mut self, committed: CommittedBatch, online: &Online) {
        let CommittedBatch { room: id, batch, reads } = committed;
        let Some(entry) = self.rooms.get_mut(&id) else { return };
        if !entry.end(Stage::Committing) {
            return;
        }
        let Some(room) = &mut entry.room else { return };
        let outcome = dispatch(room, entry.partition, batch.steps, &reads, online, &mut self.links);
        debug_assert!(room.dispatched <= room.head.seq, "an event was dispatched that the room does not have");
        self.note_dispatched(&id, outcome);
        self.continue_room(&id);
    }

    fn note_dispatched(&mut self, id: &RoomId, outcome: DispatchOutcome) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (partition, DispatchOutcome { pushes, heads, not_pending, again }) = (entry.partition, outcome);
        if let Some(idle) = &mut entry.idle {
            heads.iter().for_each(|head| idle.event(head.at));
        }
        self.has_dispatched |= !heads.is_empty();
        for push in pushes {
            self.push(push);
        }
        for at in not_pending {
            self.pending.done(partition, at);
        }
        for bounce in again {
            self.bounce_again(partition, id.clone(), bounce);
        }
    }

    /// Continues a room after a job, with the next thing that waits. A room that is not active leaves the live table
    /// if nothing waits.
    fn continue_room(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(room) = &entry.room else { return };
        if let Some(idle) = &mut entry.idle {
            idle.subscribed(!room.audience.is_empty(), Millis::now());
        }
        let active = room.active;
        if entry.has_work() {
            self.make_ready(id);
        } else if !active {
            self.rooms.remove(id);
        }
    }

    /// Handles a failed job of a room. The room is forgotten, to be opened anew, and everybody who waited for it is
    /// refused.
    async fn room_failed(&mut self, id: &RoomId, error: &JobError, steps: Vec<BatchStep>) {
        if let JobError::NotOwner(lost) = error {
            let asked = steps.iter().filter_map(answered_by).filter(|to| to.partition == *lost);
            let nodes = asked.map(|to| to.node.clone()).collect();
            self.lose_partition(*lost, nodes).await;
        }
        // A job may be of several partitions, of which only one was lost. The rooms of the others are opened anew as
        // well.
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let partition = entry.partition;
        // Events of the batch may be in the store without having been dispatched. Until they are, nothing is settled.
        if steps.iter().any(|step| matches!(step, BatchStep::Event(_)))
            && let Some(owned) = self.partitions.get_mut(&partition)
        {
            owned.recovering.insert(id.clone());
        }
        if entry.queue.is_empty() && steps.is_empty() {
            tracing::debug!(error = error as &dyn std::error::Error, %partition, room = %id, "a job of a room failed");
        } else {
            tracing::warn!(error = error as &dyn std::error::Error, %partition, room = %id, "a job of a room failed");
        }
        if let Some(room) = entry.close() {
            self.links.end_audience(&room);
        }
        let refusal = Refusal::unavailable("the store did not take it", 1000);
        for to in steps.iter().filter_map(answered_by) {
            self.links.answer(to, &refusal);
        }
        let mut bounces = Vec::new();
        for waiting in entry.queue.drain(..) {
            match waiting.to {
                Some(to) => self.links.answer(&to, &refusal),
                None if waiting.pending_at.is_some() => bounces.push(waiting),
                None => {}
            }
        }
        let recovering = self.partitions.get(&partition).is_some_and(|owned| owned.recovering.contains(id));
        if bounces.is_empty() && !recovering {
            self.rooms.remove(id);
        } else {
            // The worker's own bounces and the room's recovery are tried again with the next tick.
            entry.queue.extend(bounces);
            self.slowed.insert(id.clone());
        }
    }
}

/// Returns where the answer to a step goes.
fn answered_by(step: &BatchStep) -> Option<&AnswerAddress> {
    match step {
        BatchStep::Attach { to, .. }
        | BatchStep::Detach { to, .. }
        | BatchStep::Answer { to, .. }
        | BatchStep::Members { to, .. }
        | BatchStep::Read { to, .. } => Some(to),
        BatchStep::Bounce(bounce) => bounce.to.as_ref(),
        BatchStep::Event(_) | BatchStep::Typing(_) | BatchStep::Joined(_) | BatchStep::Left(..) => None,
    }
}
