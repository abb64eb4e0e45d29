//! The error codes that clients see, and the refusal that carries one.

use serde::{Deserialize, Serialize};

/// The reason why a request was not fulfilled, as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Code {
    /// The frame is not one JSON object.
    BadFrame,
    /// A field is missing or breaks its rule. `field` names it.
    BadField,
    /// Something exceeds its limit.
    TooLarge,
    /// The server does not know this operation.
    Unsupported,
    /// The client is not signed in, or its token is not valid.
    Unauthorized,
    /// The user is not allowed to do this.
    Forbidden,
    /// The room is open, and the user has not joined it.
    NotAMember,
    /// The room does not exist, or it is hidden from this user.
    NoSuchRoom,
    /// The event does not exist in the room.
    NoSuchEvent,
    /// The request contradicts the present state.
    Conflict,
    /// There are too many requests. `retry_in_ms` says when to try again.
    RateLimited,
    /// The request cannot be fulfilled at the moment, but it may have been carried out. The client sends it again
    /// with the same nonce and `retry`.
    Unavailable,
    /// A defect of the server.
    Internal,
}

/// The refusal of a request: a code, a sentence for the developer, and the field at fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Refusal {
    /// The kind of refusal.
    pub code: Code,
    /// What was wrong, and which rule it broke.
    pub message: String,
    /// The field that broke the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How long to wait before trying again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
}

impl Refusal {
    /// Creates a refusal with a code and a sentence.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, retry_in_ms: None }
    }

    /// Refuses a field that breaks `rule`. The rule continues a sentence that begins with the field's name: "must
    /// be …".
    #[must_use]
    pub fn field(name: &str, rule: impl std::fmt::Display) -> Self {
        Self { field: Some(name.to_owned()), ..Self::new(Code::BadField, format!("{name} {rule}")) }
    }

    /// Refuses a field that exceeds `limit`.
    #[must_use]
    pub fn too_large(name: &str, limit: impl std::fmt::Display) -> Self {
        Self { field: Some(name.to_owned()), ..Self::new(Code::TooLarge, format!("{name} must be at most {limit}")) }
    }

    /// Refuses a request that may have been carried out or not. The client sends it again with the same nonce.
    #[must_use]
    pub fn unavailable(message: impl Into<String>, retry_in_ms: u64) -> Self {
        Self { retry_in_ms: Some(retry_in_ms), ..Self::new(Code::Unavailable, message) }
    }

    /// Refuses a request because the room does not exist for this user.
    #[must_use]
    pub fn no_such_room() -> Self {
        Self::new(Code::NoSuchRoom, "there is no such room")
    }
}
