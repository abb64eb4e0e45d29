//! WebSocket close codes. After 4000–4099 a client reconnects and resumes. After 4100–4199 it does not reconnect
//! until something has changed.

/// The reason why the server ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// The client closed the session, or the server ended it and neither is at fault.
    Normal = 1000,
    /// A frame is larger than 64 KiB.
    TooBig = 1009,
    /// The node is draining, or cannot serve the client at the moment. The client reconnects after the delay given
    /// in `bye` or in the refusal of its sign-in.
    Drain = 4000,
    /// The client reads too slowly to keep up with its events.
    TooSlow = 4001,
    /// The client did not answer a heartbeat in time.
    NoSignOfLife = 4002,
    /// There was no valid sign-in.
    NotSignedIn = 4100,
    /// The token's `exp` has passed.
    TokenExpired = 4101,
    /// An operator signed the user out.
    SignedOut = 4102,
    /// The client sent frames that cannot be read.
    Unreadable = 4103,
    /// The client sent too many frames.
    TooManyFrames = 4104,
    /// The same device has signed in again. Its older session must not come back, or the two would end each other for
    /// ever.
    Replaced = 4105,
    /// The user has signed in too often, and this session had been silent longest.
    TooManySessions = 4106,
}

impl CloseCode {
    /// Returns the number in the close frame.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// Returns the text beside the number.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::TooBig => "frame too large",
            Self::Drain => "drain",
            Self::TooSlow => "reads too slowly",
            Self::NoSignOfLife => "no sign of life",
            Self::NotSignedIn => "not signed in",
            Self::TokenExpired => "token expired",
            Self::SignedOut => "signed out",
            Self::Unreadable => "frames that cannot be read",
            Self::TooManyFrames => "too many frames",
            Self::Replaced => "replaced by the same device",
            Self::TooManySessions => "too many sessions of this user",
        }
    }
}
