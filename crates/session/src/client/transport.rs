//! What the user tier knows of a socket, and of the client behind it.

use std::io::{self, IoSlice};

use sendpi_model::{Millis, UserId};

/// The writing side of a non-blocking socket to one client.
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Writes as much as the socket takes now.
    ///
    /// # Errors
    /// Returns [`io::ErrorKind::WouldBlock`] if the socket takes nothing now. Any other error but
    /// [`io::ErrorKind::Interrupted`] ends the session.
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// The identity of a client that signs in, taken from its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// When the token was issued. `None` if it does not say.
    pub issued_at: Option<Millis>,
    /// When the token expires.
    pub expires_at: Millis,
    /// Whether the token belongs to a service.
    pub service: bool,
}

/// The result of flushing a session's outbound queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Everything is written.
    Idle,
    /// The socket takes nothing now. Flush again when it is writable.
    Blocked,
    /// Everything is written, and the close frame was the last. Close the socket.
    Ended,
}
