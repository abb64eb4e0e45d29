//! The limits of this version. `welcome` reports those in [`crate::server_frame::WelcomeLimits`] to clients.

/// Integers of the protocol are below this, so that every client's JSON can represent them.
pub const INTEGERS: u64 = 1 << 53;
/// The maximum size of a message body, in bytes.
pub const BODY_BYTES: usize = 16 * 1024;
/// The maximum nesting depth of a body's JSON.
pub const BODY_DEPTH: usize = 32;
/// The maximum size of a client's frame, in bytes. A larger frame ends the session with close code 1009.
pub const FRAME_BYTES: usize = 64 * 1024;
/// The maximum number of members of one room.
pub const ROOM_MEMBERS: usize = 1_000;
/// The maximum number of days for which a room may keep its events, unless it keeps them for ever: ten years.
pub const RETENTION_DAYS: u16 = 3_650;
/// The maximum number of users who are banned from one room.
pub const ROOM_BANS: usize = 1_000;
/// The maximum number of rooms of one user.
pub const USER_ROOMS: usize = 10_000;
/// The maximum number of sessions of one user on one node.
pub const USER_SESSIONS: usize = 20;
/// The maximum number of devices of one user that have a push address.
pub const USER_DEVICES: usize = 20;
/// The maximum length of the name of a push service, in bytes.
pub const PUSH_KIND_BYTES: usize = 32;
/// The maximum length of a push address, in bytes. Those of web push are the longest, as a subscription in JSON.
pub const PUSH_ADDRESS_BYTES: usize = 4096;
/// The maximum number of unanswered requests of one session.
pub const SESSION_REQUESTS: usize = 64;
/// The maximum number of unanswered requests of all sessions of one user on one node: a sixteenth of what a flow holds.
pub const USER_REQUESTS: usize = 256;
/// The maximum number of users in one request (`create`, `invite`).
pub const USERS_PER_REQUEST: usize = 100;
/// The maximum number of users that one message may mention.
pub const MENTIONS: usize = 50;
/// The maximum length of a reaction, in bytes. The longest emoji of Unicode 16 has 35.
pub const EMOJI_BYTES: usize = 64;
/// The maximum number of messages of one `history` page.
pub const PAGE_MESSAGES: usize = 200;
/// A `history` page holds at most this many events for each requested message.
pub const PAGE_EVENTS_PER_MESSAGE: usize = 4;
/// The maximum size of a `history` page, in bytes. A page of this size fits in one NATS message.
pub const PAGE_BYTES: usize = 512 * 1024;
/// The maximum number of rooms of one `rooms` page, and of the first page in `welcome`.
pub const PAGE_ROOMS: usize = 200;
/// The number of rooms of a page whose size the client did not choose.
pub const PAGE_ROOMS_DEFAULT: usize = 50;
/// The maximum number of members of one `members` page.
pub const PAGE_MEMBERS: usize = 500;
/// The maximum number of rooms of one `resume`.
pub const RESUME_ROOMS: usize = 100;
/// The maximum number of events replayed for one room of a `resume`.
pub const RESUME_ROOM_EVENTS: usize = 1_000;
/// The maximum number of events replayed in one `resume`.
pub const RESUME_EVENTS: usize = 5_000;
/// The maximum length of a room's name, in bytes.
pub const NAME_BYTES: usize = 256;
/// The maximum length of a preview of the last message, in characters.
pub const PREVIEW_CHARS: usize = 200;
/// How far back a nonce is looked up, in events. A retry from further back is refused with `conflict`.
pub const NONCE_LOOKBACK: u64 = 20_000;
