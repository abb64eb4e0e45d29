//! The frames that clients send, in version 1 of the client protocol.

mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::verb::unsupported;
use crate::{Code, DeviceId, Fields, Nonce, Refusal, RoomId, RoomKind, UserId, Verb, limits};

/// A client's own name for a frame, which the answer repeats: an integer below 2^53 in size, so that every client reads
/// it as the same number, or a string of up to 64 bytes. It is kept as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameId(Box<str>);

impl FrameId {
    fn read(fields: &Fields<'_>) -> Result<Option<Self>, Refusal> {
        let Some(raw) = fields.raw("id") else { return Ok(None) };
        let text = raw.get();
        let fits = if text.starts_with('"') {
            serde_json::from_str::<String>(text).is_ok_and(|s| s.len() <= 64)
        } else {
            serde_json::from_str::<i64>(text).is_ok_and(|n| n.unsigned_abs() < limits::INTEGERS)
        };
        if fits {
            Ok(Some(Self(text.into())))
        } else {
            Err(Refusal::field("id", "must be an integer below 2^53 or a string of up to 64 bytes"))
        }
    }

    /// Returns the id as JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// The first frame of a session.
#[derive(Debug, Clone)]
pub struct Hello {
    /// The token, if it did not come with the upgrade.
    pub token: Option<String>,
    /// The device of the user. `None` if the client named none: the session then counts as a device of its own.
    pub device: Option<DeviceId>,
    /// The rooms that the client has open, each with the last seq that it saw.
    pub resume: Option<BTreeMap<RoomId, u64>>,
    /// The size of the first page of rooms.
    pub rooms: usize,
}

/// The request in a client's frame.
#[derive(Debug, Clone)]
pub enum ClientOp {
    /// Signs in.
    Hello(Hello),
    /// Renews the token.
    Token(String),
    /// Sends a request to a room.
    Room(RoomId, Verb),
    /// Reads a page of the user's rooms.
    Rooms {
        /// The end of the last page.
        cursor: Option<String>,
        /// The maximum number of rooms.
        limit: usize,
    },
    /// Replays what the client missed in these rooms, each given with the last seq that it saw.
    Resume(BTreeMap<RoomId, u64>),
    /// Asks for a sign of life.
    Ping,
    /// Answers a heartbeat.
    Pong,
}

/// One frame from a client.
#[derive(Debug, Clone)]
pub struct ClientFrame {
    /// The client's name for the frame.
    pub id: Option<FrameId>,
    /// The request.
    pub op: ClientOp,
}

impl ClientFrame {
    /// Reads one text frame of `user`. Before sign-in `user` is `None`, and only `hello` can be read. `fresh_nonce`
    /// names a creation for which the client gave no nonce.
    ///
    /// # Errors
    /// Returns the refusal, with the frame's id if that could be read.
    pub fn parse(
        text: &[u8],
        user: Option<&UserId>,
        fresh_nonce: impl FnOnce() -> Nonce,
    ) -> Result<Self, (Option<FrameId>, Refusal)> {
        let fields = Fields::parse(text).map_err(|refusal| (None, refusal))?;
        let id = FrameId::read(&fields).map_err(|refusal| (None, refusal))?;
        let op = fields.required::<String>("op");
        match op.and_then(|op| ClientOp::read(&op, &fields, user, fresh_nonce)) {
            Ok(op) => Ok(Self { id, op }),
            Err(refusal) => Err((id, refusal)),
        }
    }
}

impl ClientOp {
    /// Reads the request `op` of `user` from its fields, which need not be those of a frame. Before sign-in `user` is
    /// `None`. `fresh_nonce` names a creation for which there is no nonce.
    ///
    /// # Errors
    /// Returns the refusal, with the field and its rule.
    pub fn read(
        op: &str,
        fields: &Fields<'_>,
        user: Option<&UserId>,
        fresh_nonce: impl FnOnce() -> Nonce,
    ) -> Result<Self, Refusal> {
        let op = read_op(op, fields, user, fresh_nonce)?;
        rules::check(&op)?;
        Ok(op)
    }
}

fn read_op(
    op: &str,
    fields: &Fields<'_>,
    user: Option<&UserId>,
    fresh_nonce: impl FnOnce() -> Nonce,
) -> Result<ClientOp, Refusal> {
    let Some(user) = user else {
        return match op {
            "hello" => read_hello(fields).map(ClientOp::Hello),
            _ => Err(Refusal::new(Code::Unauthorized, "the first frame must be hello")),
        };
    };
    match op {
        "hello" => Err(Refusal::new(Code::Conflict, "this session is signed in already")),
        "token" => fields.required("token").map(ClientOp::Token),
        "rooms" => {
            Ok(ClientOp::Rooms { cursor: fields.optional("cursor")?, limit: read_rooms_limit(fields, "limit", 1)? })
        }
        "resume" => read_resume(fields)?.map(ClientOp::Resume).ok_or_else(|| Refusal::field("rooms", "is required")),
        "ping" => Ok(ClientOp::Ping),
        "pong" => Ok(ClientOp::Pong),
        "create" => read_create(fields, user, fresh_nonce),
        other => {
            let verb = Verb::read(other, fields).ok_or_else(|| unsupported(other))??;
            if !verb.is_for_clients() {
                return Err(unsupported(other));
            }
            Ok(ClientOp::Room(fields.required("room")?, verb))
        }
    }
}

fn read_hello(fields: &Fields<'_>) -> Result<Hello, Refusal> {
    Ok(Hello {
        token: fields.optional("token")?,
        device: fields.optional("device")?,
        resume: read_resume_field(fields, "resume")?,
        rooms: read_rooms_limit(fields, "rooms", 0)?,
    })
}

fn read_rooms_limit(fields: &Fields<'_>, name: &str, least: usize) -> Result<usize, Refusal> {
    let limit = fields.optional(name)?.unwrap_or(limits::PAGE_ROOMS_DEFAULT);
    if !(least..=limits::PAGE_ROOMS).contains(&limit) {
        return Err(Refusal::field(name, format!("must be from {least} to {}", limits::PAGE_ROOMS)));
    }
    Ok(limit)
}

fn read_resume(fields: &Fields<'_>) -> Result<Option<BTreeMap<RoomId, u64>>, Refusal> {
    read_resume_field(fields, "rooms")
}

fn read_resume_field(fields: &Fields<'_>, name: &str) -> Result<Option<BTreeMap<RoomId, u64>>, Refusal> {
    let rooms: Option<BTreeMap<RoomId, u64>> = fields.optional(name)?;
    if rooms.as_ref().is_some_and(|rooms| rooms.len() > limits::RESUME_ROOMS) {
        return Err(Refusal::too_large(name, format!("{} rooms", limits::RESUME_ROOMS)));
    }
    if rooms.as_ref().is_some_and(|rooms| rooms.values().any(|seq| *seq >= limits::INTEGERS)) {
        return Err(Refusal::field(name, "must name seqs below 2^53"));
    }
    Ok(rooms)
}

/// Reads a creation. The id of its room is the chosen one, or follows from the two users of a direct room, or from
/// creator and nonce.
fn read_create(fields: &Fields<'_>, user: &UserId, fresh_nonce: impl FnOnce() -> Nonce) -> Result<ClientOp, Refusal> {
    let nonce = fields.optional("nonce")?.unwrap_or_else(fresh_nonce);
    let verb = Verb::read_create(fields, nonce.clone())?;
    let chosen: Option<String> = fields.optional("room")?;
    let Verb::Create { kind, members, .. } = &verb else { return Err(unsupported("create")) };
    let room = match (kind, members.first(), chosen) {
        (RoomKind::Direct, _, Some(_)) => return Err(Refusal::field("room", "must not be chosen for a direct room")),
        (RoomKind::Direct, Some(other), None) if other == user => {
            return Err(Refusal::field("members", "must name another user than yourself"));
        }
        (RoomKind::Direct, Some(other), None) => RoomId::direct(user, other),
        (_, _, Some(chosen)) => RoomId::parse_chosen(&chosen).map_err(|rule| Refusal::field("room", rule))?,
        (_, _, None) => RoomId::created(user, &nonce),
    };
    Ok(ClientOp::Room(room, verb))
}
