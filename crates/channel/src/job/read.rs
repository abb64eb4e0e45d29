//! Reads of a room's older events, which always pass the fence.

use sendpi_model::{Event, RoomId, UserId, limits};
use sendpi_store::{EpochChain, ReadError};

use super::{JobContext, JobError};
use crate::dispatch::ReadResult;
use crate::room::{BatchRead, Lookup, Lookups, PageRequest, page_frame};
use crate::tenure::Tenure;

/// The most rows of one read.
const PAGE: usize = 1_000;

impl JobContext {
    /// Reads what a batch asks for. If the store does not answer, this one request is refused, and not the batch.
    pub(crate) async fn read(
        &self,
        tenure: Tenure,
        room: &RoomId,
        chain: &EpochChain,
        read: &BatchRead,
    ) -> Result<ReadResult, JobError> {
        let result = match read {
            BatchRead::Page(page) => self.page(room, chain, *page).await.map(|frame| ReadResult::Frame(frame.into())),
            BatchRead::Event(seq) => self.event(room, chain, *seq).await.map(ReadResult::Event),
            BatchRead::Members { cursor, limit } => return Ok(self.members(room, cursor.clone(), *limit).await),
        };
        // The rows may be void if the owner was overtaken while it read.
        self.pass_fence(tenure).await?;
        Ok(result.unwrap_or_else(|error| {
            tracing::warn!(%error, %room, "a read failed");
            ReadResult::Unavailable
        }))
    }

    async fn page(&self, room: &RoomId, chain: &EpochChain, page: PageRequest) -> Result<Vec<u8>, ReadError> {
        let mut events: Vec<Event> = Vec::new();
        let most = page.most_events() + 1;
        let (mut low, mut high) = (page.after.map_or(1, |after| after.saturating_add(1)), u64::MAX);
        if let Some(before) = page.before {
            high = before.saturating_sub(1);
        }
        let newest = page.after.is_none();
        // Void rows take up places too, so the loop reads on until the page is full or the timeline ends.
        while events.len() < most && low <= high {
            let rows = self.store.timeline(room, low..=high, PAGE, newest).await?;
            let ended = rows.len() < PAGE;
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
                high = if ended { 0 } else { edge };
            } else {
                low = if ended { u64::MAX } else { edge };
            }
            events.extend(found);
            if ended {
                break;
            }
        }
        let (chosen, full) = page.fill(events.iter());
        Ok(page_frame(room, &chosen, full))
    }

    async fn event(&self, room: &RoomId, chain: &EpochChain, seq: u64) -> Result<Option<Event>, ReadError> {
        let rows = self.store.timeline(room, seq..=seq, PAGE, false).await?;
        Ok(chain.filter(rows).into_iter().next().map(|row| row.event))
    }

    async fn members(&self, room: &RoomId, cursor: Option<UserId>, limit: usize) -> ReadResult {
        let Ok(members) = self.store.members(room).await else { return ReadResult::Unavailable };
        let after = |user: &UserId| cursor.as_ref().is_none_or(|cursor| user > cursor);
        let users = members.into_iter().map(|member| member.user).filter(after).take(limit).collect();
        match self.online(users).await {
            Ok(online) => ReadResult::Online { cursor, limit, online },
            Err(_) => ReadResult::Unavailable,
        }
    }

    /// Looks for nonces, newest first.
    pub(crate) async fn look_up(
        &self,
        tenure: Tenure,
        room: &RoomId,
        chain: &EpochChain,
        lookup: Lookup,
    ) -> Result<Lookups, JobError> {
        let (mut found, mut to) = (Lookups::new(), lookup.to);
        while to >= lookup.from && found.len() < lookup.wanted.len() {
            let from = to.saturating_sub(PAGE as u64 - 1).max(lookup.from);
            let rows = self.store.timeline(room, from..=to, usize::MAX, false).await?;
            let events: Vec<Event> = chain.filter(rows).into_iter().map(|row| row.event).collect();
            lookup.learn(&events, &mut found);
            let older = events.first().is_some_and(|event| lookup.since.is_some_and(|since| event.head.at < since));
            if older || from == 1 {
                break;
            }
            to = from - 1;
        }
        self.pass_fence(tenure).await?;
        Ok(lookup.finish(found))
    }

    /// Counts the rooms of users. A user whose rows cannot be read now counts as having none: the write of the join
    /// shows whether the store works.
    pub(crate) async fn count_rooms(&self, users: Vec<UserId>) -> Vec<(UserId, usize)> {
        let mut counts = Vec::with_capacity(users.len());
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
            if let Some(row) = self.store.room(&room).await? {
                heads.push((room, row.head.seq));
            }
        }
        self.pass_fence(tenure).await?;
        Ok(heads)
    }
}
