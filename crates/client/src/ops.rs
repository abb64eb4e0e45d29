//! The protocol's requests as typed methods.

use std::collections::BTreeMap;

use sendpi_model::server_frame::{EventFrame, MembersPage, Resumed, RoomsPage};
use sendpi_model::{Millis, Notify, Role, RoomInfo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Client, ClientError};

/// The part of a timeline to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The newest events.
    Newest,
    /// The events before this seq.
    Before(u64),
    /// The events after this seq.
    After(u64),
}

/// The optional fields of a `send`.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// The client's name for this send.
    pub nonce: Option<String>,
    /// The seq of the room that was known at the first try. It is set on every try but the first.
    pub retry: Option<u64>,
    /// The users whom the message mentions.
    pub mentions: Vec<String>,
}

impl SendOptions {
    /// Returns options with a nonce and nothing else.
    #[must_use]
    pub fn nonce(nonce: impl Into<String>) -> Self {
        Self { nonce: Some(nonce.into()), ..Self::default() }
    }
}

/// The answer to `send`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Sent {
    /// The event's place in the timeline.
    pub seq: u64,
    /// The room's count after the event.
    pub count: u64,
    /// The time of the event.
    pub at: Millis,
    /// Whether the nonce was already known, so that this is the result of the first send.
    #[serde(default)]
    pub repeat: bool,
}

/// The answer to `history`, which is a page of events, oldest first.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The events.
    pub events: Vec<EventFrame>,
    /// Whether there are more events in the requested direction.
    pub more: bool,
}

#[derive(Deserialize)]
struct Created {
    info: RoomInfo,
}

impl Client {
    async fn ask<T: DeserializeOwned>(&self, request: Value) -> Result<T, ClientError> {
        Ok(serde_json::from_value(self.request(request).await?)?)
    }

    /// Creates a room with `members` in addition to the caller.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn create(&self, name: &str, members: &[&str]) -> Result<RoomInfo, ClientError> {
        self.create_with(json!({"name": name, "members": members})).await
    }

    /// Creates a room. `fields` may hold any of the fields of `create`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn create_with(&self, mut fields: Value) -> Result<RoomInfo, ClientError> {
        fields["op"] = "create".into();
        Ok(self.ask::<Created>(fields).await?.info)
    }

    /// Makes users members of a room.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn invite(&self, room: &str, users: &[&str]) -> Result<(), ClientError> {
        self.request(json!({"op": "invite", "room": room, "users": users})).await.map(drop)
    }

    /// Ends the membership of another user.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn kick(&self, room: &str, user: &str) -> Result<(), ClientError> {
        self.request(json!({"op": "kick", "room": room, "user": user})).await.map(drop)
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn change_role(&self, room: &str, user: &str, role: Role) -> Result<(), ClientError> {
        self.request(json!({"op": "role", "room": room, "user": user, "role": role})).await.map(drop)
    }

    /// Changes the name of a room, or who may join it. `fields` are those of `change`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn change(&self, room: &str, mut fields: Value) -> Result<(), ClientError> {
        fields["op"] = "change".into();
        fields["room"] = room.into();
        self.request(fields).await.map(drop)
    }

    /// Chooses which messages of a room are pushed to the caller.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn choose_notify(&self, room: &str, notify: Notify) -> Result<(), ClientError> {
        self.request(json!({"op": "notify", "room": room, "notify": notify})).await.map(drop)
    }

    /// Becomes a member of an open room.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn join(&self, room: &str) -> Result<(), ClientError> {
        self.request(json!({"op": "join", "room": room})).await.map(drop)
    }

    /// Ends the caller's own membership.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn leave(&self, room: &str) -> Result<(), ClientError> {
        self.request(json!({"op": "leave", "room": room})).await.map(drop)
    }

    /// Sends a message with a text, once.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn send(&self, room: &str, text: &str) -> Result<Sent, ClientError> {
        self.send_with(room, json!({"text": text}), SendOptions::default()).await
    }

    /// Sends a message with any body.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn send_with(&self, room: &str, body: Value, options: SendOptions) -> Result<Sent, ClientError> {
        let mut request = json!({"op": "send", "room": room, "body": body});
        if let Some(nonce) = options.nonce {
            request["nonce"] = nonce.into();
        }
        if let Some(retry) = options.retry {
            request["retry"] = retry.into();
        }
        if !options.mentions.is_empty() {
            request["mentions"] = options.mentions.into();
        }
        self.ask(request).await
    }

    /// Reads a page of a timeline with at most `limit` messages.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn history(&self, room: &str, range: Range, limit: usize) -> Result<History, ClientError> {
        let mut request = json!({"op": "history", "room": room, "limit": limit});
        match range {
            Range::Newest => {}
            Range::Before(seq) => request["before"] = seq.into(),
            Range::After(seq) => request["after"] = seq.into(),
        }
        self.ask(request).await
    }

    /// Reads a page of the caller's rooms.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn rooms(&self, cursor: Option<&str>, limit: usize) -> Result<RoomsPage, ClientError> {
        self.ask(json!({"op": "rooms", "cursor": cursor, "limit": limit})).await
    }

    /// Marks a room as read up to `seq`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn read(&self, room: &str, seq: u64) -> Result<(), ClientError> {
        self.request(json!({"op": "read", "room": room, "seq": seq})).await.map(drop)
    }

    /// Tells the other members that the caller is typing. There is no answer.
    ///
    /// # Errors
    /// [`ClientError::Closed`] if the connection has ended.
    pub async fn typing(&self, room: &str) -> Result<(), ClientError> {
        self.send_text(json!({"op": "typing", "room": room}).to_string()).await
    }

    /// Asks for a replay of missed events. The events arrive in [`Frames`](crate::Frames) before the answer.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn resume(&self, rooms: &BTreeMap<String, u64>) -> Result<Resumed, ClientError> {
        self.ask(json!({"op": "resume", "rooms": rooms})).await
    }

    /// Reads a page of a room's members.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn members(&self, room: &str, cursor: Option<&str>, limit: usize) -> Result<MembersPage, ClientError> {
        self.ask(json!({"op": "members", "room": room, "cursor": cursor, "limit": limit})).await
    }

    /// Replaces the session's token. Returns the time when the new one expires.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn renew(&self, token: &str) -> Result<Millis, ClientError> {
        let answer = self.request(json!({"op": "token", "token": token})).await?;
        Ok(serde_json::from_value(answer["expires_at"].clone())?)
    }

    /// Sends a `ping` and waits for the server's answer.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.request(json!({"op": "ping"})).await.map(drop)
    }
}
