//! The errors of a client.

use std::fmt;

use sendpi_model::{Code, Refusal};

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code, if the server sent a close frame with one.
    pub code: Option<u16>,
    /// The reason in the close frame, or what broke the connection.
    pub reason: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "closed with {code} {}", self.reason),
            None => write!(f, "broken off: {}", self.reason),
        }
    }
}

/// The reason why a request failed, or why its outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client cannot connect to this address.
    #[error("{0} is not the address of a Sendpi server: {1}")]
    Address(String, String),
    /// The connection failed, or the handshake was refused.
    #[error("cannot connect: {0}")]
    Connect(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The server refused the request.
    #[error("refused with {:?}: {}", .0.code, .0.message)]
    Refused(Refusal),
    /// The connection ended before the answer came.
    #[error("the connection was {0}")]
    Closed(Closed),
    /// No answer came in time.
    #[error("no answer to {0} in time")]
    Timeout(String),
    /// The answer does not follow the protocol.
    #[error("unexpected answer: {0}")]
    Answer(#[from] serde_json::Error),
}

impl ClientError {
    /// Returns the code of a refusal, and `None` for other errors.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Returns whether the server may have carried the request out nevertheless. A send is then repeated with the same
    /// nonce and with `retry`.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code == Code::Unavailable,
            Self::Closed(_) | Self::Timeout(_) => true,
            _ => false,
        }
    }
}
