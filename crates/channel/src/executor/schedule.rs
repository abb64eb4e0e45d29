//! Scheduling: every room that has something to do gets its next job.

use std::time::Duration;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, RoomId, UserId, Verb};
use sendpi_store::{ActiveRoom, Row};
use tokio::time::Instant;

use super::live_entry::{LiveEntry, Stage};
use super::results::JobResult;
use super::{Executor, PENDING_MAX};
use crate::job::BatchCommit;
use crate::room::{Batch, Lookup, QueuedRequest, Room};

/// The most requests of one batch.
const BATCH_REQUESTS: usize = 1_000;
/// The most bytes of bodies in one batch. A batch is at most 1 MiB in the store.
const BATCH_BYTES: usize = 768 * 1024;

impl Executor {
    /// Starts the next job of every room that has something to do.
    pub(super) fn start_ready_rooms(&mut self) {
        let mut plain = Vec::new();
        for id in std::mem::take(&mut self.ready) {
            if let Some(commit) = self.start_next_job(&id) {
                if commit.batch.is_plain() {
                    plain.push(commit);
                } else {
                    let context = self.context.clone();
                    self.start_job(async move { JobResult::Committed(context.commit(commit).await) });
                }
            }
        }
        if !plain.is_empty() {
            let context = self.context.clone();
            self.start_job(async move { JobResult::Committed(context.commit_plain(plain).await) });
        }
    }

    /// Starts a room's next job. A batch is returned instead, to be committed with those of other rooms.
    fn start_next_job(&mut self, id: &RoomId) -> Option<BatchCommit> {
        let entry = self.rooms.get_mut(id)?;
        let owned = self.partitions.get_mut(&entry.partition)?;
        match entry.stage() {
            Stage::Closed => {
                self.open(id);
                return None;
            }
            Stage::Ready if entry.has_work() => {}
            _ => return None,
        }
        let room = entry.room.as_mut()?;
        if self.pending.count() > PENDING_MAX || self.links.any_heavy(room.audience.nodes()) {
            return self.start_own_bounces(id);
        }
        if let Some(lookup) = room.lookup(&entry.queue, &entry.lookups) {
            self.look_up(id, lookup);
            return None;
        }
        let uncounted = room.uncounted(&entry.queue, |user| self.room_counts.take(user, Instant::now()));
        if !uncounted.is_empty() {
            self.count_rooms(id, uncounted);
            return None;
        }
        let now = owned.now(Millis::now());
        if let Some(durable) = needs_activation(entry, now, self.config.window.order_rows_age()) {
            self.activate(id, now, durable);
            return None;
        }
        let (entry, tenure) = (self.rooms.get_mut(id)?, owned.tenure);
        let length = batch_length(entry.queue.make_contiguous()).min(entry.queue.len());
        let waiting: Vec<QueuedRequest> = entry.queue.drain(..length).collect();
        let lookups = std::mem::take(&mut entry.lookups);
        entry.begin(Stage::Committing);
        let room = entry.room.as_mut()?;
        let mut batch = room.decide(waiting, now, &lookups);
        note_active(&mut entry.active_minute, room, &mut batch, now, entry.partition);
        Some(BatchCommit { room: id.clone(), tenure, chain: room.chain.clone(), batch })
    }

    /// Starts only the bounces of the worker's own, because under a heavy load only what lessens it goes on. If they
    /// waited as well, the load would never end.
    fn start_own_bounces(&mut self, id: &RoomId) -> Option<BatchCommit> {
        let entry = self.rooms.get_mut(id)?;
        let owned = self.partitions.get_mut(&entry.partition)?;
        let (own, rest): (Vec<QueuedRequest>, Vec<QueuedRequest>) =
            entry.queue.drain(..).partition(|waiting| waiting.pending_at.is_some());
        entry.queue = rest.into();
        if entry.has_work() {
            self.slowed.insert(id.clone());
        }
        if own.is_empty() {
            return None;
        }
        entry.begin(Stage::Committing);
        let room = entry.room.as_mut()?;
        let batch = room.decide(own, owned.now(Millis::now()), &entry.lookups);
        Some(BatchCommit { room: id.clone(), tenure: owned.tenure, chain: room.chain.clone(), batch })
    }

    fn open(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get(&entry.partition) else { return };
        entry.begin(Stage::Opening);
        let (context, tenure, room, settled) = (self.context.clone(), owned.tenure, id.clone(), owned.settled);
        self.start_job(async move {
            let result = context.open(tenure, &room, settled).await.map(Box::new);
            JobResult::Opened { room, result }
        });
    }

    fn look_up(&mut self, id: &RoomId, lookup: Lookup) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        let (context, tenure, chain, room) = (self.context.clone(), owned.tenure, room.chain.clone(), id.clone());
        entry.begin(Stage::LookingUp);
        self.start_job(async move {
            let result = context.look_up(tenure, &room, &chain, lookup).await;
            JobResult::LookedUp { room, result }
        });
    }

    /// Counts the rooms of users who are about to join a room.
    fn count_rooms(&mut self, id: &RoomId, users: Vec<UserId>) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (context, room) = (self.context.clone(), id.clone());
        entry.begin(Stage::LookingUp);
        self.start_job(async move { JobResult::Counted { room, users: context.count_rooms(users).await } });
    }

    /// Activates a channel: writes the order rows for a durable event, then reads presence behind the barrier.
    fn activate(&mut self, id: &RoomId, now: Millis, durable: bool) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        let (tenure, context) = (owned.tenure, self.context.clone());
        let rows = if durable && !mutant(Mutant::OrderRowsOff) { room.order_rows(now) } else { Vec::new() };
        let users = if mutant(Mutant::PresenceReadOff) { Vec::new() } else { room.members.keys().cloned().collect() };
        let (room, rows_at) = (id.clone(), durable.then_some(now));
        entry.begin(Stage::Activating);
        self.start_job(async move {
            let result = context.activate(tenure, rows, users).await;
            JobResult::Activated { room, rows_at, result }
        });
    }
}

/// Returns whether the room must be activated before it admits the queued requests. `Some(true)` is for a durable
/// event, with order rows. `Some(false)` is for typing, without them.
fn needs_activation(entry: &LiveEntry, now: Millis, age: Duration) -> Option<bool> {
    let room = entry.room.as_ref()?;
    if room.members.is_empty() {
        return None;
    }
    let durable = !entry.unsettled.is_empty() || entry.queue.iter().any(|waiting| makes_event(room, waiting));
    if durable && !room.has_fresh_rows(now, age) {
        return Some(true);
    }
    let typing = entry.queue.iter().any(|QueuedRequest { request, .. }| {
        matches!(request.verb, Verb::Typing) && room.members.contains_key(&request.user)
    });
    (typing && !room.active).then_some(false)
}

/// Returns whether the request may make a durable event. A request that will be refused activates nothing.
fn makes_event(room: &Room, QueuedRequest { request, .. }: &QueuedRequest) -> bool {
    match request.verb {
        Verb::Send { .. } | Verb::Invite { .. } | Verb::Leave => room.members.contains_key(&request.user),
        Verb::Join => room.may_join(&request.user),
        _ => false,
    }
}

fn batch_length(queue: &[QueuedRequest]) -> usize {
    let mut bytes = 0;
    let fits = queue.iter().take(BATCH_REQUESTS).take_while(|waiting| {
        if let Verb::Send { body, .. } = &waiting.request.verb {
            bytes += body.get().len() + 512;
        }
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}

/// Adds a row to `active_rooms` before a minute's first answer in a room. It records that the room had an event.
fn note_active(noted: &mut u64, room: &Room, batch: &mut Batch, now: Millis, partition: sendpi_model::Partition) {
    let minute = now.minute();
    if !batch.events.is_empty() && *noted != minute {
        *noted = minute;
        batch.events.push(Row::ActiveRoom(ActiveRoom { partition, minute, room: room.id.clone() }));
    }
}
