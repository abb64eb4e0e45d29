//! Searches of the timeline for what requests need that are set aside.

use sendpi_model::{Refusal, RoomId};

use crate::executor::Executor;
use crate::executor::job_result::JobResult;
use crate::job::{JobError, spawned};
use crate::room::{Found, Lookup, QueuedRequest, Wanted, add_lookups};

impl Executor {
    /// Starts the search for what was set aside, unless one is under way in the room. Each user has one at a time,
    /// whatever the room.
    pub(in crate::executor) fn look_up(&mut self, id: &RoomId, mut lookup: Lookup) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        if entry.aside.search.is_some() {
            return;
        }
        lookup.wanted.retain(|user| !self.searching.contains(user));
        let (Some(room), Some(owned)) = (&entry.room, self.partitions.get(&entry.partition)) else { return };
        if lookup.wanted.is_empty() {
            self.search_later.insert(id.clone());
            return;
        }
        self.searches += 1;
        let search = self.searches;
        entry.aside.search = Some(search);
        self.searching.extend(lookup.wanted.users().cloned());
        let (context, tenure, chain, room) = (self.context.clone(), owned.tenure, room.chain.clone(), id.clone());
        let wanted = lookup.wanted.clone();
        let found = spawned({
            let room = room.clone();
            async move { context.look_up(tenure, &room, &chain, lookup).await }
        });
        self.start_job(tenure, async move { JobResult::LookedUp { room, search, wanted, result: found.await } });
    }

    /// Notes that a search is over, whatever it found. Rooms that waited for its users go on.
    pub(in crate::executor) fn search_ended(&mut self, wanted: &Wanted) {
        for user in wanted.users() {
            self.searching.remove(user);
        }
        for room in std::mem::take(&mut self.search_later) {
            if self.rooms.get(&room).is_some_and(|entry| entry.aside.search.is_none()) {
                self.bring_back(&room);
            }
        }
    }

    /// Receives the result of a search. If the store did not answer it, the requests that need it are refused.
    pub(in crate::executor) async fn looked_up(
        &mut self,
        id: &RoomId,
        search: u64,
        wanted: Wanted,
        result: Result<Found, JobError>,
    ) {
        self.search_ended(&wanted);
        let Some(entry) = self.rooms.get_mut(id).filter(|entry| entry.aside.search == Some(search)) else { return };
        entry.aside.search = None;
        match result {
            Ok(Found { nonces, targets }) => {
                add_lookups(&mut entry.lookups, nonces);
                let Some(room) = &mut entry.room else { return };
                targets.into_iter().for_each(|(seq, target)| room.note_target(seq, target));
            }
            Err(JobError::NotOwner(lost)) => return self.lose_partition(lost, Vec::new()).await,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, room = %id, "the timeline could not be searched");
                self.refuse_aside(id, &wanted);
            }
        }
        self.bring_back(id);
    }

    fn refuse_aside(&mut self, id: &RoomId, wanted: &Wanted) {
        let Some(entry) = self.rooms.get_mut(id) else { return };
        let refusal = Refusal::unavailable("the store did not answer", 1000);
        entry.aside.requests.retain(|QueuedRequest { to, request, .. }| {
            let refused = wanted.is_for(request);
            if let Some(to) = to.as_ref().filter(|_| refused) {
                self.links.answer(to, &refusal);
            }
            !refused
        });
    }
}
