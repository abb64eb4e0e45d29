//! Lists of members.

use sendpi_model::server_frame::{MemberEntry, MembersPage};
use sendpi_model::{Role, RoomId, UserId};

use super::Room;

impl Room {
    /// Returns the members of a page, ordered by user.
    pub(crate) fn members_page(&self, cursor: Option<&UserId>, limit: usize) -> impl Iterator<Item = (&UserId, Role)> {
        use std::ops::Bound;
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.members.range::<UserId, _>((from, Bound::Unbounded)).take(limit).map(|(user, member)| (user, member.role))
    }

    /// Returns the members of a page and the one after them, without who is online.
    pub(crate) fn members_list(&self, cursor: Option<&UserId>, limit: usize) -> Vec<(UserId, Role)> {
        self.members_page(cursor, limit + 1).map(|(user, role)| (user.clone(), role)).collect()
    }
}

/// Returns the answer `members`, which reflects the room up to `seq`. `members` are those of the page, and the one
/// after them if there is one. `online` says whether a member is online.
pub(crate) fn members_answer(
    room: &RoomId,
    seq: u64,
    mut members: Vec<(UserId, Role)>,
    limit: usize,
    online: impl Fn(&UserId) -> bool,
) -> MembersPage {
    let more = members.len() > limit;
    members.truncate(limit);
    let next = members.last().filter(|_| more).map(|(user, _)| user.clone());
    let entry = |(user, role)| MemberEntry { online: online(&user), user, role };
    MembersPage { room: room.clone(), seq, members: members.into_iter().map(entry).collect(), next }
}
