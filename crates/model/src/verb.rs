//! The requests to a room: the verbs that clients send, and those that nodes send on their own.
//!
//! The same code reads a verb from a client's frame and from a flow, under the same field names.

mod codec;

use serde_json::value::RawValue;

use crate::{Access, Code, Fields, Mentions, Millis, Nonce, Notify, Refusal, Role, RoomKind, UserId};

/// One request to a room by a user, or by a node on a user's behalf.
#[derive(Debug, Clone)]
pub enum Verb {
    /// Creates the room. Two creations with the same creator and nonce are one room.
    Create {
        /// The name of the room.
        name: String,
        /// The purpose of the room.
        kind: RoomKind,
        /// Who may join.
        access: Access,
        /// The first members besides the creator.
        members: Vec<UserId>,
        /// How many days its events are kept. 0 is for ever, and `None` is what the cluster is configured for.
        retention_days: Option<u16>,
        /// The creator's name for this creation.
        nonce: Nonce,
    },
    /// Adds members. Only admins and owners may do so.
    Invite {
        /// The users to add.
        users: Vec<UserId>,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Makes the user a member of an open room.
    Join {
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Ends the membership of the user.
    Leave {
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Ends the membership of another user.
    Kick {
        /// The user.
        user: UserId,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Ends the membership of a user, if there is one, and lets the user in no more.
    Ban {
        /// The user.
        user: UserId,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Ends a ban.
    Unban {
        /// The user.
        user: UserId,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Deletes the room for all of its members.
    DeleteRoom {
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Changes the name of the room, who may join it, or how long its events are kept.
    Change {
        /// The new name.
        name: Option<String>,
        /// Who may join.
        access: Option<Access>,
        /// How many days the events from now on are kept. 0 is for ever.
        retention_days: Option<u16>,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Gives a member another role.
    Role {
        /// The member.
        user: UserId,
        /// The new role.
        role: Role,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Chooses which messages of the room are pushed to the user.
    Notify {
        /// Which messages. As before if it is `None`.
        notify: Option<Notify>,
        /// Until when none is. `Some(None)` ends the mute, and `None` leaves it as it is.
        muted_until: Option<Option<Millis>>,
    },
    /// Sends a message.
    Send {
        /// A JSON object, which is passed on as the client sent it. It was checked where the client's frame was read.
        body: Box<RawValue>,
        /// The client's name for this send. The session generates one if the client omits it.
        nonce: Option<Nonce>,
        /// On every try but the first, the seq that the client knew at the first try.
        retry: Option<u64>,
        /// The users whom it mentions.
        mentions: Option<Mentions>,
    },
    /// Replaces the body of a message of one's own.
    Edit {
        /// The seq of the message.
        target: u64,
        /// The new body, as in a send.
        body: Box<RawValue>,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Removes the body of a message. Admins may do so with every message.
    Delete {
        /// The seq of the message.
        target: u64,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Removes the body of a message whose author is to be forgotten, without an event. Only services may.
    Forget {
        /// The seq of the message.
        target: u64,
    },
    /// Reacts to a message, or takes a reaction back.
    React {
        /// The seq of the message.
        target: u64,
        /// The reaction.
        emoji: String,
        /// Whether it is taken back.
        remove: bool,
        /// The session's name for this request.
        nonce: Option<Nonce>,
    },
    /// Reports that the user is typing. It is ephemeral and never answered.
    Typing,
    /// Reports that the user has read up to `seq`. The answer contains the count there.
    Read {
        /// The seq of the last event read.
        seq: u64,
    },
    /// Reads a page of the timeline, oldest event first.
    History {
        /// The page ends before this seq.
        before: Option<u64>,
        /// The page begins after this seq.
        after: Option<u64>,
        /// The maximum number of messages.
        limit: u32,
    },
    /// Reads a page of the members, ordered by user.
    Members {
        /// The user after whom the page begins.
        cursor: Option<UserId>,
        /// The maximum number of members.
        limit: u32,
    },
    /// Asks, on behalf of a node, that the user gets the live events of this room. The answer contains
    /// [`crate::RoomInfo`], and its `live` says whether the channel is active.
    Attach {
        /// The user's sign-in number on that node.
        signin: u64,
    },
    /// Reports that the last session of the user on that node has ended.
    Detach {
        /// The sign-in number that ended. A later attach stays in effect.
        signin: u64,
    },
    /// Reads the room as this user sees it, without attaching to its live events.
    Peek,
    /// Reads the heads of several rooms of the same partition. The request's own room is the first.
    Heads {
        /// The rooms.
        rooms: Vec<crate::RoomId>,
    },
    /// Reports that no device of the user confirmed a range of events that were dispatched to the user's node.
    Bounce {
        /// The seq of the first event.
        first: u64,
        /// The seq of the last event.
        last: u64,
    },
}

/// The nonce of a request for a durable event that is no message, shared or unique as the verb is.
macro_rules! nonce_of_session {
    ($verb:expr) => {
        match $verb {
            Verb::Invite { nonce, .. }
            | Verb::Join { nonce }
            | Verb::Leave { nonce }
            | Verb::Kick { nonce, .. }
            | Verb::Ban { nonce, .. }
            | Verb::Unban { nonce, .. }
            | Verb::DeleteRoom { nonce }
            | Verb::Change { nonce, .. }
            | Verb::Role { nonce, .. }
            | Verb::Edit { nonce, .. }
            | Verb::Delete { nonce, .. }
            | Verb::React { nonce, .. } => Some(nonce),
            _ => None,
        }
    };
}

impl Verb {
    /// Reads the verb `op` from its fields. `None` if `op` is not a request to a room.
    ///
    /// # Errors
    /// Returns `bad_field` or `too_large`, with the field and its rule.
    pub fn read(op: &str, fields: &Fields<'_>) -> Option<Result<Self, Refusal>> {
        Some(match op {
            "create" => fields.required("nonce").and_then(|nonce| Self::read_create(fields, nonce)),
            "invite" => {
                codec::users(fields, "users", true).map(|users| Self::Invite { users, nonce: codec::nonce(fields) })
            }
            "join" => Ok(Self::Join { nonce: codec::nonce(fields) }),
            "leave" => Ok(Self::Leave { nonce: codec::nonce(fields) }),
            "kick" => fields.required("user").map(|user| Self::Kick { user, nonce: codec::nonce(fields) }),
            "ban" => fields.required("user").map(|user| Self::Ban { user, nonce: codec::nonce(fields) }),
            "unban" => fields.required("user").map(|user| Self::Unban { user, nonce: codec::nonce(fields) }),
            "delete_room" => Ok(Self::DeleteRoom { nonce: codec::nonce(fields) }),
            "change" => codec::change(fields),
            "role" => codec::role(fields),
            "notify" => codec::notify(fields),
            "send" => codec::send(fields),
            "edit" => codec::edit(fields),
            "delete" => codec::target(fields).map(|target| Self::Delete { target, nonce: codec::nonce(fields) }),
            "forget" => codec::target(fields).map(|target| Self::Forget { target }),
            "react" => codec::react(fields),
            "typing" => Ok(Self::Typing),
            "read" => codec::marker(fields),
            "history" => codec::history(fields),
            "members" => codec::members(fields),
            "attach" => fields.required("signin").map(|signin| Self::Attach { signin }),
            "detach" => fields.required("signin").map(|signin| Self::Detach { signin }),
            "peek" => Ok(Self::Peek),
            "heads" => fields.required("rooms").map(|rooms| Self::Heads { rooms }),
            "bounce" => codec::bounce(fields),
            _ => return None,
        })
    }

    /// Reads a creation. It uses `nonce` instead of the field of that name, which a client may omit.
    ///
    /// # Errors
    /// Returns `bad_field` or `too_large`, with the field and its rule.
    pub(crate) fn read_create(fields: &Fields<'_>, nonce: Nonce) -> Result<Self, Refusal> {
        codec::create(fields, nonce)
    }

    /// Gives a request for a durable event the nonce by which the owner knows it when its flow sends it again. A
    /// message keeps the one that its client chose. Clients choose none for the other events. A creation has one
    /// already.
    pub fn set_nonce(&mut self, fresh: impl FnOnce() -> Option<Nonce>) {
        if let Self::Send { nonce, .. } = self {
            *nonce = nonce.take().or_else(fresh);
        } else if let Some(nonce) = self.session_nonce_mut() {
            *nonce = fresh();
        }
    }

    /// Returns the nonce of the durable event that the request makes. `None` for a creation, which is known by its
    /// room.
    #[must_use]
    pub fn event_nonce(&self) -> Option<&Nonce> {
        match self {
            Self::Send { nonce, .. } => nonce.as_ref(),
            _ => self.session_nonce(),
        }
    }

    /// Returns the nonce of a request for a durable event that is no message. It is the session's own name for the
    /// request.
    #[must_use]
    pub fn session_nonce(&self) -> Option<&Nonce> {
        nonce_of_session!(self)?.as_ref()
    }

    fn session_nonce_mut(&mut self) -> Option<&mut Option<Nonce>> {
        nonce_of_session!(self)
    }

    /// Returns the seq of the event that an edit, a deletion or a reaction is about.
    #[must_use]
    pub fn target(&self) -> Option<u64> {
        match self {
            Self::Edit { target, .. }
            | Self::Delete { target, .. }
            | Self::Forget { target }
            | Self::React { target, .. } => Some(*target),
            _ => None,
        }
    }

    /// Returns whether a client may send this verb. Only nodes send the others.
    #[must_use]
    pub fn is_for_clients(&self) -> bool {
        !matches!(
            self,
            Self::Attach { .. }
                | Self::Detach { .. }
                | Self::Forget { .. }
                | Self::Peek
                | Self::Heads { .. }
                | Self::Bounce { .. }
        )
    }
}

/// Returns the refusal of an op that this release does not know.
pub(crate) fn unsupported(op: &str) -> Refusal {
    let op: String = op.chars().take(64).collect();
    Refusal { field: Some("op".to_owned()), ..Refusal::new(Code::Unsupported, format!("op {op:?} is not supported")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Verb, Refusal> {
        let fields = Fields::parse(text.as_bytes()).unwrap();
        Verb::read(&fields.required::<String>("op").unwrap(), &fields).unwrap()
    }

    #[test]
    fn a_nonce_of_a_join_that_is_none_is_an_unknown_field() {
        assert!(matches!(read(r#"{"op":"join","nonce":7}"#), Ok(Verb::Join { nonce: None })));
    }

    #[test]
    fn integers_that_json_cannot_hold_are_refused() {
        for text in
            [r#"{"op":"history","after":9007199254740992}"#, r#"{"op":"send","body":{},"retry":18446744073709551615}"#]
        {
            assert_eq!(read(text).unwrap_err().code, Code::BadField, "{text}");
        }
    }

    #[test]
    fn every_verb_comes_back_from_its_own_fields() {
        for text in [
            r#"{"op":"create","name":"n","kind":"group","access":"open","members":["a","b"],"nonce":"x"}"#,
            r#"{"op":"create","name":"n","kind":"group","access":"open","members":[],"retention_days":0,"nonce":"x"}"#,
            r#"{"op":"invite","users":["a"]}"#,
            r#"{"op":"invite","users":["a"],"nonce":"n"}"#,
            r#"{"op":"join"}"#,
            r#"{"op":"join","nonce":"n"}"#,
            r#"{"op":"leave","nonce":"n"}"#,
            r#"{"op":"leave"}"#,
            r#"{"op":"kick","user":"a","nonce":"n"}"#,
            r#"{"op":"change","name":"n","nonce":"n"}"#,
            r#"{"op":"change","access":"open"}"#,
            r#"{"op":"change","retention_days":30}"#,
            r#"{"op":"forget","ref":4}"#,
            r#"{"op":"role","user":"a","role":"admin","nonce":"n"}"#,
            r#"{"op":"notify","notify":"none"}"#,
            r#"{"op":"notify","muted_until":null}"#,
            r#"{"op":"notify","notify":"all","muted_until":1790000000000}"#,
            r#"{"op":"send","nonce":"n","retry":4,"mentions":["*"],"body":{"text":"hi"}}"#,
            r#"{"op":"ban","user":"a","nonce":"n"}"#,
            r#"{"op":"unban","user":"a"}"#,
            r#"{"op":"delete_room","nonce":"n"}"#,
            r#"{"op":"edit","ref":4,"body":{"text":"hi"},"nonce":"n"}"#,
            r#"{"op":"delete","ref":4}"#,
            r#"{"op":"react","ref":4,"emoji":"👍","nonce":"n"}"#,
            r#"{"op":"react","ref":4,"emoji":"👍","remove":true}"#,
            r#"{"op":"typing"}"#,
            r#"{"op":"read","seq":7}"#,
            r#"{"op":"history","before":null,"after":3,"limit":10}"#,
            r#"{"op":"members","cursor":null,"limit":10}"#,
            r#"{"op":"attach","signin":3}"#,
            r#"{"op":"detach","signin":3}"#,
            r#"{"op":"peek"}"#,
            r#"{"op":"heads","rooms":["a"]}"#,
            r#"{"op":"bounce","first":3,"last":5}"#,
        ] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
    }
}
