//! Results of jobs.

use sendpi_bus::presence::Online;
use sendpi_model::link::{AudienceAdded, AudienceReason};
use sendpi_model::server_frame::HeadsAnswer;
use sendpi_model::{Millis, Refusal, RoomId};

use super::{Executor, end_audience, note_events};
use crate::dispatch::{Dispatched, dispatch};
use crate::job::{Committed, JobError, JobResult, OpenedRoom};
use crate::room::{AnswerAddress, BatchStep, IdleClock, Lookups, Room};

impl Executor {
    pub(super) async fn handle_result(&mut self, done: JobResult) {
        match done {
            JobResult::Opened { room, result } => match result {
                Ok(opened) => self.opened(&room, *opened),
                Err(error) => self.room_failed(&room, error, Vec::new()).await,
            },
            JobResult::LookedUp { room, result } => match result {
                Ok(found) => self.looked_up(&room, found),
                Err(error) => self.room_failed(&room, error, Vec::new()).await,
            },
            JobResult::Activated { room, rows_at, result } => match result {
                Ok(online) => self.activated(&room, rows_at, &online),
                Err(error) => self.room_failed(&room, error, Vec::new()).await,
            },
            JobResult::Committed { rooms, online, result } => match result {
                Ok(()) => rooms.into_iter().for_each(|room| self.committed(room, &online)),
                Err(error) => {
                    for Committed { room, batch, .. } in rooms {
                        self.room_failed(&room, error.clone(), batch.steps).await;
                    }
                }
            },
            JobResult::Evicted { room, result } => match result {
                Ok(()) => self.evicted(&room),
                Err(error) => self.room_failed(&room, error, Vec::new()).await,
            },
            JobResult::Claimed { partition, result } => self.claimed(partition, result).await,
            JobResult::Heads { to, result } => match result {
                Ok(heads) => {
                    self.links.answer(&to, &HeadsAnswer { rooms: heads.into_iter().collect() });
                }
                Err(JobError::NotOwner(_)) => self.refuse_flow(&to.node, to.partition).await,
                Err(JobError::Failed(why)) => {
                    self.links.answer(&to, &Refusal::unavailable(why, 1000));
                }
            },
        }
    }

    fn opened(&mut self, id: &RoomId, opened: OpenedRoom) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get_mut(&entry.partition) else { return };
        entry.busy = false;
        let OpenedRoom { opened, unsettled } = opened;
        let mut room = Room::open(id.clone(), owned.tenure.epoch, opened);
        owned.saw(room.head.at);
        if !sendpi_model::faults::mutant(sendpi_model::faults::Mutant::RedispatchOff) {
            entry.unsettled = unsettled;
        }
        // What is handed out again counts as not dispatched yet.
        if let Some(first) = entry.unsettled.first() {
            room.dispatched = first.head.seq - 1;
        }
        entry.idle = Some(IdleClock::new(self.config.idle, room.tail.iter().map(|event| event.head.at), Millis::now()));
        if entry.unsettled.is_empty() || room.members.is_empty() {
            entry.unsettled.clear();
            owned.recovering.remove(id);
        }
        // A channel that was live when its worker died has not written its head: lists of rooms show the one before.
        let stale = room.row.as_ref().is_some_and(|row| row.head.seq < room.head.seq) && !room.members.is_empty();
        let idle = entry.unsettled.is_empty() && entry.queue.is_empty();
        entry.room = Some(Box::new(room));
        if stale && idle {
            self.evict(id);
        } else {
            self.continue_room(id);
        }
    }

    fn looked_up(&mut self, id: &RoomId, found: Lookups) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        entry.busy = false;
        entry.lookups.extend(found);
        self.make_ready(id);
    }

    /// What presence found is added to L1; an attach meanwhile stays; the rest is L2.
    fn activated(&mut self, id: &RoomId, rows_at: Option<Millis>, online: &Online) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(room) = &mut entry.room else { return };
        entry.busy = false;
        for (user, places) in online {
            for (node, signin) in places {
                if room.attach(user, node, *signin) {
                    let seq = room.dispatched;
                    let (room, user, info) = (id.clone(), user.clone(), bytes::Bytes::new());
                    self.links.added(node, AudienceAdded { room, user, reason: AudienceReason::Presence, seq, info });
                }
            }
        }
        room.activate(rows_at);
        let unsettled = std::mem::take(&mut entry.unsettled);
        if !unsettled.is_empty() {
            tracing::info!(room = %id, events = unsettled.len(), "handing out again what an earlier owner may not have");
            let steps = unsettled.into_iter().map(BatchStep::Event).collect();
            let dispatched = dispatch(room, entry.partition, steps, &[], online, &mut self.links);
            self.note_dispatched(id, dispatched);
        }
        if let Some(owned) = self.rooms.get(id).and_then(|entry| self.partitions.get_mut(&entry.partition)) {
            owned.recovering.remove(id);
        }
        self.continue_room(id);
    }

    fn committed(&mut self, committed: Committed, online: &Online) {
        let Committed { room: id, batch, reads } = committed;
        let Some(entry) = self.rooms.get_mut(&id) else { return };
        let Some(room) = &mut entry.room else { return };
        entry.busy = false;
        let dispatched = dispatch(room, entry.partition, batch.steps, &reads, online, &mut self.links);
        self.note_dispatched(&id, dispatched);
        self.continue_room(&id);
    }

    fn note_dispatched(&mut self, id: &RoomId, dispatched: Dispatched) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (partition, Dispatched { pushes, events, not_owed, again }) = (entry.partition, dispatched);
        note_events(entry.idle.as_mut(), &events);
        self.has_dispatched |= !events.is_empty();
        for order in pushes {
            self.push(order);
        }
        for at in not_owed {
            self.owed.done(partition, at);
        }
        for bounce in again {
            self.bounce_again(partition, id.clone(), bounce);
        }
    }

    /// What a room does after a job: the next thing that waits; and a room that is not active leaves the live table when nothing waits.
    fn continue_room(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(room) = &entry.room else { return };
        if let Some(idle) = &mut entry.idle {
            idle.subscribed(!room.audience.is_empty(), Millis::now());
        }
        if !entry.queue.is_empty() || !entry.unsettled.is_empty() {
            self.make_ready(id);
        } else if !room.active {
            self.rooms.remove(id);
        }
    }

    /// A job of a room came to nothing: the room is forgotten, to be opened anew, and whoever waited for this is told.
    async fn room_failed(&mut self, id: &RoomId, error: JobError, steps: Vec<BatchStep>) {
        if let JobError::NotOwner(lost) = error {
            let asked = steps.iter().filter_map(answered_by).filter(|to| to.partition == lost);
            let nodes = asked.map(|to| to.node.clone()).collect();
            self.lose_partition(lost, nodes).await;
        }
        // A job may be of several partitions, of which only one was lost: the others' rooms are opened anew as well.
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (partition, why) = (entry.partition, error.to_string());
        // Events of the batch may be in the store without having been handed out: until that is done nothing is settled.
        if steps.iter().any(|step| matches!(step, BatchStep::Event(_)))
            && let Some(owned) = self.partitions.get_mut(&partition)
        {
            owned.recovering.insert(id.clone());
        }
        if entry.queue.is_empty() && steps.is_empty() {
            tracing::debug!(room = %id, why, "a job of a room failed");
        } else {
            tracing::warn!(room = %id, why, "a job of a room failed");
        }
        entry.busy = false;
        if let Some(room) = entry.room.take() {
            end_audience(&room, &mut self.links);
        }
        entry.lookups.clear();
        let refusal = Refusal::unavailable("the store did not take it", 1000);
        let mut bounces = Vec::new();
        let waiting: Vec<_> = entry.queue.drain(..).collect();
        for to in steps.iter().filter_map(answered_by) {
            self.links.answer(to, &refusal);
        }
        for waiting in waiting {
            match waiting.to {
                Some(to) => self.links.answer(&to, &refusal),
                None if waiting.owed.is_some() => bounces.push(waiting),
                None => {}
            }
        }
        let recovering = self.partitions.get(&partition).is_some_and(|owned| owned.recovering.contains(id));
        if bounces.is_empty() && !recovering {
            self.rooms.remove(id);
        } else if let Some(entry) = self.rooms.get_mut(id) {
            // PendingPushes by the worker itself: tried again with the next tick.
            entry.queue.extend(bounces);
            self.slowed.insert(id.clone());
        }
    }
}

/// Where the answer to a step goes.
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
