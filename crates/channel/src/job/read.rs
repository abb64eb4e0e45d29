//! Reads of a room's older events, which always pass the fence.

use std::collections::HashMap;

use bytes::Bytes;
use sendpi_model::server_frame::{OkAnswer, OpFrame};
use sendpi_model::{Event, Head, Mark, Millis, Role, RoomId, UserId, limits};
use sendpi_store::{EpochChain, ReadError};

use super::{JobContext, JobError};
use crate::room::{
    Found, Lookup, Lookups, PageRequest, ReadKind, RoomRead, TargetEvent, info_of_rows, members_answer, page_frame,
};
use crate::tenure::Tenure;

/// The most rows of one read.
const PAGE: usize = 1_000;

/// What the room in memory knows of an answer already.
#[derive(Debug)]
pub(crate) enum FromMemory {
    /// Nothing.
    Nothing,
    /// The whole answer.
    Frame(Vec<u8>),
    /// The events of a page, oldest first, and whether more follow.
    Page(Vec<Bytes>, bool),
    /// The seq of the room, with the members of a page and the one after them. Who is online is to be read.
    Members(u64, Vec<(UserId, Role)>),
}

impl JobContext {
    /// Returns the answer to what a user asked of a room.
    pub(crate) async fn answer(
        self,
        tenure: Tenure,
        asked: &RoomRead,
        memory: FromMemory,
    ) -> Result<Vec<u8>, JobError> {
        let RoomRead { room, user, is_service, kind, .. } = asked;
        let frame = match (kind, memory) {
            (_, FromMemory::Frame(frame)) => frame,
            (_, FromMemory::Page(events, more)) => page_frame(room, &events, more),
            (ReadKind::Page { page, chain, dispatched }, _) => self.page(room, chain, *page, *dispatched).await?,
            (ReadKind::Mark { seq, chain, head }, _) => {
                OkAnswer::marker(self.mark(room, chain, *seq, *head).await?).to_frame()
            }
            (ReadKind::Members { cursor, limit, .. }, memory) => {
                let (seq, members) = match memory {
                    FromMemory::Members(seq, members) => (seq, members),
                    // The room may have been evicted meanwhile, so that its rows are up to date.
                    _ => {
                        let seq = self.store.room(room).await?.map_or(0, |row| row.head.seq);
                        (seq, self.members(room, cursor.as_ref(), *limit).await?)
                    }
                };
                let users = members.iter().take(*limit).map(|(user, _)| user.clone()).collect();
                let online = self.online(users).await?;
                members_answer(room, seq, members, *limit, |user| online.contains_key(user)).to_frame()
            }
            (ReadKind::Peek, _) => {
                let (row, member) = (self.store.room(room).await?, self.store.member(room, user).await?);
                let row = row.map(|row| row.without_expired(self.retention_days, Millis::now()));
                match info_of_rows(room, row, member, *is_service) {
                    Ok(info) => OkAnswer::room(info, false, false).to_frame(),
                    Err(refusal) => refusal.to_frame(),
                }
            }
            (ReadKind::Detach, _) => OkAnswer::default().to_frame(),
        };
        // The rows may be void if the owner was overtaken while it read.
        self.pass_fence(tenure).await?;
        Ok(frame)
    }

    /// Reads a page of the timeline that ends at `dispatched` or before.
    async fn page(
        &self,
        room: &RoomId,
        chain: &EpochChain,
        page: PageRequest,
        dispatched: u64,
    ) -> Result<Vec<u8>, ReadError> {
        let mut events: Vec<Event> = Vec::new();
        let (mut low, mut high) = (page.after.map_or(1, |after| after.saturating_add(1)), dispatched);
        if let Some(before) = page.before {
            high = high.min(before.saturating_sub(1));
        }
        let newest = page.after.is_none();
        // Most pages hold messages and little else. One event more tells whether there are more.
        let mut rows_at_once = page.limit + 2;
        // Void rows take up places too, so the loop reads on until the page is full or the timeline ends.
        while low <= high && !page.fill(events.iter()).1 {
            let rows = self.store.timeline(room, low..=high, rows_at_once, newest).await?;
            let ended = rows.len() < rows_at_once;
            rows_at_once = (rows_at_once * 2).min(PAGE);
            let Some(edge) = (if newest { rows.first() } else { rows.last() }).map(|row| row.event.head.seq) else {
                break;
            };
            let mut found: Vec<Event> = chain.filter(rows).into_iter().map(|row| row.event).collect();
            // The last seq that was read may have further rows, so it is read again unless the timeline has ended.
            if !ended {
                found.retain(|event| event.head.seq != edge);
            }
            if newest {
                found.reverse();
                high = edge;
            } else {
                low = edge;
            }
            events.extend(found);
            if ended {
                break;
            }
        }
        let (chosen, full) = page.fill(events.iter());
        let frames: Vec<Bytes> = chosen.into_iter().map(|event| event.frame.clone()).collect();
        Ok(page_frame(room, &frames, full))
    }

    pub(super) async fn event(&self, room: &RoomId, chain: &EpochChain, seq: u64) -> Result<Option<Event>, ReadError> {
        let rows = self.store.timeline(room, seq..=seq, PAGE, false).await?;
        Ok(chain.filter(rows).into_iter().next().map(|row| row.event))
    }

    /// Returns the count at a seq. If the event has expired, it is what lies before the next one that is there: nobody
    /// can read what is between them.
    async fn mark(&self, room: &RoomId, chain: &EpochChain, seq: u64, head: Head) -> Result<Mark, ReadError> {
        if let Some(event) = self.event(room, chain, seq).await? {
            return Ok(Mark { seq, count: event.head.count });
        }
        let next = self.store.timeline(room, seq..=head.seq, PAGE, false).await?;
        let next = chain.filter(next).into_iter().next().map(|row| row.event);
        let count = next.map_or(head.count, |next| next.head.count - u64::from(next.kind.is_counted()));
        Ok(Mark { seq, count })
    }

    async fn members(
        &self,
        room: &RoomId,
        cursor: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Role)>, ReadError> {
        let (mut members, mut cursor) = (Vec::new(), cursor.cloned());
        // Those who are banned are rows too.
        while members.len() <= limit {
            let page = self.store.members(room, cursor.as_ref(), limit + 1).await?;
            let Some(last) = page.last() else { break };
            cursor = Some(last.user.clone());
            members.extend(page.into_iter().filter_map(|row| Some((row.user, row.role?))));
        }
        members.truncate(limit + 1);
        Ok(members)
    }

    /// Looks for nonces, newest first, and reads the messages that requests are about.
    pub(crate) async fn look_up(
        &self,
        tenure: Tenure,
        room: &RoomId,
        chain: &EpochChain,
        lookup: Lookup,
    ) -> Result<Found, JobError> {
        // The semaphore is never closed.
        let _turn = self.lookups.acquire().await;
        let lowest = if lookup.reach.since.is_some() { lookup.farthest } else { lookup.reach.from };
        let mut targets = HashMap::new();
        for seq in lookup.wanted.targets.iter().map(|(_, seq)| *seq) {
            let event = self.event(room, chain, seq).await?;
            targets.insert(seq, TargetEvent { event, as_of: lookup.as_of });
        }
        let (mut found, mut from) = (Lookups::new(), lookup.to.saturating_add(1));
        while from > lowest && found.len() < lookup.wanted.nonces.len() {
            let to = from - 1;
            from = to.saturating_sub(PAGE as u64 - 1).max(lowest);
            let rows = self.store.nonces(room, from..=to).await?;
            lookup.learn(rows.into_iter().filter(|row| chain.counts(row.head.seq, row.epoch)), &mut found);
            let at = match lookup.reach.since {
                Some(_) => self.event(room, chain, from).await?.map(|event| event.head.at),
                None => None,
            };
            if lookup.reached(from, at) {
                break;
            }
        }
        // What lies before the first event that is there has expired.
        let mut kept = 0;
        if found.len() < lookup.wanted.nonces.len() {
            let first = self.store.timeline(room, from..=lookup.to, 1, false).await?;
            kept = first.first().map_or(lookup.to.saturating_add(1), |row| row.event.head.seq);
        }
        self.pass_fence(tenure).await?;
        Ok(Found { nonces: lookup.finish(found, (from, kept)), targets })
    }

    /// Counts the rooms of users. A user whose rows cannot be read now counts as having none: the write of the join
    /// shows whether the store works.
    pub(crate) async fn count_rooms(&self, users: impl IntoIterator<Item = UserId>) -> Vec<(UserId, usize)> {
        let mut counts = Vec::new();
        for user in users {
            let rooms = self.store.count_rooms_of_user(&user, limits::USER_ROOMS).await.unwrap_or_default();
            counts.push((user, rooms));
        }
        counts
    }

    /// Returns the heads of rooms that are not live, from their rows. These were brought up to date when the room was
    /// last evicted.
    pub(crate) async fn heads(&self, tenure: Tenure, rooms: Vec<RoomId>) -> Result<Vec<(RoomId, u64)>, JobError> {
        let mut heads = Vec::with_capacity(rooms.len());
        for room in rooms {
            match self.store.room(&room).await {
                Ok(row) => heads.extend(row.map(|row| (room, row.head.seq))),
                // The others' heads are told. If the store answers nothing at all, neither does the fence.
                Err(error) => tracing::warn!(%error, %room, "a head could not be read"),
            }
        }
        self.pass_fence(tenure).await?;
        Ok(heads)
    }
}
