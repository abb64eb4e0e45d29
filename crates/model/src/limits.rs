//! The limits of this version, in one place. Each is told to clients in `welcome` where it concerns them.

/// A message body, in bytes.
pub const BODY_BYTES: usize = 16 * 1024;
/// How deep a body's JSON may nest.
pub const BODY_DEPTH: usize = 32;
/// A client's frame, in bytes; a larger one ends the session with close code 1009.
pub const FRAME_BYTES: usize = 64 * 1024;
/// Members of one room.
pub const ROOM_MEMBERS: usize = 1_000;
/// Rooms of one user.
pub const USER_ROOMS: usize = 10_000;
/// Sessions of one user on one node.
pub const USER_SESSIONS: usize = 20;
/// Unanswered requests of one session.
pub const SESSION_REQUESTS: usize = 64;
/// Users named in one request (`create`, `invite`).
pub const USERS_PER_REQUEST: usize = 100;
/// Users mentioned in one message.
pub const MENTIONS: usize = 50;
/// Messages of one `history` page.
pub const PAGE_MESSAGES: usize = 200;
/// A `history` page holds at most this many events for each message asked for.
pub const PAGE_EVENTS_PER_MESSAGE: usize = 4;
/// A page is cut at this many bytes, so that it fits one NATS message.
pub const PAGE_BYTES: usize = 512 * 1024;
/// Rooms of one `rooms` page, and of the first page in `welcome`.
pub const PAGE_ROOMS: usize = 200;
/// Rooms of a first page whose size the client did not choose.
pub const PAGE_ROOMS_DEFAULT: usize = 50;
/// Members of one `members` page.
pub const PAGE_MEMBERS: usize = 500;
/// Rooms of one `resume`.
pub const RESUME_ROOMS: usize = 100;
/// Events replayed for one room of a `resume`.
pub const RESUME_ROOM_EVENTS: usize = 1_000;
/// Events replayed in one `resume`.
pub const RESUME_EVENTS: usize = 5_000;
/// A room's name, in bytes.
pub const NAME_BYTES: usize = 256;
/// A preview of the last message, in characters.
pub const PREVIEW_CHARS: usize = 200;
/// How far back a nonce is looked for, in events; further back is `conflict`.
pub const NONCE_LOOKBACK: u64 = 20_000;
