//! Requests that are set aside: each waits for a search of the timeline, and so do all later ones of its user. The
//! other users' requests go on.

use std::collections::HashSet;

use sendpi_model::{Nonce, Refusal, RoomId, UserId, Verb};

use super::Executor;
use super::live_entry::LiveEntry;
use super::results::JobResult;
use crate::job::{JobError, spawned};
use crate::room::{Lookup, Lookups, QueuedRequest, request_weight};

/// The most requests of one batch.
const BATCH_REQUESTS: usize = 1_000;
/// The most bytes that the requests of one batch cost. A batch is at most 1 MiB in the store.
const BATCH_BYTES: usize = 768 * 1024;

/// The requests of one room that are set aside, in order.
#[derive(Debug, Default)]
pub(super) struct Aside {
    requests: Vec<QueuedRequest>,
    users: HashSet<UserId>,
    /// The search under way.
    search: Option<u64>,
}

impl Aside {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn add(&mut self, waiting: QueuedRequest) {
        if !self.users.contains(&waiting.request.user) {
            self.users.insert(waiting.request.user.clone());
        }
        self.requests.push(waiting);
    }

    /// Takes everything out. The result of a search that is under way means nothing any more.
    pub(super) fn take(&mut self) -> Vec<QueuedRequest> {
        self.users.clear();
        self.search = None;
        std::mem::take(&mut self.requests)
    }
}

/// What of a room's queue is decided now, and what must be searched for before the rest of it can be.
#[derive(Debug)]
pub(super) struct TakenBatch {
    pub(super) batch: Vec<QueuedRequest>,
    pub(super) lookup: Lookup,
}

impl LiveEntry {
    /// Takes the next batch out of the queue, in order, and sets aside what cannot be decided yet. `None` if the room
    /// is not open.
    pub(super) fn take_batch(&mut self) -> Option<TakenBatch> {
        let room = self.room.as_ref()?;
        let (mut lookup, mut bytes) = (room.new_lookup(), 0);
        let mut batch = Vec::with_capacity(self.queue.len().min(BATCH_REQUESTS));
        // Whether a user who is no member yet may be one when the rest of the batch is decided.
        let mut lets_in = false;
        while batch.len() < BATCH_REQUESTS {
            let Some(QueuedRequest { to, request, .. }) = self.queue.front() else { break };
            let held = to.is_some() && self.aside.users.contains(&request.user);
            let reach = if held { None } else { room.lookup_reach(request, &self.lookups) };
            let joins = matches!(request.verb, Verb::Join { .. });
            let is_stranger = reach.is_some() && !joins && !room.members.contains_key(&request.user);
            if is_stranger && lets_in {
                break;
            }
            // Only a stranger's request is refused whatever the timeline holds.
            if held || (reach.is_some() && !is_stranger) {
                if let (Some(reach), Some(nonce)) = (reach, request.verb.event_nonce()) {
                    lookup.add(&request.user, nonce, reach);
                }
                if let Some(waiting) = self.queue.pop_front() {
                    self.aside.add(waiting);
                }
                continue;
            }
            bytes += request_weight(request);
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            lets_in |= joins || matches!(request.verb, Verb::Invite { .. } | Verb::Create { .. });
            batch.extend(self.queue.pop_front());
        }
        Some(TakenBatch { batch, lookup })
    }

    /// Takes the results of look-ups that these requests need.
    pub(super) fn take_lookups(&mut self, batch: &[QueuedRequest]) -> Lookups {
        if self.lookups.is_empty() {
            return Lookups::new();
        }
        let keys = batch.iter().filter_map(|QueuedRequest { request, .. }| {
            Some((request.user.clone(), request.verb.event_nonce()?.clone()))
        });
        keys.filter_map(|key| self.lookups.remove_entry(&key)).collect()
    }

    /// Puts the requests that were set aside back in front of the queue.
    fn bring_back(&mut self, requests: Vec<QueuedRequest>) {
        for waiting in requests.into_iter().rev() {
            self.queue.push_front(waiting);
        }
    }
}

/// The senders and nonces that a search looks for.
pub(super) type WantedNonces = HashSet<(UserId, Nonce)>;

impl Executor {
    /// Starts the search for what was set aside, unless one is under way in the room. Each user has one at a time,
    /// whatever the room.
    pub(super) fn look_up(&mut self, id: &RoomId, mut lookup: Lookup) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if entry.aside.search.is_some() {
            return;
        }
        lookup.wanted.retain(|(user, _)| !self.searching.contains(user));
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        if lookup.wanted.is_empty() {
            self.search_later.insert(id.clone());
            return;
        }
        self.searches += 1;
        let search = self.searches;
        entry.aside.search = Some(search);
        self.searching.extend(lookup.wanted.iter().map(|(user, _)| user.clone()));
        let (context, tenure, chain, room) = (self.context.clone(), owned.tenure, room.chain.clone(), id.clone());
        let wanted = lookup.wanted.clone();
        let found = spawned({
            let room = room.clone();
            async move { context.look_up(tenure, &room, &chain, lookup).await }
        });
        self.start_job(async move { JobResult::LookedUp { room, search, wanted, result: found.await } });
    }

    /// Receives the result of a search. If the store did not answer it, the requests that need it are refused.
    pub(super) async fn looked_up(
        &mut self,
        id: &RoomId,
        search: u64,
        wanted: WantedNonces,
        result: Result<Lookups, JobError>,
    ) {
        for (user, _) in &wanted {
            self.searching.remove(user);
        }
        for room in std::mem::take(&mut self.search_later) {
            if self.rooms.get(&room).is_some_and(|entry| entry.aside.search.is_none()) {
                self.bring_back(&room);
            }
        }
        if self.rooms.get(id).is_none_or(|entry| entry.aside.search != Some(search)) {
            return;
        }
        match result {
            Ok(found) => {
                if let Some(entry) = self.rooms.get_mut(id) {
                    entry.lookups.extend(found);
                }
            }
            Err(JobError::NotOwner(lost)) => return self.lose_partition(lost, Vec::new()).await,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, room = %id, "nonces could not be looked for");
                self.refuse_aside(id, &wanted);
            }
        }
        self.bring_back(id);
    }

    fn refuse_aside(&mut self, id: &RoomId, wanted: &WantedNonces) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let refusal = Refusal::unavailable("the store did not answer", 1000);
        entry.aside.requests.retain(|QueuedRequest { to, request, .. }| {
            let nonce = request.verb.event_nonce().cloned();
            let refused = nonce.is_some_and(|nonce| wanted.contains(&(request.user.clone(), nonce)));
            if let Some(to) = to.as_ref().filter(|_| refused) {
                self.links.answer(to, &refusal);
            }
            !refused
        });
    }

    /// Brings back what a room has set aside. What still needs a search is set aside again.
    fn bring_back(&mut self, id: &RoomId) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let requests = entry.aside.take();
        entry.bring_back(requests);
        if !entry.is_busy() && entry.room.is_some() {
            self.continue_room(id);
        }
    }
}

#[cfg(test)]
mod tests;
