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
    pub(super) fn start_rooms(&mut self) {
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
        let slot = self.rooms.get_mut(id)?;
        let owned = self.partitions.get_mut(&slot.partition)?;
        if slot.busy {
            return None;
        }
        let (tenure, context) = (owned.tenure, self.context.clone());
        let Some(room) = &mut slot.room else {
            slot.busy = true;
            let (room, settled) = (id.clone(), owned.settled);
            self.job(async move {
                let result = context.open(tenure, &room, settled).await.map(Box::new);
                JobResult::Opened { room, result }
            });
            return None;
        };
        if slot.queue.is_empty() && slot.unsettled.is_empty() {
            return None;
        }
        if self.owed.count() > OWED_MAX || self.links.any_heavy(room.audience.nodes()) {
            // Only what lessens the load goes on: bounces that this worker owes. Were they to wait as well, nothing would ever end.
            let (owed, rest): (Vec<QueuedRequest>, Vec<QueuedRequest>) =
                slot.queue.drain(..).partition(|waiting| waiting.owed.is_some());
            slot.queue = rest.into();
            if !slot.queue.is_empty() || !slot.unsettled.is_empty() {
                self.slowed.insert(id.clone());
            }
            if owed.is_empty() {
                return None;
            }
            slot.busy = true;
            let batch = room.admit(owed, owned.now(Millis::now()), &slot.lookups);
            return Some(Commit { room: id.clone(), tenure, chain: room.chain.clone(), batch });
        }
        if let Some(lookup) = room.lookup(&slot.queue, &slot.lookups) {
            slot.busy = true;
            let (room, chain) = (id.clone(), room.chain.clone());
            self.job(async move {
                let result = context.look_up(tenure, &room, &chain, lookup).await;
                JobResult::LookedUp { room, result }
            });
            return None;
        }
        let now = owned.now(Millis::now());
        if let Some(durable) = activation(slot, now, self.config.order_rows_age) {
            self.activate(id, now, durable);
            return None;
        }
        let slot = self.rooms.get_mut(id)?;
        let room = slot.room.as_mut()?;
        slot.busy = true;
        let waiting = take_batch(slot.queue.make_contiguous()).min(slot.queue.len());
        let waiting: Vec<QueuedRequest> = slot.queue.drain(..waiting).collect();
        let lookups = std::mem::take(&mut slot.lookups);
        let mut batch = room.admit(waiting, now, &lookups);
        note_active(&mut slot.active_minute, room, &mut batch, now, slot.partition);
        Some(Commit { room: id.clone(), tenure, chain: room.chain.clone(), batch })
    }

    /// Activates a channel: order rows for a durable event, then presence behind the barrier.
    fn activate(&mut self, id: &RoomId, now: Millis, durable: bool) {
        let Some(slot) = self.rooms.get_mut(id) else { return };
        let (Some(room), Some(owned)) = (&slot.room, self.partitions.get(&slot.partition)) else { return };
        slot.busy = true;
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
fn activation(slot: &LiveEntry, now: Millis, age: Duration) -> Option<bool> {
    let room = slot.room.as_ref()?;
    if room.members.is_empty() {
        return None;
    }
    let durable = !slot.unsettled.is_empty() || slot.queue.iter().any(|waiting| makes_event(room, waiting));
    if durable && !room.has_fresh_rows(now, age) {
        return Some(true);
    }
    let typing = slot.queue.iter().any(|QueuedRequest { request, .. }| {
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

fn take_batch(queue: &[QueuedRequest]) -> usize {
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
