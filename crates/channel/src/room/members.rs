//! Lists of members.

use sendpi_model::server_frame::{MemberEntry, MembersPage};
use sendpi_model::{Role, UserId};

use super::Room;

impl Room {
    /// Returns the members of a page, ordered by user.
    pub(crate) fn members_page(&self, cursor: Option<&UserId>, limit: usize) -> impl Iterator<Item = (&UserId, Role)> {
        use std::ops::Bound;
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.members.range::<UserId, _>((from, Bound::Unbounded)).take(limit).map(|(user, member)| (user, member.role))
    }

    /// Returns the answer `members`, which reflects the room up to its head. `online` says whether a member is online.
    pub(crate) fn members_answer(
        &self,
        cursor: Option<&UserId>,
        limit: usize,
        online: impl Fn(&UserId) -> bool,
    ) -> MembersPage {
        let entry = |(user, role): (&UserId, Role)| MemberEntry { user: user.clone(), role, online: online(user) };
        let members: Vec<MemberEntry> = self.members_page(cursor, limit).map(entry).collect();
        let more = self.members_page(cursor, limit + 1).nth(limit).is_some();
        let next = if more { members.last().map(|member| member.user.clone()) } else { None };
        MembersPage { room: self.id.clone(), seq: self.head.seq, members, next }
    }
}
