//! The protocol's requests, in types.

use std::collections::BTreeMap;

use sendpi_model::server_frame::{EventFrame, MembersPage, Resumed, RoomsPage};
use sendpi_model::{Millis, RoomInfo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Client, ClientError};

/// Which part of a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The newest events.
    Newest,
    /// Those before this seq.
    Before(u64),
    /// Those after this seq.
    After(u64),
}

/// What goes beside a message's text.
#[derive(Debug, Clone, Default)]
pub struct SendOptions {
    /// The client's name for this send.
    pub nonce: Option<String>,
    /// On every try but the first: the seq of the room that was known at the first.
    pub retry: Option<u64>,
    /// Whom it mentions.
    pub mentions: Vec<String>,
}

impl SendOptions {
    /// With a nonce.
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
    /// The count after it.
    pub count: u64,
    /// When it happened.
    pub at: Millis,
    /// Whether the nonce was known: this is the result of the first send.
    #[serde(default)]
    pub repeat: bool,
}

/// The answer to `history`: a page of events, oldest first.
#[derive(Debug, Clone, Deserialize)]
pub struct History {
    /// The events.
    pub events: Vec<EventFrame>,
    /// Whether there are more in the direction asked for.
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

    /// Makes a room with these first members beside oneself.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn create(&self, name: &str, members: &[&str]) -> Result<RoomInfo, ClientError> {
        self.create_with(json!({"name": name, "members": members})).await
    }

    /// Makes a room with any of the fields of `create`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn create_with(&self, mut fields: Value) -> Result<RoomInfo, ClientError> {
        fields["op"] = "create".into();
        Ok(self.ask::<Created>(fields).await?.info)
    }

    /// Makes users members.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn invite(&self, room: &str, users: &[&str]) -> Result<(), ClientError> {
        self.request(json!({"op": "invite", "room": room, "users": users})).await.map(drop)
    }

    /// Becomes a member of an open room.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn join(&self, room: &str) -> Result<(), ClientError> {
        self.request(json!({"op": "join", "room": room})).await.map(drop)
    }

    /// Ceases to be a member.
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

    /// Reads a page of a timeline, of so many messages.
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

    /// Reads a page of one's rooms.
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

    /// Tells the others that one types; there is no answer.
    ///
    /// # Errors
    /// [`ClientError::Closed`] where the connection has ended.
    pub async fn typing(&self, room: &str) -> Result<(), ClientError> {
        self.send_text(json!({"op": "typing", "room": room}).to_string()).await
    }

    /// Has replayed what was missed; the events come as frames before the answer.
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

    /// Renews the token; tells until when it is good.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn renew(&self, token: &str) -> Result<Millis, ClientError> {
        let answer = self.request(json!({"op": "token", "token": token})).await?;
        Ok(serde_json::from_value(answer["expires_at"].clone())?)
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn ping(&self) -> Result<(), ClientError> {
        self.request(json!({"op": "ping"})).await.map(drop)
    }
}
