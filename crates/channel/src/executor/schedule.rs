//! Scheduling: every room that has something to do gets its next job.

use std::collections::HashMap;
use std::time::Duration;

use sendpi_bus::presence::Online;
use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::rights::Action;
use sendpi_model::{Millis, RoomId, UserId, Verb};
use sendpi_store::{ActiveRoom, DeletedRoom, Row};
use tokio::time::Instant;

use super::Executor;
use super::aside::TakenBatch;
use super::job_result::JobResult;
use super::live_entry::{LiveEntry, Stage};
use crate::job::{BatchCommit, spawned};
use crate::room::{Batch, QueuedRequest, Room};
use crate::tenure::Tenure;

impl Executor {
    /// Starts the next job of every room that has something to do.
    pub(super) fn start_ready_rooms(&mut self) {
        // Where rooms may fail apart, one whose nodes do not answer must hold up no other.
        let together = !self.context.store.fails_apart();
        let mut plain: HashMap<Tenure, Vec<BatchCommit>> = HashMap::new();
        for id in std::mem::take(&mut self.ready) {
            if let Some(commit) = self.start_next_job(&id) {
                if together && commit.batch.is_plain() {
                    plain.entry(commit.tenure).or_default().push(commit);
                } else {
                    let (context, tenure) = (self.context.clone(), commit.tenure);
                    self.start_job(tenure, async move { JobResult::Committed(context.commit(commit).await) });
                }
            }
        }
        // One job for each partition: one that is lost must fail no batch of another.
        for (tenure, commits) in plain {
            let context = self.context.clone();
            self.start_job(tenure, async move { JobResult::Committed(context.commit_plain(tenure, commits).await) });
        }
    }

    /// Starts a room's next job. A batch is returned instead, to be committed with those of other rooms.
    fn start_next_job(&mut self, id: &RoomId) -> Option<BatchCommit> {
        if !self.store_serves() {
            // All rooms are forgotten once the store is open again.
            return None;
        }
        let entry = self.rooms.get_mut(id)?;
        entry.is_ready = false;
        let owned = self.partitions.get_mut(&entry.partition)?;
        if owned.suspended {
            // Another worker may own it by now. The room goes on when the lease is written again.
            self.slowed.insert(id.clone());
            return None;
        }
        if owned.moving.is_some() && entry.requests() == 0 && entry.stored.is_none() {
            // The next owner dispatches again what is left.
            return None;
        }
        match entry.stage() {
            Stage::Closed => {
                self.open(id);
                return None;
            }
            Stage::Ready if entry.has_work() => {}
            _ => return None,
        }
        let room = entry.room.as_mut()?;
        if self.pushes.holds_up(id) || self.links.any_heavy(room.audience.nodes()) {
            return self.start_bounces(id);
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
        let rows_since = now.before(self.config.window.order_rows_age());
        let TakenBatch { batch, lookup, newcomers } = entry.take_batch(rows_since)?;
        let commit = (!batch.is_empty()).then(|| decide_batch(entry, id, tenure, batch, now)).flatten();
        if !lookup.wanted.is_empty() {
            self.look_up(id, lookup);
        }
        if !newcomers.is_empty() {
            self.prepare(id, newcomers, now);
        }
        commit
    }

    /// Starts only bounces, because under a heavy load only what lessens it goes on. If they waited as well, the load
    /// would never end.
    fn start_bounces(&mut self, id: &RoomId) -> Option<BatchCommit> {
        let entry = self.rooms.get_mut(id)?;
        let owned = self.partitions.get_mut(&entry.partition)?;
        let (own, rest): (Vec<QueuedRequest>, Vec<QueuedRequest>) =
            entry.queue.drain(..).partition(|waiting| matches!(waiting.request.verb, Verb::Bounce { .. }));
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
        Some(BatchCommit { room: id.clone(), tenure: owned.tenure, batch, online: Online::new() })
    }

    fn open(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get(&entry.partition) else { return };
        if self.open_backoff.pause(id, Instant::now()).is_some() {
            self.slowed.insert(id.clone());
            return;
        }
        entry.begin(Stage::Opening);
        let (context, tenure, room, settled) = (self.context.clone(), owned.tenure, id.clone(), owned.settled_for(id));
        let opened = spawned({
            let room = room.clone();
            async move { context.open(tenure, &room, settled).await.map(Box::new) }
        });
        self.start_job(tenure, async move { JobResult::Opened { room, result: opened.await } });
    }

    /// Counts the rooms of those for whom a room is made. Nobody else waits for the room, so the stage may be busy.
    fn count_rooms(&mut self, id: &RoomId, users: Vec<UserId>) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get(&entry.partition) else { return };
        let (context, tenure, room) = (self.context.clone(), owned.tenure, id.clone());
        entry.begin(Stage::Counting);
        // It is a task of its own, because a user may be in thousands of rooms.
        let counts = spawned(async move { Ok(context.count_rooms(users).await) });
        self.start_job(tenure, async move { JobResult::Counted { room, counts: counts.await.unwrap_or_default() } });
    }

    /// Activates a channel: writes the order rows for a durable event, then reads presence behind the barrier.
    pub(super) fn activate(&mut self, id: &RoomId, now: Millis, durable: bool) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        let (tenure, context) = (owned.tenure, self.context.clone());
        let rows = if durable && !mutant(Mutant::OrderRowsOff) { room.order_rows(now) } else { Vec::new() };
        let users = if mutant(Mutant::PresenceReadOff) { Vec::new() } else { room.members.keys().cloned().collect() };
        let (room, rows_at) = (id.clone(), durable.then_some(now));
        entry.begin(Stage::Activating);
        self.start_job(tenure, async move {
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
    let is_durable = || entry.left.is_some() || entry.queue.iter().any(|waiting| makes_event(room, waiting));
    if !room.has_fresh_rows(now, age) && is_durable() {
        return Some(true);
    }
    let is_typing = || {
        entry.queue.iter().any(|QueuedRequest { request, .. }| {
            let is_typing = matches!(request.verb, Verb::Typing);
            is_typing && room.check_may(request.requester(), Action::TakePart).is_ok()
        })
    };
    (!room.active && is_typing()).then_some(false)
}

/// Decides a batch, which is to be committed.
fn decide_batch(
    entry: &mut LiveEntry,
    id: &RoomId,
    tenure: Tenure,
    batch: Vec<QueuedRequest>,
    now: Millis,
) -> Option<BatchCommit> {
    let lookups = entry.take_lookups(&batch);
    entry.begin(Stage::Committing);
    entry.note_full();
    let room = entry.room.as_mut()?;
    let mut batch = room.decide(batch, now, &lookups);
    if batch.is_plain() && !batch.events.is_empty() {
        batch.after.extend(room.head_far_ahead());
    }
    note_active(&mut entry.active_minute, room, &mut batch, now, entry.partition);
    if batch.deletes_room {
        // Before the deletion, since a crash may come right after it. Without it, nobody would remove the rest.
        batch.before.push(Row::Deleted(DeletedRoom { partition: entry.partition, room: room.id.clone(), at: now }));
    }
    let mut online = Online::new();
    if !entry.prepared.is_empty() {
        let (prepared, rows_at) = entry.take_prepared(&mut batch.newcomers);
        online = prepared;
        // The order rows of all members are only as young as the oldest one.
        if let (Some(room), Some(at)) = (entry.room.as_mut(), rows_at) {
            room.rows_at = room.rows_at.map(|others| others.min(at));
        }
    }
    Some(BatchCommit { room: id.clone(), tenure, batch, online })
}

/// Returns whether the request may make a durable event. A request that will be refused activates nothing.
fn makes_event(room: &Room, QueuedRequest { request, .. }: &QueuedRequest) -> bool {
    match request.verb {
        Verb::Send { .. } | Verb::Edit { .. } | Verb::Delete { .. } | Verb::React { .. } | Verb::Change { .. } => {
            room.check_may(request.requester(), Action::TakePart).is_ok()
        }
        Verb::Invite { .. }
        | Verb::Leave { .. }
        | Verb::Kick { .. }
        | Verb::Ban { .. }
        | Verb::Unban { .. }
        | Verb::DeleteRoom { .. }
        | Verb::Role { .. } => room.is_group() && room.check_may(request.requester(), Action::TakePart).is_ok(),
        Verb::Create { .. } => !room.missing_sides(&request.user, &request.verb).is_empty(),
        Verb::Join { .. } => room.may_join(request.requester()),
        _ => false,
    }
}

/// Adds a row to `active_rooms` before a minute's first answer in a room. It records that the room had an event.
fn note_active(noted: &mut u64, room: &Room, batch: &mut Batch, now: Millis, partition: sendpi_model::Partition) {
    let minute = now.minute();
    if !batch.events.is_empty() && *noted != minute {
        *noted = minute;
        batch.events.push(Row::ActiveRoom(ActiveRoom { partition, minute, room: room.id.clone() }));
    }
}
