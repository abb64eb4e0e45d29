//! Attaching: asks the owners of rooms to let a user have the events live.

use sendpi_model::{RoomId, UserId, Verb};

use super::State;
use crate::keys::UserKey;
use crate::owners::reply_to::ReplyTo;
use crate::state::effects::{Ask, Effects};

/// A user who is here, for those who work on its behalf.
#[derive(Debug, Clone)]
pub(crate) struct OnlineUser {
    pub(crate) key: UserKey,
    pub(crate) id: UserId,
    pub(crate) signin: u64,
}

impl State {
    /// The user of this number, if here and counting as online.
    pub(crate) fn online_user(&self, key: UserKey) -> Option<OnlineUser> {
        let user = self.users.get(key).filter(|user| user.has_sessions() && user.key_requested)?;
        Some(OnlineUser { key, id: user.id.clone(), signin: user.signin })
    }

    /// All users who are here and count as online.
    pub(crate) fn online_users(&self) -> Vec<OnlineUser> {
        self.users.iter().filter_map(|(key, _)| self.online_user(key)).collect()
    }

    /// The rooms that the user is known to be in.
    pub(crate) fn rooms_of(&self, user: UserKey) -> Vec<RoomId> {
        let rooms = self.users.get(user).map(|user| user.rooms.as_slice()).unwrap_or_default();
        rooms.iter().filter_map(|key| self.rooms.get(*key).map(|room| room.id.clone())).collect()
    }

    /// Asks to attach the user. The entry is made now, so that the end of the last session finds what is to be detached. False where
    /// that end has come.
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

    /// The owner has answered an attach: the room's head is at `seq`. Tells whether the user was known to be in the room.
    pub(crate) fn attached(&mut self, user: &OnlineUser, room: &RoomId, seq: u64, effects: &mut Effects) {
        let Some(key) = self.rooms.find(room) else { return };
        self.note_head(key, user.key, seq, effects);
    }

    /// The owner says that there is no such room for the user. True where there was one before.
    pub(crate) fn not_attached(&mut self, user: &OnlineUser, room: &RoomId) -> bool {
        let Some(key) = self.rooms.find(room) else { return false };
        let Some(entry) = self.rooms.get(key) else { return false };
        let known = entry.member(user.key).is_some_and(|member| member.last.is_some());
        if entry.is_in_audience(user.key) {
            // The link that told so tells the end as well.
            return false;
        }
        self.forget_member(key, user.key);
        known
    }
}
