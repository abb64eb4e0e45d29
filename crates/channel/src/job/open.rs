//! Opening a room: its starts and its tail are read, its own start under this epoch is written, and the fence is
//! passed.

use sendpi_model::{Event, MessageRevision, RoomId, RoomKind};
use sendpi_store::{EpochChain, EventRow, PushedRow, Row, SettledRow, Start, TIMELINE_BUCKET};

use super::{JobContext, JobError};
use crate::room::{StoredRoom, cut_at_hole, is_settled, tail_from};
use crate::tenure::Tenure;

/// The most rows of one read.
const PAGE: usize = 1_000;
/// The search for older unsettled events ends once this many rows were read.
const UNSETTLED_MAX: usize = 100_000;

/// The result of opening a room.
#[derive(Debug)]
pub(crate) struct OpenedRoom {
    pub(crate) stored: StoredRoom,
    /// The events of the tail that an earlier owner may not have dispatched to everybody, oldest first.
    pub(crate) unsettled: Vec<Event>,
    /// What of them the earlier owner pushed.
    pub(crate) pushed: Option<PushedRow>,
}

impl JobContext {
    pub(crate) async fn open(
        &self,
        tenure: Tenure,
        room: &RoomId,
        settled: Option<SettledRow>,
    ) -> Result<OpenedRoom, JobError> {
        let row = self.store.room(room).await?;
        let mut chain = self.store.chain(room).await?;
        if row.is_none() && chain.newest().is_none() {
            self.pass_fence(tenure).await?;
            return Ok(OpenedRoom { stored: StoredRoom::default(), unsettled: Vec::new(), pushed: None });
        }
        let head_row = row.as_ref().map_or(0, |row| row.head.seq);
        if chain.newest().is_some_and(|newest| newest.epoch > tenure.epoch) {
            // Its owner raised the fence before.
            return Err(JobError::NotOwner(tenure.partition));
        }
        let mut tail = self.read_tail(room, &chain, head_row, settled.as_ref()).await?;
        // Nobody writes into a group any more that was deleted.
        let is_over = row.as_ref().is_some_and(|row| row.deleted && row.kind == RoomKind::Group);
        if !chain.has(tenure.epoch) && !is_over {
            let last = tail.last().map_or(head_row, |(_, event)| event.head.seq.max(head_row));
            let start = Start { epoch: tenure.epoch, next_seq: last + 1, continues: chain.continued_at(last + 1) };
            self.write(&[tenure], vec![Row::Start(room.clone(), start)]).await?;
            chain.begin(start);
        }
        self.pass_fence(tenure).await?;
        let revised = self.revise_again(tenure, room, &chain, head_row, &mut tail).await?;
        let members = self.store.all_members(room).await?;
        let unsettled: Vec<Event> = tail
            .iter()
            .filter(|(epoch, event)| !is_settled(settled.as_ref(), *epoch, event.head.at))
            .map(|(_, event)| event.clone())
            .collect();
        let pushed = if unsettled.is_empty() { None } else { self.store.pushed(room).await? };
        Ok(OpenedRoom { stored: StoredRoom { row, members, chain, tail, revised }, unsettled, pushed })
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
        self.write(&[tenure], rows).await?;
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

    /// Reads everything after the head row, the newest 200 events up to it, and all older events that are not
    /// settled.
    async fn read_tail(
        &self,
        room: &RoomId,
        chain: &EpochChain,
        head_row: u64,
        settled: Option<&SettledRow>,
    ) -> Result<Vec<(u64, Event)>, JobError> {
        let mut rows = self.read_up(room, chain, tail_from(head_row), head_row).await?;
        let is_open = |row: &EventRow| !is_settled(settled, row.epoch, row.event.head.at);
        while let Some(first) = rows.first().filter(|row| row.event.head.seq > 1 && is_open(row)) {
            let to = first.event.head.seq - 1;
            let from = to.saturating_sub(PAGE as u64 - 1).max(1);
            let older = chain.filter(self.store.timeline(room, from..=to, PAGE, true).await?);
            if older.is_empty() || rows.len() > UNSETTLED_MAX {
                break;
            }
            rows.splice(0..0, older);
        }
        Ok(cut_at_hole(rows.into_iter().map(|row| (row.epoch, row.event)).collect(), head_row))
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
