//! Attaching: asks the owners of rooms to dispatch their events live to a user.

use sendpi_model::{RoomId, UserId, Verb};

use super::State;
use crate::keys::UserKey;
use crate::owners::reply_to::ReplyTo;
use crate::state::effects::{Ask, Effects};

/// A user who has sessions and whose presence key was requested, as tasks that work for the user know it.
#[derive(Debug, Clone)]
pub(crate) struct OnlineUser {
    pub(crate) key: UserKey,
    pub(crate) id: UserId,
    pub(crate) signin: u64,
}

impl State {
    /// Returns the user of a key. `None` if the user has no sessions or the presence key was not requested yet.
    pub(crate) fn online_user(&self, key: UserKey) -> Option<OnlineUser> {
        let user = self.users.get(key).filter(|user| user.has_sessions() && user.key_requested)?;
        Some(OnlineUser { key, id: user.id.clone(), signin: user.signin })
    }

    /// Returns all users who have sessions and whose presence keys were requested.
    pub(crate) fn online_users(&self) -> Vec<OnlineUser> {
        self.users.iter().filter_map(|(key, _)| self.online_user(key)).collect()
    }

    /// Returns the rooms in which the user has an entry.
    pub(crate) fn rooms_of(&self, user: UserKey) -> Vec<RoomId> {
        let rooms = self.users.get(user).map(|user| user.rooms.as_slice()).unwrap_or_default();
        rooms.iter().filter_map(|key| self.rooms.get(*key).map(|room| room.id.clone())).collect()
    }

    /// Asks the room's owner to attach the user. The entry in the room is added at once, so that the end of the
    /// user's last session finds every room to detach from. Returns `false`, and asks nothing, if the last session
    /// of this sign-in has ended already.
    pub(crate) fn attach(&mut self, user: &OnlineUser, room: &RoomId, tag: ReplyTo, effects: &mut Effects) -> bool {
        if self.online_user(user.key).is_none_or(|present| present.signin != user.signin) {
            return false;
        }
        let key = self.enter(room, user.key);
        if let Some(member) = self.rooms.get_mut(key).and_then(|room| room.member_mut(user.key)) {
            member.attached = true;
        }
        let verb = Verb::Attach { signin: user.signin };
        effects.asks.push(Ask { room: room.clone(), user: user.id.clone(), verb, tag });
        true
    }

    /// Handles the owner's answer to an attach: the room's head is at `seq`.
    pub(crate) fn attached(&mut self, user: &OnlineUser, room: &RoomId, seq: u64, effects: &mut Effects) {
        let Some(key) = self.rooms.find(room) else { return };
        self.note_head(key, user.key, seq, effects);
    }

    /// Handles the owner's answer that the user is not in the room, and removes the entry. Returns whether the
    /// user's last event of the room was known. Returns `false`, and keeps the entry, if a link has the user in the
    /// room's audience.
    pub(crate) fn not_attached(&mut self, user: &OnlineUser, room: &RoomId) -> bool {
        let Some(key) = self.rooms.find(room) else { return false };
        let Some(entry) = self.rooms.get(key) else { return false };
        let known = entry.member(user.key).is_some_and(|member| member.last.is_some());
        if entry.is_in_audience(user.key) {
            // The link that added the user to its audience also brings the removal.
            return false;
        }
        self.forget_member(key, user.key);
        known
    }
}
