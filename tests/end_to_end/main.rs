//! Tests of a whole Sendpi from outside: real processes, real sockets, a real browser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faults;
mod messages;
mod page;
mod resume;
mod socket;
mod typing;
