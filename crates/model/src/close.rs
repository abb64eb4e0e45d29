//! WebSocket close codes: 4000–4099 come back and resume, 4100–4199 do not come back without a change.

/// Why the server ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The client closed, or the server is done with it for no fault of either.
    Normal = 1000,
    /// A frame above 64 KiB.
    TooBig = 1009,
    /// The node drains: reconnect after the delay that `bye` told.
    Drain = 4000,
    /// The client reads too slowly for what it is due.
    TooSlow = 4001,
    /// No answer to a heartbeat.
    NoSignOfLife = 4002,
    /// The same device signed in again.
    Replaced = 4003,
    /// No valid sign-in.
    NotSignedIn = 4100,
    /// The token's `exp` has passed.
    TokenExpired = 4101,
    /// Signed out by an operator.
    SignedOut = 4102,
    /// Frames that cannot be read.
    Unreadable = 4103,
    /// Too many frames.
    TooManyFrames = 4104,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// A few words beside the number.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::TooBig => "frame too large",
            Self::Drain => "drain",
            Self::TooSlow => "reads too slowly",
            Self::NoSignOfLife => "no sign of life",
            Self::Replaced => "replaced by the same device",
            Self::NotSignedIn => "not signed in",
            Self::TokenExpired => "token expired",
            Self::SignedOut => "signed out",
            Self::Unreadable => "frames that cannot be read",
            Self::TooManyFrames => "too many frames",
        }
    }
}
