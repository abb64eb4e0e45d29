//! Requests that are set aside: each waits for a search of the timeline, or until those whom it makes members can find
//! the room. So do all later ones of its user, and of those whom it makes members. The other users' requests go on.

mod search;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use sendpi_bus::presence::Online;
use sendpi_model::rights::Action;
use sendpi_model::{Millis, NodeId, Refusal, RoomId, UserId, Verb, limits};
use tokio::time::Instant;

use super::Executor;
use super::job_result::JobResult;
use super::live_entry::LiveEntry;
use crate::job::{JobError, spawned};
use crate::room::{Lookup, Lookups, QueuedRequest, order_row, request_weight};

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
    /// The preparation of newcomers under way.
    preparation: Option<u64>,
    /// Its newcomers, without those of whom a request was decided since. An attach may have been refused by then.
    preparing: HashSet<UserId>,
}

impl Aside {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn hold(&mut self, user: &UserId) {
        if !self.users.contains(user) {
            self.users.insert(user.clone());
        }
    }

    fn take(&mut self) -> Vec<QueuedRequest> {
        self.users.clear();
        std::mem::take(&mut self.requests)
    }

    /// Takes everything out. The result of what is under way means nothing any more.
    pub(super) fn close(&mut self) -> Vec<QueuedRequest> {
        (self.search, self.preparation) = (None, None);
        self.preparing.clear();
        self.take()
    }
}

/// Where a user is online who is to become a member.
#[derive(Debug)]
pub(super) struct Prepared {
    /// When the write of the user's order row was issued. Presence was read after it was done.
    at: Millis,
    places: Vec<(NodeId, u64)>,
    /// Whether the user may be in one more room.
    has_place: bool,
}

/// What of a room's queue is decided now, and what must be done before the rest of it can be.
#[derive(Debug)]
pub(super) struct TakenBatch {
    pub(super) batch: Vec<QueuedRequest>,
    /// What is to be searched for.
    pub(super) lookup: Lookup,
    /// The users who are to become members, and must be prepared.
    pub(super) newcomers: HashSet<UserId>,
}

/// Returns whether a request may change who can join or invite.
fn opens_doors(verb: &Verb) -> bool {
    match verb {
        Verb::Change { access, .. } => access.is_some(),
        Verb::Role { .. } | Verb::Unban { .. } => true,
        _ => false,
    }
}

impl LiveEntry {
    /// Takes the next batch out of the queue, in order, and sets aside what cannot be decided yet. Order rows from
    /// before `rows_since` are too old. `None` if the room is not open.
    pub(super) fn take_batch(&mut self, rows_since: Millis) -> Option<TakenBatch> {
        let room = self.room.as_ref()?;
        let (mut lookup, mut newcomers, mut bytes) = (room.new_lookup(), HashSet::new(), 0);
        let mut admitted: HashSet<UserId> = HashSet::new();
        let mut batch = Vec::with_capacity(self.queue.len().min(BATCH_REQUESTS));
        // Whether a user who is no member yet may be one when the rest of the batch is decided.
        let mut lets_in = false;
        // Whether who could not join or invite before the batch may be able to now.
        let mut opens = false;
        while batch.len() < BATCH_REQUESTS {
            let Some(QueuedRequest { to, request, .. }) = self.queue.front() else { break };
            let held = to.is_some() && self.aside.users.contains(&request.user);
            let reach = if held { None } else { room.lookup_reach(request, &self.lookups) };
            let target = if held { None } else { room.missing_target(request) };
            let is_missing = reach.is_some() || target.is_some();
            let joins = matches!(request.verb, Verb::Join { .. });
            let is_stranger = is_missing && !joins && room.check_may(request.requester(), Action::TakePart).is_err();
            if is_stranger && lets_in {
                break;
            }
            // Whom a request makes members is prepared by what the room is, and that changes with the batch.
            if opens && (joins || matches!(request.verb, Verb::Invite { .. })) {
                break;
            }
            let comes = if held || is_missing { Vec::new() } else { room.newcomers(request) };
            let is_prepared = |user: &UserId| self.prepared.get(user).is_some_and(|prepared| prepared.at > rows_since);
            let unprepared = !comes.iter().all(is_prepared);
            // Only a stranger's request is refused whatever the timeline holds.
            if held || (is_missing && !is_stranger) || unprepared {
                if let (Some(reach), Some(nonce)) = (reach, request.verb.event_nonce()) {
                    lookup.add(&request.user, nonce, reach);
                }
                lookup.wanted.targets.extend(target.map(|seq| (request.user.clone(), seq)));
                self.aside.hold(&request.user);
                if unprepared {
                    comes.iter().for_each(|user| self.aside.hold(user));
                    newcomers.extend(comes);
                }
                self.aside.requests.extend(self.queue.pop_front());
                continue;
            }
            bytes += request_weight(request);
            if bytes > BATCH_BYTES && !batch.is_empty() {
                break;
            }
            opens |= opens_doors(&request.verb);
            lets_in |= joins || matches!(request.verb, Verb::Invite { .. } | Verb::Create { .. });
            if !comes.is_empty() {
                admitted.extend(comes);
            } else if self.has_newcomers() && !admitted.contains(&request.user) {
                // The user may be told now not to be a member, and would not attach again.
                self.prepared.remove(&request.user);
                self.aside.preparing.remove(&request.user);
            }
            batch.extend(self.queue.pop_front());
        }
        Some(TakenBatch { batch, lookup, newcomers })
    }

    fn has_newcomers(&self) -> bool {
        !self.prepared.is_empty() || !self.aside.preparing.is_empty()
    }

    /// Takes the results of preparations for those whom a batch makes members, who are taken out of `newcomers`. They
    /// count for no later batch, because nothing holds back what these users ask until then.
    pub(super) fn take_prepared(&mut self, newcomers: &mut Vec<UserId>) -> (Online, Option<Millis>) {
        let (mut online, mut rows_at) = (Online::new(), None::<Millis>);
        newcomers.retain(|user| {
            let Some(Prepared { at, places, .. }) = self.prepared.remove(user) else { return true };
            rows_at = Some(rows_at.map_or(at, |earlier| earlier.min(at)));
            online.insert(user.clone(), places);
            false
        });
        self.prepared.retain(|user, _| self.aside.users.contains(user));
        (online, rows_at)
    }

    /// Tells the room which of the prepared newcomers may be in no further room.
    pub(super) fn note_full(&mut self) {
        let Some(room) = &mut self.room else { return };
        for (user, _) in self.prepared.iter().filter(|(_, prepared)| !prepared.has_place) {
            room.note_counted(user.clone(), false);
        }
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

impl Executor {
    /// Prepares newcomers: counts their rooms, writes the order rows of those who may be in one more, so that their
    /// sign-ins find the room, then reads their presence behind the barrier. Until that is done, what they ask is set
    /// aside.
    pub(super) fn prepare(&mut self, id: &RoomId, newcomers: HashSet<UserId>, now: Millis) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let Some(owned) = self.partitions.get(&entry.partition) else { return };
        if newcomers.is_empty() || entry.aside.preparation.is_some() {
            return;
        }
        self.searches += 1;
        let preparation = self.searches;
        entry.aside.preparation = Some(preparation);
        entry.aside.preparing = newcomers.clone();
        let (mut uncounted, began) = (newcomers.clone(), Instant::now());
        uncounted.retain(|user| !self.room_counts.take(user, began));
        let (context, tenure, room) = (self.context.clone(), owned.tenure, id.clone());
        self.start_job(tenure, async move {
            // It is a task of its own, because a user may be in thousands of rooms.
            let counting = context.clone();
            let counts = spawned(async move { Ok(counting.count_rooms(uncounted).await) }).await.unwrap_or_default();
            let mut coming: Vec<UserId> = newcomers.iter().cloned().collect();
            coming.retain(|user| !counts.iter().any(|(full, rooms)| full == user && *rooms >= limits::USER_ROOMS));
            let rows = coming.iter().map(|user| order_row(&room, user, now)).collect();
            let result = context.activate(tenure, rows, coming).await;
            JobResult::Prepared { room, preparation, at: now, newcomers, counts, result }
        });
    }

    /// Receives where newcomers are online, and in how many rooms they are. If presence could not be read, only the
    /// requests that would have made them members are refused.
    pub(super) async fn prepared(
        &mut self,
        id: &RoomId,
        preparation: u64,
        at: Millis,
        (newcomers, counts): (HashSet<UserId>, Vec<(UserId, usize)>),
        result: Result<Online, JobError>,
    ) {
        let mut full = HashSet::new();
        for (user, rooms) in counts {
            if !self.room_counts.note(&user, rooms, Instant::now()) {
                full.insert(user);
            }
        }
        let Some(entry) = self.rooms.get_mut(id).filter(|entry| entry.aside.preparation == Some(preparation)) else {
            return;
        };
        entry.aside.preparation = None;
        match result {
            Ok(mut online) => {
                for user in std::mem::take(&mut entry.aside.preparing) {
                    let places = online.remove(&user).unwrap_or_default();
                    let has_place = !full.contains(&user);
                    entry.prepared.insert(user, Prepared { at, places, has_place });
                }
            }
            Err(JobError::NotOwner(lost)) => return self.lose_partition(lost, Vec::new()).await,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, room = %id, "newcomers could not be prepared");
                let Some(room) = &entry.room else { return };
                entry.aside.preparing.clear();
                let refusal = Refusal::unavailable("presence could not be read", 1000);
                entry.aside.requests.retain(|QueuedRequest { to, request, .. }| {
                    let refused = room.newcomers(request).iter().any(|user| newcomers.contains(user));
                    if let Some(to) = to.as_ref().filter(|_| refused) {
                        self.links.answer(to, &refusal);
                    }
                    !refused
                });
            }
        }
        self.bring_back(id);
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
