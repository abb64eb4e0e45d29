//! Opening a room: its starts and its tail are read, its own start under this epoch is written, and the fence is
//! passed.

use futures_util::future::try_join_all;
use sendpi_model::faults::{FreezePoint, freeze_point};
use sendpi_model::{Event, Head, MessageRevision, RoomId, RoomKind};
use sendpi_store::{EpochChain, EventRow, PushedRow, ReadError, Row, SettledRow, Start, TIMELINE_BUCKET};

use super::{JobContext, JobError};
use crate::room::{StoredRoom, cut_at_hole, is_settled, tail_from};
use crate::tenure::Tenure;

/// The most rows of one read.
const PAGE: usize = 1_000;
/// The search for the first unsettled event looks at most this far back behind the tail: a power of two.
const UNSETTLED_MAX: u64 = 1 << 17;
/// How many events one round of that search reads, at one time.
const PROBES: u64 = 16;

/// The result of opening a room.
#[derive(Debug)]
pub(crate) struct OpenedRoom {
    pub(crate) stored: StoredRoom,
    /// The events of the tail that an earlier owner may not have dispatched to everybody.
    pub(crate) left: Option<LeftEvents>,
    /// What of them the earlier owner pushed.
    pub(crate) pushed: Option<PushedRow>,
}

/// The events that an earlier owner may not have dispatched to everybody. They are the newest of the room.
#[derive(Debug)]
pub(crate) struct LeftEvents {
    /// The head of the first one.
    pub(crate) first: Head,
    /// The last one. It is dispatched again for all of them: a node that misses any reads them.
    pub(crate) last: Event,
}

impl JobContext {
    pub(crate) async fn open(
        &self,
        tenure: Tenure,
        room: &RoomId,
        settled: Option<SettledRow>,
    ) -> Result<OpenedRoom, JobError> {
        let (row, mut chain, members, pushed) = tokio::try_join!(
            self.store.room(room),
            self.store.chain(room),
            self.store.all_members(room),
            self.store.pushed(room)
        )?;
        if row.is_none() && chain.newest().is_none() {
            self.pass_fence(tenure).await?;
            return Ok(OpenedRoom { stored: StoredRoom::default(), left: None, pushed: None });
        }
        let head_row = row.as_ref().map_or(0, |row| row.head.seq);
        if chain.newest().is_some_and(|newest| newest.epoch > tenure.epoch) {
            // Its owner raised the fence before.
            return Err(JobError::NotOwner(tenure.partition));
        }
        let tail = self.read_up(room, &chain, tail_from(head_row), head_row).await?;
        let mut tail = cut_at_hole(tail.into_iter().map(|row| (row.epoch, row.event)).collect(), head_row);
        // Nobody writes into a group any more that was deleted.
        let is_over = row.as_ref().is_some_and(|row| row.deleted && row.kind == RoomKind::Group);
        let last = tail.last().map_or(head_row, |(_, event)| event.head.seq.max(head_row));
        let begins = !chain.has(tenure.epoch) && !is_over;
        let start = Start { epoch: tenure.epoch, next_seq: last + 1, continues: chain.continued_at(last + 1) };
        let left = async { Ok(self.left_events(room, &chain, &tail, settled.as_ref()).await?) };
        let ((), left) = tokio::try_join!(self.begin(tenure, room, begins.then_some(start)), left)?;
        if begins {
            chain.begin(start);
        }
        let revised = self.revise_again(tenure, room, &chain, head_row, &mut tail).await?;
        let pushed = pushed.filter(|_| left.is_some());
        Ok(OpenedRoom { stored: StoredRoom { row, members, chain, tail, revised }, left, pushed })
    }

    /// Writes the start of a room under this epoch, if there is none, and then passes the fence.
    async fn begin(&self, tenure: Tenure, room: &RoomId, start: Option<Start>) -> Result<(), JobError> {
        if let Some(start) = start {
            freeze_point(FreezePoint::BeforeStart, room);
            self.write(tenure, vec![Row::Start(room.clone(), start)]).await?;
        }
        self.pass_fence(tenure).await
    }

    /// Overwrites the messages that events after the head row edited or deleted, as far as a crash may have come before
    /// their rows were written. Those of the tail are revised in place. Returns those that are before it.
    async fn revise_again(
        &self,
        tenure: Tenure,
        room: &RoomId,
        chain: &EpochChain,
        head_row: u64,
        tail: &mut [(u64, Event)],
    ) -> Result<Vec<Event>, JobError> {
        let later = tail.iter().filter(|(_, event)| event.head.seq > head_row);
        let revisions: Vec<MessageRevision> = later.filter_map(|(_, event)| event.revision()).collect();
        let (mut rows, mut before) = (Vec::new(), Vec::new());
        for revision in revisions {
            let Some(message) = self.event_of(room, chain, tail, &before, revision.target).await? else { continue };
            let edit = match message.edited_by().filter(|seq| *seq != revision.by) {
                Some(seq) => self.event_of(room, chain, tail, &before, seq).await?,
                None => None,
            };
            for event in [edit, Some(message)].into_iter().flatten() {
                let seq = event.head.seq;
                let (Some(event), Some(epoch)) = (event.revised(&revision), chain.epoch_of(seq)) else { continue };
                let revised = EventRow { epoch, event: event.clone(), expires: None };
                rows.push(Row::Revised(room.clone(), revised, revision.by));
                match tail.binary_search_by_key(&seq, |(_, event)| event.head.seq) {
                    Ok(at) => tail[at].1 = event,
                    Err(_) => {
                        before.retain(|known: &Event| known.head.seq != seq);
                        before.push(event);
                    }
                }
            }
        }
        let rows = self.keep_times(rows).await?;
        self.write(tenure, rows).await?;
        Ok(before)
    }

    /// Returns the event at `seq`: from the tail, from `before`, or from the store.
    async fn event_of(
        &self,
        room: &RoomId,
        chain: &EpochChain,
        tail: &[(u64, Event)],
        before: &[Event],
        seq: u64,
    ) -> Result<Option<Event>, JobError> {
        if let Ok(at) = tail.binary_search_by_key(&seq, |(_, event)| event.head.seq) {
            return Ok(Some(tail[at].1.clone()));
        }
        match before.iter().find(|event| event.head.seq == seq) {
            Some(event) => Ok(Some(event.clone())),
            None => Ok(self.event(room, chain, seq).await?),
        }
    }

    /// Returns what an earlier owner may not have dispatched to everybody. It may begin long before the tail.
    async fn left_events(
        &self,
        room: &RoomId,
        chain: &EpochChain,
        tail: &[(u64, Event)],
        settled: Option<&SettledRow>,
    ) -> Result<Option<LeftEvents>, ReadError> {
        let is_left = |epoch: u64, event: &Event| !is_settled(settled, epoch, event.head.at);
        let Some(place) = tail.iter().position(|(epoch, event)| is_left(*epoch, event)) else { return Ok(None) };
        let (Some((_, first)), Some((_, last))) = (tail.get(place), tail.last()) else { return Ok(None) };
        let (mut first, last) = (first.head, last.clone());
        let mut settled_at = if place > 0 { first.seq - 1 } else { first.seq.saturating_sub(UNSETTLED_MAX) };
        let mut probes: Vec<u64> = (0..).map(|n| 1 << n).take_while(|back| *back < UNSETTLED_MAX).collect();
        probes.iter_mut().for_each(|back| *back = first.seq.saturating_sub(*back));
        // Times never fall in a room, so the settled events come first.
        while settled_at + 1 < first.seq {
            probes.retain(|seq| (settled_at + 1..first.seq).contains(seq));
            probes.sort_unstable();
            let read = probes.iter().map(|seq| self.store.timeline(room, *seq..=*seq, PAGE, false));
            for (seq, rows) in probes.iter().zip(try_join_all(read).await?) {
                // What has expired was settled long before.
                match chain.filter(rows).into_iter().next() {
                    Some(row) if is_left(row.epoch, &row.event) => {
                        first = row.event.head;
                        break;
                    }
                    _ => settled_at = *seq,
                }
            }
            let between = first.seq - settled_at;
            probes = (1..=PROBES).map(|n| settled_at + (between * n).div_ceil(PROBES + 1)).collect();
            probes.dedup();
        }
        Ok(Some(LeftEvents { first, last }))
    }

    /// Reads the timeline from `from` to its end, piece by piece. Where a piece ends early above the head row the
    /// timeline does too, because what follows a hole was never answered.
    async fn read_up(
        &self,
        room: &RoomId,
        chain: &EpochChain,
        from: u64,
        head_row: u64,
    ) -> Result<Vec<EventRow>, JobError> {
        let (mut rows, mut from) = (Vec::new(), from);
        loop {
            let border = from - from % TIMELINE_BUCKET + (TIMELINE_BUCKET - 1);
            let page = self.store.timeline(room, from..=border, PAGE, false).await?;
            let (full, last) = (page.len() == PAGE, page.last().map(|row| row.event.head.seq));
            rows.extend(chain.filter(page));
            match last {
                // The last seq may have more rows than were read, so it is read again from there.
                Some(last) if full => {
                    rows.retain(|row| row.event.head.seq < last);
                    from = last;
                }
                Some(last) if last == border => from = border + 1,
                // Older rows may have expired.
                _ if border <= head_row => from = border + 1,
                _ => return Ok(rows),
            }
        }
    }
}
