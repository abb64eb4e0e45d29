//! The rows that say of a room what its timeline does not: its head, its members and its place in their lists.

use sendpi_model::{Millis, RoomId, UserId};
use sendpi_store::{MemberRow, OrderRow, RoomOfUser, RoomRow, Row, Stamp};

use super::last_message::LastMessage;
use super::{Room, RoomMember};

/// A room's row is written with a new head after this many events. A new owner reads what follows it, and the tail.
const HEAD_EVERY: u64 = 256;

impl Room {
    /// Returns what an activation for a durable event writes: the order rows of all members, the rows that a crash
    /// took, and, once those are stored, the head. A room that is never idle would otherwise keep its first head row,
    /// and once the events that follow it have expired, nobody could tell them from events that never were.
    pub(crate) fn order_rows(&self, at: Millis) -> Vec<Row> {
        let order = self.members.keys().map(|user| order_row(&self.id, user, at));
        order.chain(self.healed_rows()).chain(self.newer_head().map(Row::Room)).collect()
    }

    /// Notes that what [`Self::order_rows`] returned is stored.
    pub(crate) fn order_rows_stored(&mut self) {
        if let Some(row) = self.newer_head() {
            self.row = Some(row);
        }
        self.healed.clear();
    }

    /// Returns the room's row with its present head if that is far ahead, so that whoever opens the room reads few
    /// events. It is to be written after a batch that writes no other rows, and counts as stored from now on: if it is
    /// not, the room is forgotten.
    pub(crate) fn head_far_ahead(&mut self) -> Option<Row> {
        let stored = self.row.as_ref()?.head.seq;
        if self.head.seq.saturating_sub(stored) < HEAD_EVERY {
            return None;
        }
        let row = self.newer_head()?;
        self.row = Some(row.clone());
        Some(Row::Room(row))
    }

    /// Returns the room's row with its present head, if that is newer. The members whose rows a crash took are found by
    /// the events after the head row, until those rows are stored.
    fn newer_head(&self) -> Option<RoomRow> {
        let row = self.row.as_ref().filter(|row| row.head.seq < self.head.seq && self.healed.is_empty())?;
        let stamp = self.base_stamp().next();
        Some(RoomRow { stamp, listed: Some(row.listed()), ..self.with_head(row) })
    }

    /// Returns the rows of the members whose rows a crash took.
    fn healed_rows(&self) -> Vec<Row> {
        let rows = self.healed.iter().flat_map(|user| match self.members.get(user) {
            Some(member) => vec![self.member_row(user, member)],
            None => vec![self.gone_member(user, self.head), self.gone_room(user, self.head)],
        });
        rows.collect()
    }

    /// Returns the rows that eviction writes: the head, and for each member the room's place in the list.
    pub(crate) fn head_rows(&self) -> Vec<Row> {
        let Some(row) = &self.row else { return Vec::new() };
        let stamp = self.eviction_stamp();
        let of_users = self.members.iter().map(|(user, member)| self.room_of_user(user, member, stamp));
        std::iter::once(self.head_row(row)).chain(of_users).chain(self.healed_rows()).collect()
    }

    /// Returns the room's row with its present head. It follows the row that a change of the room wrote with the head
    /// before, and the one beside the order rows.
    pub(super) fn head_row(&self, row: &RoomRow) -> Row {
        Row::Room(RoomRow { stamp: self.eviction_stamp(), listed: None, ..self.with_head(row) })
    }

    /// Returns the room's row as it is stored, but with the last message as it is now. An eviction that was begun may
    /// have written the stamp before.
    pub(super) fn row_again(&mut self) -> Option<Row> {
        self.note_other_last();
        let last = self.last.as_ref().and_then(LastMessage::preview);
        let row = self.row.as_mut()?;
        row.last = last;
        Some(Row::Room(row.clone()))
    }

    fn eviction_stamp(&self) -> Stamp {
        self.base_stamp().next().next()
    }

    /// Returns the stamp that those of the room's row follow: the first one is for the head beside the order rows, the
    /// second one for eviction, and the third one for what changed without an event.
    fn base_stamp(&self) -> Stamp {
        let of_head = Stamp::of(self.head.seq);
        self.row.as_ref().map_or(of_head, |row| of_head.max(row.stamp))
    }

    /// Lets the rows to come differ from those that were written with another last message.
    pub(super) fn note_other_last(&mut self) {
        let stamp = self.base_stamp().next().next().next();
        if let Some(row) = &mut self.row {
            row.stamp = stamp;
        }
    }

    fn with_head(&self, row: &RoomRow) -> RoomRow {
        RoomRow {
            members: self.members.len() as u32,
            head: self.head,
            last: self.last.as_ref().and_then(LastMessage::preview),
            ..row.clone()
        }
    }

    /// Returns whether the rows that eviction writes are behind the timeline. Lists of rooms show what they say.
    pub(crate) fn head_row_lags(&self) -> bool {
        let is_behind = self.row.as_ref().is_some_and(|row| row.listed() < self.dispatched);
        (is_behind && !self.members.is_empty()) || !self.healed.is_empty()
    }

    pub(super) fn room_of_user(&self, user: &UserId, member: &RoomMember, stamp: Stamp) -> Row {
        Row::RoomOfUser(RoomOfUser {
            user: user.clone(),
            room: self.id.clone(),
            stamp,
            role: Some(member.role),
            joined: member.joined,
            active_at: self.listed_at(member),
        })
    }

    /// Returns the time that gives the room its place in a member's list.
    pub(super) fn listed_at(&self, member: &RoomMember) -> Millis {
        listed_at(self.last.as_ref().map(LastMessage::at), member.joined_at)
    }

    pub(super) fn member_row(&self, user: &UserId, member: &RoomMember) -> Row {
        Row::Member(MemberRow {
            room: self.id.clone(),
            user: user.clone(),
            stamp: member.stamp,
            role: Some(member.role),
            joined: member.joined,
            joined_at: member.joined_at,
            notify: member.notify,
            muted_until: member.muted_until,
            banned: false,
        })
    }
}

/// Returns the time that gives a room its place in a member's list: that of the last message, or that of the member's
/// joining if it is later. Other events move no room up.
pub(super) fn listed_at(last: Option<Millis>, joined_at: Millis) -> Millis {
    last.map_or(joined_at, |last| last.max(joined_at))
}

pub(crate) fn order_row(room: &RoomId, user: &UserId, active_at: Millis) -> Row {
    Row::Order(OrderRow { user: user.clone(), active_at, room: room.clone() })
}
