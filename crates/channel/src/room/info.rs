//! ROOM, as members, services and strangers see it: by the live room, and by the rows alone.

use sendpi_model::flow::Requester;
use sendpi_model::{Access, EventKind, Mark, Notify, Refusal, Role, RoomId, RoomInfo, RoomKind, UserId, rights};
use sendpi_store::{MemberRow, RoomRow};

use super::Room;
use super::last_message::LastMessage;
use super::rows::listed_at;

impl Room {
    /// Returns ROOM as `user` sees it. The marker is the one at which the user joined, or the user's own last message.
    pub(crate) fn info(&self, user: &UserId) -> Option<RoomInfo> {
        let (row, member) = (self.row.as_ref()?, self.members.get(user)?);
        Some(
            RoomInfo {
                room: self.id.clone(),
                name: row.name.clone(),
                kind: row.kind,
                access: row.access,
                role: member.role,
                seq: self.head.seq,
                count: self.head.count,
                marker: member.marker(),
                unread: 0,
                notify: member.notify,
                muted_until: member.muted_until,
                last_at: self.listed_at(member),
                last: self.last.as_ref().and_then(LastMessage::preview),
                members: self.members.len() as u32,
                retention_days: row.retention_days,
            }
            .with_marker(None),
        )
    }

    /// Returns ROOM as a user or a service sees it. A service that is no member has the rights of an admin, and has
    /// nothing to read.
    pub(super) fn info_for(&self, who: Requester<'_>) -> Option<RoomInfo> {
        match (who, self.members.get(who.id())) {
            (Requester::Service(_), None) => {
                let last = self.last.as_ref().and_then(LastMessage::preview);
                let row = RoomRow { head: self.head, last, members: self.members.len() as u32, ..self.row.clone()? };
                Some(info_for_service(&row))
            }
            _ => self.info(who.id()),
        }
    }
}

/// Returns whether anybody may join. A direct room is never open, whatever its row says.
pub(super) fn is_open(row: &RoomRow) -> bool {
    row.kind == RoomKind::Group && row.access == Access::Open && !row.deleted
}

/// Returns ROOM as a member sees it by the rows alone, which are up to date while no channel runs. Of the member's own
/// messages they tell only the last message of the room. An earlier one moved the read marker of its sender, too, where
/// it was sent.
///
/// # Errors
/// Returns the refusal of a user who is not a member.
pub(crate) fn info_of_rows(
    room: &RoomId,
    row: Option<RoomRow>,
    member: Option<MemberRow>,
    is_service: bool,
) -> Result<RoomInfo, Refusal> {
    let member = member.and_then(|row| Some((row.role?, row)));
    if let (Some(row), None, true) = (row.as_ref().filter(|row| !row.deleted), &member, is_service) {
        return Ok(info_for_service(row));
    }
    let (Some(row), Some((role, member))) = (&row, member) else {
        return Err(rights::not_a_member(room, row.as_ref().is_some_and(is_open)));
    };
    // Nothing behind the last message is counted.
    let own = row.last.as_ref().filter(|last| last.kind == EventKind::Message && last.from == member.user);
    let spoke = own.map(|last| Mark { seq: last.seq, count: row.head.count }).unwrap_or_default();
    let info = RoomInfo {
        room: room.clone(),
        name: row.name.clone(),
        kind: row.kind,
        access: row.access,
        role,
        seq: row.head.seq,
        count: row.head.count,
        marker: member.joined.max(spoke),
        unread: 0,
        notify: member.notify,
        muted_until: member.muted_until,
        last_at: listed_at(row.last.as_ref().map(|last| last.at), member.joined_at),
        last: row.last.clone(),
        members: row.members,
        retention_days: row.retention_days,
    };
    Ok(info.with_marker(None))
}

/// Returns ROOM as a service sees it that is no member.
fn info_for_service(row: &RoomRow) -> RoomInfo {
    let head = row.head;
    RoomInfo {
        room: row.room.clone(),
        name: row.name.clone(),
        kind: row.kind,
        access: row.access,
        role: Role::Admin,
        seq: head.seq,
        count: head.count,
        marker: Mark { seq: head.seq, count: head.count },
        unread: 0,
        notify: Notify::None,
        muted_until: None,
        last_at: row.last.as_ref().map_or(head.at, |last| last.at),
        last: row.last.clone(),
        members: row.members,
        retention_days: row.retention_days,
    }
}
