//! Attaching: asks the owners of rooms to dispatch their events live to a user.

use sendpi_model::{Refusal, RoomId, UserId, Verb, encode_json};

use super::State;
use super::gaps::heads_frame;
use crate::keys::UserKey;
use crate::owners::answer::{RoomAnswer, is_not_a_member};
use crate::owners::reply_to::ReplyTo;
use crate::state::effects::{Ask, Effects};

/// A user who has sessions and whose presence key was requested, as tasks that work for the user know it.
#[derive(Debug, Clone)]
pub(crate) struct OnlineUser {
    pub(crate) key: UserKey,
    pub(crate) id: UserId,
    pub(crate) signin: u64,
}

/// What the user's sessions are told when the owner has answered an attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttachTelling {
    /// Nothing: their welcome comes after the answer.
    Nothing,
    /// The head. Their welcome came before the answer, without the room.
    Head,
    /// That the user is in the room. They do not know the room.
    IfMember,
    /// That the user is not in the room any more. They know the room.
    IfGone,
}

/// An attach under way.
#[derive(Debug)]
pub(crate) struct AttachRequest {
    pub(crate) user: OnlineUser,
    pub(crate) room: RoomId,
    pub(crate) telling: AttachTelling,
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

    /// Returns whether the sign-in of this user lasts.
    pub(crate) fn is_signed_in(&self, user: &OnlineUser) -> bool {
        self.online_user(user.key).is_some_and(|present| present.signin == user.signin)
    }

    /// Returns the rooms in which the user has an entry, each with what the user's sessions are told when they are
    /// attached to it again. They do not know a room whose owner has not answered yet.
    pub(crate) fn rooms_of(&self, user: UserKey) -> Vec<(RoomId, AttachTelling)> {
        let rooms = self.users.get(user).map(|user| user.rooms.as_slice()).unwrap_or_default();
        let known = |key| {
            let room = self.rooms.get(key)?;
            let is_known = room.member(user)?.last.is_some();
            Some((room.id.clone(), if is_known { AttachTelling::IfGone } else { AttachTelling::IfMember }))
        };
        rooms.iter().filter_map(|key| known(*key)).collect()
    }

    /// Asks the room's owner to attach the user. The entry in the room is added at once, so that the end of the
    /// user's last session finds every room to detach from. Returns `false`, and asks nothing, if the last session
    /// of this sign-in has ended already.
    pub(crate) fn attach(&mut self, user: &OnlineUser, room: &RoomId, tag: ReplyTo, effects: &mut Effects) -> bool {
        if !self.is_signed_in(user) {
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

    /// Handles the owner's answer to an attach. It is judged when the link brings it, in order with the link's other
    /// items.
    pub(crate) fn attach_answered(
        &mut self,
        attach: &AttachRequest,
        answer: &Result<RoomAnswer, Refusal>,
        effects: &mut Effects,
    ) {
        let AttachRequest { user, room, telling } = attach;
        if !self.is_signed_in(user) {
            return;
        }
        match answer {
            Ok(view) => {
                if let Some(key) = self.rooms.find(room) {
                    self.note_head(key, user.key, view.info.seq, effects);
                    let member = self.rooms.get_mut(key).and_then(|room| room.member_mut(user.key));
                    // A room that is not live has nobody to detach. If it becomes so, its link adds the user.
                    if let Some(member) = member.filter(|_| !view.live) {
                        member.attached = false;
                    }
                }
                match telling {
                    AttachTelling::Head => {
                        self.send_to_sessions(user.key, room, &heads_frame(room, view.info.seq), effects);
                    }
                    AttachTelling::IfMember => self.room_added(user.key, room, &encode_json(&view.info), effects),
                    AttachTelling::Nothing | AttachTelling::IfGone => {}
                }
            }
            Err(refusal) if is_not_a_member(refusal) => {
                // The reason was lost with the link.
                if self.not_attached(user, room) && *telling == AttachTelling::IfGone {
                    self.room_removed(user.key, room, "left", effects);
                }
            }
            Err(_) => {}
        }
    }

    /// Removes the entry of a user who is not in the room. Returns `false`, and keeps the entry, if a link has the
    /// user in the room's audience: the user joined again, and that link also brings the removal.
    fn not_attached(&mut self, user: &OnlineUser, room: &RoomId) -> bool {
        let Some(key) = self.rooms.find(room) else { return false };
        if self.rooms.get(key).is_none_or(|room| room.is_in_audience(user.key)) {
            return false;
        }
        self.forget_member(key, user.key);
        true
    }
}
