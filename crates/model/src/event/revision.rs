//! Revisions: what `edited` and `deleted` events change of the messages before them.
//!
//! The row of the message is overwritten, so that whoever reads it later gets the new body, or none. It names the event
//! that revised it last, as `edited` or `deleted`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Content, Event, EventKind, Frame, Message};
use crate::{Mentions, RoomId, encode_json};

/// What an `edited` or `deleted` event changes.
#[derive(Debug, Clone)]
pub struct MessageRevision {
    /// The seq of the message.
    pub target: u64,
    /// The seq of the event that revises it. Of two revisions the later one counts.
    pub by: u64,
    /// The new body. `None` if the message is deleted.
    pub body: Option<Box<RawValue>>,
}

/// A reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reaction {
    /// The seq of the message.
    #[serde(rename = "ref")]
    pub target: u64,
    /// The reaction.
    pub emoji: String,
    /// Whether it is taken back.
    #[serde(default)]
    pub remove: bool,
}

/// The fields of a stored message, or of an edit, that a revision needs.
#[derive(Deserialize)]
struct Revisable {
    room: RoomId,
    #[serde(rename = "ref")]
    target: Option<u64>,
    mentions: Option<Mentions>,
    edited: Option<u64>,
    deleted: Option<u64>,
}

impl Event {
    /// Returns what an `edited` or `deleted` event changes. `None` for other kinds, and for an edit whose body is gone
    /// because a later revision took its place.
    #[must_use]
    pub fn revision(&self) -> Option<MessageRevision> {
        #[derive(Deserialize)]
        struct Revising<'a> {
            #[serde(rename = "ref")]
            target: u64,
            #[serde(borrow)]
            body: Option<&'a RawValue>,
            edited: Option<u64>,
            deleted: Option<u64>,
        }
        if !matches!(self.kind, EventKind::Edited | EventKind::Deleted) {
            return None;
        }
        let Revising { target, body, edited, deleted } = serde_json::from_slice(&self.frame).ok()?;
        let is_current = edited.is_none() && deleted.is_none();
        is_current.then(|| MessageRevision { target, by: self.head.seq, body: body.map(ToOwned::to_owned) })
    }

    /// Returns what a `reaction` event says. `None` for other kinds.
    #[must_use]
    pub fn reaction(&self) -> Option<Reaction> {
        if self.kind == EventKind::Reaction { serde_json::from_slice(&self.frame).ok() } else { None }
    }

    /// Returns the message as a revision leaves it. Of an edit of the message it leaves no body. `None` for other
    /// kinds, and if a later revision was made already.
    #[must_use]
    pub fn revised(&self, revision: &MessageRevision) -> Option<Self> {
        if !self.kind.is_counted() && self.kind != EventKind::Edited {
            return None;
        }
        let message: Revisable = serde_json::from_slice(&self.frame).ok()?;
        if message.edited.max(message.deleted).is_some_and(|known| known >= revision.by) {
            return None;
        }
        let blank = RawValue::from_string("{}".to_owned()).ok()?;
        let (edited, deleted) = match revision.body {
            Some(_) => (Some(revision.by), None),
            None => (None, Some(revision.by)),
        };
        let body = revision.body.as_deref().unwrap_or(&blank);
        let mentions = message.mentions.as_ref().filter(|_| revision.body.is_some());
        let content = match self.kind {
            EventKind::Message => Content::Message(Message { edited, deleted, body, mentions }),
            EventKind::System => Content::System(Message { edited, deleted, body, mentions }),
            _ => Content::Edited { target: message.target?, edited, deleted, body: &blank },
        };
        let frame = encode_json(&Frame {
            op: "event",
            room: &message.room,
            seq: self.head.seq,
            count: self.head.count,
            kind: self.kind,
            from: &self.from,
            at: self.head.at,
            nonce: self.nonce.as_ref().filter(|_| self.kind.is_counted()),
            content: &content,
        });
        Some(Self { frame: frame.into(), ..self.clone() })
    }

    /// Returns the seq of the event that edited this message last. `None` if none did.
    #[must_use]
    pub fn edited_by(&self) -> Option<u64> {
        if !self.kind.is_counted() {
            return None;
        }
        serde_json::from_slice::<Revisable>(&self.frame).ok()?.edited
    }

    /// Returns whether this is a message that was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        // Nearly all messages have a body, which need not be read.
        self.kind.is_counted()
            && self.frame.ends_with(br#""body":{}}"#)
            && serde_json::from_slice::<Revisable>(&self.frame).is_ok_and(|message| message.deleted.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Head, Millis, Nonce, UserId};

    fn body(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn message() -> Event {
        let (room, ann) = (RoomId::parse("r\"1").unwrap(), UserId::parse("ann").unwrap());
        let body = body(r#"{ "text" : "secret" }"#);
        let mentions = Mentions::Users(vec!["bob".into()]);
        let content = Content::message(&body, Some(&mentions));
        let nonce = Nonce::parse("n").unwrap();
        Event::next(&room, Head::default(), Millis(5), &ann, Some(&nonce), &content)
    }

    fn frame(event: &Event) -> &str {
        std::str::from_utf8(&event.frame).unwrap()
    }

    #[test]
    fn an_edited_message_has_the_new_body_and_a_deleted_one_none() {
        let edit = MessageRevision { target: 1, by: 7, body: Some(body(r#"{"text":"better"}"#)) };
        let edited = message().revised(&edit).unwrap();
        let head = r#"{"op":"event","room":"r\"1","seq":1,"count":1,"kind":"message","from":"ann","at":5,"nonce":"n""#;
        let wanted = format!(r#"{head},"edited":7,"body":{{"text":"better"}},"mentions":["bob"]}}"#);
        assert_eq!((frame(&edited), edited.edited_by(), edited.is_deleted()), (wanted.as_str(), Some(7), false));
        let deleted = edited.revised(&MessageRevision { target: 1, by: 9, body: None }).unwrap();
        assert_eq!(frame(&deleted), format!(r#"{head},"deleted":9,"body":{{}}}}"#));
        assert_eq!((deleted.is_deleted(), deleted.edited_by(), deleted.text()), (true, None, None));
        assert_eq!((deleted.head, deleted.kind, deleted.nonce), (edited.head, edited.kind, edited.nonce));
    }

    #[test]
    fn an_earlier_revision_changes_nothing_after_a_later_one() {
        let deleted = message().revised(&MessageRevision { target: 1, by: 9, body: None }).unwrap();
        for by in [7, 9] {
            assert_eq!(deleted.revised(&MessageRevision { target: 1, by, body: Some(body("{}")) }), None);
        }
        assert!(!message().is_deleted() && message().edited_by().is_none());
    }

    #[test]
    fn revisions_and_reactions_are_read_from_their_events() {
        let (room, ann) = (RoomId::parse("r").unwrap(), UserId::parse("ann").unwrap());
        let next = |content: &Content<'_>| Event::next(&room, Head::default(), Millis(1), &ann, None, content);
        let new = body(r#"{"text":"x"}"#);
        let edited = next(&Content::edit(4, &new));
        let revision = edited.revision().unwrap();
        assert_eq!((revision.target, revision.by, revision.body.unwrap().get()), (4, 1, new.get()));
        // A later revision takes its body.
        let by = |by, body| edited.revised(&MessageRevision { target: 4, by, body }).unwrap();
        let head = r#"{"op":"event","room":"r","seq":1,"count":0,"kind":"edited","from":"ann","at":1,"ref":4"#;
        assert_eq!(frame(&by(7, None)), format!(r#"{head},"deleted":7,"body":{{}}}}"#));
        assert_eq!(frame(&by(7, Some(new))), format!(r#"{head},"edited":7,"body":{{}}}}"#));
        assert!(by(7, None).revision().is_none());
        assert!(next(&Content::Deleted { target: 4 }).revision().is_some_and(|revision| revision.body.is_none()));
        let reaction = next(&Content::Reaction { target: 4, emoji: "👍", remove: false });
        assert_eq!((reaction.revision().is_none(), reaction.head.count), (true, 0));
        assert_eq!(reaction.reaction(), Some(Reaction { target: 4, emoji: "👍".into(), remove: false }));
        assert!(message().revision().is_none() && message().reaction().is_none());
    }
}
