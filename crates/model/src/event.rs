//! Durable events as they are stored and sent. Each is encoded once, as the client's JSON.

mod content;
mod revision;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Mentions, Millis, Nonce, Preview, RoomId, UserId, encode_json};

pub use content::{Content, LeftReason, Message, RoleChange, RoomChange};
pub use revision::{MessageRevision, Reaction};

/// The kinds of durable events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EventKind {
    /// A message of a member.
    Message,
    /// A message of a service.
    System,
    /// Users became members.
    Joined,
    /// Users ceased to be members.
    Left,
    /// The name, the access or a role of the room changed.
    Changed,
    /// The body of a message was replaced.
    Edited,
    /// The body of a message was removed.
    Deleted,
    /// A reaction to a message.
    Reaction,
    /// A kind that a later release wrote, with its number. Such an event has its place in the timeline and is passed
    /// on as it is. Clients do not show kinds that they do not know.
    #[serde(skip)]
    Later(u8),
}

/// The kinds in the order of their numbers in stored rows, which begin at 1.
const KINDS: [EventKind; 8] = [
    EventKind::Message,
    EventKind::System,
    EventKind::Joined,
    EventKind::Left,
    EventKind::Changed,
    EventKind::Edited,
    EventKind::Deleted,
    EventKind::Reaction,
];

impl EventKind {
    /// Returns whether an event of this kind raises `count`, and thereby the number of unread messages.
    #[must_use]
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Message | Self::System)
    }

    /// Returns the number of this kind in stored rows.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::System => 2,
            Self::Joined => 3,
            Self::Left => 4,
            Self::Changed => 5,
            Self::Edited => 6,
            Self::Deleted => 7,
            Self::Reaction => 8,
            Self::Later(number) => number,
        }
    }

    /// Returns the kind that has this number in stored rows.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        KINDS.into_iter().find(|kind| kind.number() == number).unwrap_or(Self::Later(number))
    }
}

/// The end of a room's timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The seq of the last durable event, or 0 before the first.
    pub seq: u64,
    /// The number of events so far that are messages or system messages.
    pub count: u64,
    /// The time of the last event.
    pub at: Millis,
}

/// One durable event of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The head after this event. Its seq is the event's place in the timeline.
    pub head: Head,
    /// The kind of the event.
    pub kind: EventKind,
    /// The user who caused the event.
    pub from: UserId,
    /// The sender's name for the event.
    pub nonce: Option<Nonce>,
    /// The whole frame of the client: `{"op":"event",…}`.
    pub frame: Bytes,
}

#[derive(Serialize)]
struct Frame<'a> {
    op: &'static str,
    room: &'a RoomId,
    seq: u64,
    count: u64,
    kind: EventKind,
    from: &'a UserId,
    at: Millis,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a Nonce>,
    #[serde(flatten)]
    content: &'a Content<'a>,
}

impl Event {
    /// Creates and encodes the event that follows `last` in `room`.
    #[must_use]
    pub fn next(
        room: &RoomId,
        last: Head,
        at: Millis,
        from: &UserId,
        nonce: Option<&Nonce>,
        content: &Content<'_>,
    ) -> Self {
        let kind = content.kind();
        let head = Head { seq: last.seq + 1, count: last.count + u64::from(kind.is_counted()), at: at.max(last.at) };
        let frame = encode_json(&Frame {
            op: "event",
            room,
            seq: head.seq,
            count: head.count,
            kind,
            from,
            at: head.at,
            // The nonce of a membership change is the session's own, and means nothing to clients.
            nonce: nonce.filter(|_| kind.is_counted()),
            content,
        });
        Self { head, kind, from: from.clone(), nonce: nonce.cloned(), frame: frame.into() }
    }

    /// Returns the users whom a `joined` or `left` event is about. Empty for other kinds.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        #[derive(Deserialize)]
        struct Users {
            #[serde(default)]
            users: Vec<UserId>,
        }
        match self.kind {
            EventKind::Joined | EventKind::Left => {
                serde_json::from_slice::<Users>(&self.frame).map(|frame| frame.users).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Returns why the users of a `left` event ceased to be members. `None` if they left by themselves, and for other
    /// kinds.
    #[must_use]
    pub fn reason(&self) -> Option<LeftReason> {
        #[derive(Deserialize)]
        struct Left {
            reason: Option<LeftReason>,
        }
        if self.kind != EventKind::Left {
            return None;
        }
        serde_json::from_slice::<Left>(&self.frame).ok()?.reason
    }

    /// Returns what a `changed` event changed. Nothing for other kinds.
    #[must_use]
    pub fn change(&self) -> RoomChange {
        if self.kind != EventKind::Changed {
            return RoomChange::default();
        }
        serde_json::from_slice(&self.frame).unwrap_or_default()
    }

    /// Returns whether this is a message of a user. A service may have the id of a user, and its events are not the
    /// user's.
    #[must_use]
    pub fn is_message_of(&self, user: &UserId) -> bool {
        self.kind == EventKind::Message && self.from == *user
    }

    /// Returns the users whom the event mentions.
    #[must_use]
    pub fn mentions(&self) -> Option<Mentions> {
        #[derive(Deserialize)]
        struct Mentioning {
            mentions: Option<Mentions>,
        }
        serde_json::from_slice::<Mentioning>(&self.frame).ok()?.mentions
    }

    /// Returns the first characters of `body.text`, which a list of rooms and a push show.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Frame {
            body: Option<Body>,
        }
        #[derive(Deserialize)]
        struct Body {
            text: Option<String>,
        }
        let text = serde_json::from_slice::<Frame>(&self.frame).ok()?.body?.text?;
        Some(text.chars().take(crate::limits::PREVIEW_CHARS).collect())
    }

    /// Returns the event as a preview for lists of rooms.
    #[must_use]
    pub fn preview(&self) -> Preview {
        let (seq, at) = (self.head.seq, self.head.at);
        Preview { seq, kind: self.kind, from: self.from.clone(), at, text: self.text() }
    }

    /// Encodes the client's frame for a user who is typing. The event is ephemeral and has no seq.
    #[must_use]
    pub fn typing(room: &RoomId, from: &UserId, at: Millis) -> Bytes {
        #[derive(Serialize)]
        struct Typing<'a> {
            op: &'static str,
            room: &'a RoomId,
            kind: &'static str,
            from: &'a UserId,
            at: Millis,
        }
        encode_json(&Typing { op: "event", room, kind: "typing", from, at }).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn a_message_is_the_clients_frame_with_the_body_as_it_was_sent() {
        let room = RoomId::parse("r1").unwrap();
        let ann = UserId::parse("ann").unwrap();
        let nonce = Nonce::parse("c-17").unwrap();
        let body: Box<RawValue> = serde_json::from_str(r#"{ "text" : "h\u00e9" }"#).unwrap();
        let last = Head { seq: 41, count: 38, at: Millis(5) };
        let content = Content::message(&body, None);
        let event = Event::next(&room, last, Millis(3), &ann, Some(&nonce), &content);
        assert_eq!(
            std::str::from_utf8(&event.frame).unwrap(),
            r#"{"op":"event","room":"r1","seq":42,"count":39,"kind":"message","from":"ann","at":5,"nonce":"c-17","body":{ "text" : "h\u00e9" }}"#
        );
        assert_eq!(event.text().as_deref(), Some("hé"));
    }

    #[test]
    fn every_kind_has_a_number_and_later_ones_keep_theirs() {
        for number in 0..=u8::MAX {
            let kind = EventKind::from_number(number);
            assert_eq!(kind.number(), number);
            assert_eq!(matches!(kind, EventKind::Later(_)), !(1..=8).contains(&number));
        }
        assert!(!EventKind::Later(9).is_counted());
    }

    #[test]
    fn a_join_names_its_users_and_is_not_counted() {
        let (room, ann, bob) =
            (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let users = [bob];
        let event = Event::next(
            &room,
            Head::default(),
            Millis(1),
            &ann,
            None,
            &Content::Joined { users: &users, by: Some(&ann) },
        );
        assert_eq!((event.head.seq, event.head.count), (1, 0));
        assert_eq!(event.users(), users);
    }
}
