//! Tests of a whole Sendpi from outside: real processes, real sockets, a real browser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod activation;
mod buckets;
mod clocks;
mod crash;
mod delivery;
mod devices;
mod drain;
mod faults;
mod fence;
mod frozen;
mod many;
mod messages;
mod mutants;
mod nonce;
mod page;
mod resume;
mod socket;
mod typing;
