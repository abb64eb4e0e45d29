//! What the user tier knows of a socket, and what a gateway tells of who is behind it.

use std::io::{self, IoSlice};

use sendpi_model::{Millis, UserId};

/// The way out to one client: a socket that does not block.
pub trait Transport: Send + Sync + std::fmt::Debug + 'static {
    /// Writes as much as the socket takes now.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] where it takes nothing now; any other error ends the session.
    fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// Who signs in, as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which user.
    pub user: UserId,
    /// When the token ends.
    pub expires_at: Millis,
    /// Whether the token is a service's.
    pub service: bool,
}

/// How far a session's queue got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Nothing waits.
    Idle,
    /// The socket takes nothing now: flush again when it does.
    Blocked,
    /// Everything is written, the close frame last: the socket is to be closed.
    Ended,
}
