//! Lists of members.

use sendpi_model::{Role, UserId};

use super::Room;

impl Room {
    /// The members of a page, by user.
    pub(crate) fn members_page(&self, cursor: Option<&UserId>, limit: usize) -> impl Iterator<Item = (&UserId, Role)> {
        use std::ops::Bound;
        let from = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.members.range::<UserId, _>((from, Bound::Unbounded)).take(limit).map(|(user, member)| (user, member.role))
    }

    /// The answer `{"op":"members",…}`.
    pub(crate) fn members_frame(
        &self,
        cursor: Option<&UserId>,
        limit: usize,
        online: impl Fn(&UserId) -> bool,
    ) -> Vec<u8> {
        let members: Vec<_> = self
            .members_page(cursor, limit)
            .map(|(user, role)| serde_json::json!({"user": user, "role": role, "online": online(user)}))
            .collect();
        let more = self.members_page(cursor, limit + 1).nth(limit).is_some();
        let next = if more { members.last().map(|member| member["user"].clone()) } else { None };
        serde_json::json!({"op": "members", "room": self.id, "members": members, "next": next}).to_string().into_bytes()
    }
}
