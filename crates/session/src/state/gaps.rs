//! Gaps: which events of a room a user's sessions are missing. They are read from the room's owner.

use bytes::Bytes;
use sendpi_model::server_frame::{HeadsAnswer, OpFrame};
use sendpi_model::{Partition, Partitions, RoomId, UserId};
use tokio::time::Instant;

use super::State;
use crate::client::ws_frame;
use crate::keys::{RoomKey, UserKey};
use crate::state::effects::Effects;
use crate::state::session_state::Delivery;

/// The user whose gap is to be read next, and the seq after which to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingRange {
    pub(crate) room: RoomId,
    pub(crate) user: UserKey,
    pub(crate) user_id: UserId,
    pub(crate) after: u64,
}

/// Encodes `{"op":"heads",…}`, which tells a session that it missed events up to `seq`.
pub(super) fn heads_frame(room: &RoomId, seq: u64) -> Bytes {
    ws_frame::text(&HeadsAnswer { rooms: [(room.clone(), seq)].into() }.to_frame())
}

impl State {
    /// Notes that the room's head is at `seq`. If the user is behind, a gap begins, which is then read and filled.
    pub(super) fn note_head(&mut self, key: RoomKey, user_key: UserKey, seq: u64, effects: &mut Effects) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let Some(member) = room.member_mut(user_key) else { return };
        if member.note_head(seq) {
            if let Some(user) = self.users.get_mut(user_key) {
                user.gaps += 1;
            }
            if !std::mem::replace(&mut room.filling, true) {
                effects.fills.push(key);
            }
        }
    }

    /// Handles the heads of rooms, as their owner reports them.
    pub(crate) fn heads(&mut self, heads: impl IntoIterator<Item = (RoomId, u64)>, effects: &mut Effects) {
        for (room, seq) in heads {
            let Some(key) = self.rooms.find(&room) else { continue };
            let users = self.rooms.get(key).map(|room| room.members.iter().map(|m| m.user).collect::<Vec<_>>());
            for user in users.unwrap_or_default() {
                if self.users.get(user).is_some_and(|user| user.has_sessions()) {
                    self.note_head(key, user, seq, effects);
                }
            }
        }
    }

    /// Returns the rooms that were active since `since`, sorted by partition, each with one user who has a session
    /// on this node.
    pub(crate) fn recent_rooms(&self, partitions: Partitions, since: Instant) -> Vec<(Partition, RoomId, UserId)> {
        let mut recent: Vec<_> = self
            .rooms
            .iter()
            .filter(|(_, room)| room.active >= Some(since))
            .filter_map(|(_, room)| {
                let here = room.members.iter().filter_map(|member| self.users.get(member.user));
                let user = here.into_iter().find(|user| user.has_sessions())?;
                Some((partitions.of(&room.id), room.id.clone(), user.id.clone()))
            })
            .collect();
        recent.sort_by_key(|(partition, ..)| *partition);
        recent
    }

    /// Returns what to read next of a room: the gap that begins at the lowest seq. `None` if no gap is left. Drops
    /// the gaps of users without sessions.
    pub(crate) fn next_missing(&mut self, key: RoomKey) -> Option<MissingRange> {
        let room = self.rooms.get_mut(key)?;
        let mut next: Option<MissingRange> = None;
        for member in &mut room.members {
            let Some(user) = self.users.get_mut(member.user) else { continue };
            if member.gap.is_some() && !user.has_sessions() {
                member.gap = None;
                user.gaps -= 1;
            }
            let Some(after) = member.missing_after() else { continue };
            if next.as_ref().is_none_or(|next| after < next.after) {
                next = Some(MissingRange { room: room.id.clone(), user: member.user, user_id: user.id.clone(), after });
            }
        }
        room.filling = next.is_some();
        next
    }

    /// Delivers events of a room that were read, in order, to all users who miss them.
    pub(crate) fn deliver_missing(&mut self, key: RoomKey, events: &[(u64, Bytes)], effects: &mut Effects) {
        let Self { rooms, users, sessions, config, unconfirmed, .. } = self;
        let Some(room) = rooms.get_mut(key) else { return };
        let id = &room.id;
        for member in room.members.iter_mut() {
            let Some(gap) = &member.gap else { continue };
            let Some(user) = users.get_mut(member.user) else { continue };
            // If no event after the gap came by a link yet, the events that were read may still come by one. Their
            // positions are then at the log's end or later.
            let position = gap.from.or(Some(unconfirmed.end()));
            member.fill(events, |seq, frame| {
                for session in &user.sessions {
                    if let Some(session) = sessions.get_mut(*session) {
                        let parcel = Delivery { room: id, seq, position, frame, ephemeral: false };
                        session.deliver(parcel, config.outbox_bytes, effects);
                        session.outbound.late();
                    }
                }
            });
            user.gaps -= u32::from(member.gap.is_none());
        }
    }

    /// Skips events that a user is missing and that cannot be read. The sessions are told that they are behind, and
    /// go on with the events after the gap. `whose` is `None` for all users in the room.
    pub(crate) fn skip_missing(&mut self, key: RoomKey, whose: Option<UserKey>, effects: &mut Effects) {
        let Self { rooms, users, sessions, config, unconfirmed, .. } = self;
        let Some(room) = rooms.get_mut(key) else { return };
        let id = &room.id;
        for member in room.members.iter_mut().filter(|member| whose.is_none_or(|whose| whose == member.user)) {
            let Some(user) = users.get_mut(member.user) else { continue };
            let Some(gap) = &member.gap else { continue };
            let position = gap.from.or(Some(unconfirmed.end()));
            let mut held: Vec<(u64, Bytes)> = Vec::new();
            let Some(behind) = member.skip(|seq, frame| held.push((seq, frame.clone()))) else { continue };
            user.gaps -= 1;
            let told = std::iter::once((0, heads_frame(id, behind))).chain(held);
            for (seq, frame) in told {
                for session in &user.sessions {
                    if let Some(session) = sessions.get_mut(*session) {
                        let parcel = Delivery { room: id, seq, position, frame: &frame, ephemeral: false };
                        session.deliver(parcel, config.outbox_bytes, effects);
                        session.outbound.late();
                    }
                }
            }
        }
    }

    /// Returns the first position that gaps hold back for a user.
    pub(super) fn held_by_gaps(&self, user_key: UserKey) -> Option<u64> {
        let user = self.users.get(user_key).filter(|user| user.gaps > 0)?;
        let gaps = user.rooms.iter().filter_map(|key| self.rooms.get(*key)?.member(user_key)?.gap.as_ref()?.from);
        gaps.min()
    }
}
