//! The small set of codes that clients see, and the refusal that carries one.

use serde::{Deserialize, Serialize};

/// What a client is told when something could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The frame is not one JSON object with an `op`.
    BadFrame,
    /// A field is missing or breaks its rule; `field` names it.
    BadField,
    /// Something is longer or larger than its limit.
    TooLarge,
    /// The server does not know this operation.
    Unsupported,
    /// Not signed in, or not with a valid token.
    Unauthorized,
    /// The user's role does not allow it.
    Forbidden,
    /// The room is open, and the user has not joined it.
    NotAMember,
    /// There is no such room for this user.
    NoSuchRoom,
    /// There is no such event in the room.
    NoSuchEvent,
    /// It contradicts what already is.
    Conflict,
    /// Too many requests; `retry_in_ms` tells when to come back.
    RateLimited,
    /// It could not be done now, and may have been done: send again with the same nonce and `retry`.
    Unavailable,
    /// A defect of the server.
    Internal,
}

/// A request that is refused: the code, a sentence for the developer, and the field that is to blame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal.
    pub code: Code,
    /// What was wrong and which rule it broke.
    pub message: String,
    /// The field that broke the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When it is worth trying again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

impl Refusal {
    /// A refusal with a code and a sentence.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, retry_in_ms: None }
    }

    /// A field that breaks `rule`, which reads on from the field's name: "must be …".
    #[must_use]
    pub fn field(name: &str, rule: impl std::fmt::Display) -> Self {
        Self { field: Some(name.to_owned()), ..Self::new(Code::BadField, format!("{name} {rule}")) }
    }

    /// A field that is longer or larger than `limit`.
    #[must_use]
    pub fn too_large(name: &str, limit: impl std::fmt::Display) -> Self {
        Self { field: Some(name.to_owned()), ..Self::new(Code::TooLarge, format!("{name} must be at most {limit}")) }
    }

    /// It may have been done or not; the client sends again with the same nonce.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, retry_in_ms: u64) -> Self {
        Self { retry_in_ms: Some(retry_in_ms), ..Self::new(Code::Unavailable, message) }
    }

    /// There is no such room for this user.
    #[must_use]
    pub fn no_such_room() -> Self {
        Self::new(Code::NoSuchRoom, "there is no such room")
    }
}
