//! What can go wrong between a client and the server.

use std::fmt;

use sendpi_model::{Code, Refusal};

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code, where the server sent a close frame.
    pub code: Option<u16>,
    /// The words beside the code, or what broke.
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

/// Why something asked for was not done, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none that this client can connect to.
    #[error("{0} is no address of a Sendpi server: {1}")]
    Address(String, String),
    /// The connection could not be made, or the handshake was refused.
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
    /// The answer is not what the protocol says.
    #[error("unexpected answer: {0}")]
    Answer(#[from] serde_json::Error),
}

impl ClientError {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// Whether it may have been done all the same: a send is to be repeated with the same nonce and `retry`.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code == Code::Unavailable,
            Self::Closed(_) | Self::Timeout(_) => true,
            _ => false,
        }
    }
}
