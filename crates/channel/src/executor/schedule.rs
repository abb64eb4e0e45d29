//! A round: every room that has something to do gets its next job.

use std::time::Duration;

use sendpi_model::faults::{Mutant, mutant};
use sendpi_model::{Millis, RoomId, Verb};
use sendpi_store::{ActiveRoom, Row, minute};

use super::{Executor, LiveEntry, OWED_MAX};
use crate::job::{Commit, JobResult};
use crate::room::{Batch, QueuedRequest, Room};

/// Requests of one batch.
const BATCH_REQUESTS: usize = 1_000;
/// Bodies of one batch, in bytes: a batch is at most 1 MiB in the store.
const BATCH_BYTES: usize = 768 * 1024;

impl Executor {
    /// Starts what can be started.
    pub(super) fn start_ready_rooms(&mut self) {
        let mut plain = Vec::new();
        for id in std::mem::take(&mut self.ready) {
            if let Some(commit) = self.start_room(&id) {
                if commit.batch.is_plain() {
                    plain.push(commit);
                } else {
                    let context = self.context.clone();
                    self.job(context.commit(commit));
                }
            }
        }
        if !plain.is_empty() {
            let context = self.context.clone();
            self.job(context.commit_plain(plain));
        }
    }

    /// Gives a room its next job; a batch is given back, to be committed with those of other rooms.
    fn start_room(&mut self, id: &RoomId) -> Option<Commit> {
        let entry = self.rooms.get_mut(id)?;
        let owned = self.partitions.get_mut(&entry.partition)?;
        if entry.busy {
            return None;
        }
        let (tenure, context) = (owned.tenure, self.context.clone());
        let Some(room) = &mut entry.room else {
            entry.busy = true;
            let (room, settled) = (id.clone(), owned.settled);
            self.job(async move {
                let result = context.open(tenure, &room, settled).await.map(Box::new);
                JobResult::Opened { room, result }
            });
            return None;
        };
        if entry.queue.is_empty() && entry.unsettled.is_empty() {
            return None;
        }
        if self.owed.count() > OWED_MAX || self.links.any_heavy(room.audience.nodes()) {
            // Only what lessens the load goes on: bounces that this worker owes. Were they to wait as well, nothing would ever end.
            let (owed, rest): (Vec<QueuedRequest>, Vec<QueuedRequest>) =
                entry.queue.drain(..).partition(|waiting| waiting.owed.is_some());
            entry.queue = rest.into();
            if !entry.queue.is_empty() || !entry.unsettled.is_empty() {
                self.slowed.insert(id.clone());
            }
            if owed.is_empty() {
                return None;
            }
            entry.busy = true;
            let batch = room.decide(owed, owned.now(Millis::now()), &entry.lookups);
            return Some(Commit { room: id.clone(), tenure, chain: room.chain.clone(), batch });
        }
        if let Some(lookup) = room.lookup(&entry.queue, &entry.lookups) {
            entry.busy = true;
            let (room, chain) = (id.clone(), room.chain.clone());
            self.job(async move {
                let result = context.look_up(tenure, &room, &chain, lookup).await;
                JobResult::LookedUp { room, result }
            });
            return None;
        }
        let now = owned.now(Millis::now());
        if let Some(durable) = activation(entry, now, self.config.window.order_rows_age()) {
            self.activate(id, now, durable);
            return None;
        }
        let entry = self.rooms.get_mut(id)?;
        let room = entry.room.as_mut()?;
        entry.busy = true;
        let waiting = batch_length(entry.queue.make_contiguous()).min(entry.queue.len());
        let waiting: Vec<QueuedRequest> = entry.queue.drain(..waiting).collect();
        let lookups = std::mem::take(&mut entry.lookups);
        let mut batch = room.decide(waiting, now, &lookups);
        note_active(&mut entry.active_minute, room, &mut batch, now, entry.partition);
        Some(Commit { room: id.clone(), tenure, chain: room.chain.clone(), batch })
    }

    /// Activates a channel: order rows for a durable event, then presence behind the barrier.
    fn activate(&mut self, id: &RoomId, now: Millis, durable: bool) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        entry.busy = true;
        let (tenure, context) = (owned.tenure, self.context.clone());
        let rows = if durable && !mutant(Mutant::OrderRowsOff) { room.order_rows(now) } else { Vec::new() };
        let users = if mutant(Mutant::PresenceReadOff) { Vec::new() } else { room.members.keys().cloned().collect() };
        let (room, rows_at) = (id.clone(), durable.then_some(now));
        self.job(async move {
            let result = context.activate(tenure, rows, users).await;
            JobResult::Activated { room, rows_at, result }
        });
    }
}

/// Whether the room must be activated before it takes what waits: for a durable event with order rows, for typing without.
fn activation(entry: &LiveEntry, now: Millis, age: Duration) -> Option<bool> {
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

/// Whether the request may make a durable event. What is refused anyhow activates nothing.
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

/// Before a minute's first answer in a room, `active_rooms` tells that something went on there.
fn note_active(noted: &mut u64, room: &Room, batch: &mut Batch, now: Millis, partition: sendpi_model::Partition) {
    let minute = minute(now);
    if !batch.events.is_empty() && *noted != minute {
        *noted = minute;
        batch.events.push(Row::ActiveRoom(ActiveRoom { partition, minute, room: room.id.clone() }));
    }
}
