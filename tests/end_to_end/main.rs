//! Tests of a whole Sendpi from outside: real processes, real sockets, a real browser.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod activation;
mod bodies;
mod buckets;
mod chat;
mod clocks;
mod crash;
mod ctl;
mod delivery;
mod dev;
mod devices;
mod direct;
mod docs;
mod drain;
mod faults;
mod fence;
mod forget;
mod frozen;
mod full_disk;
mod http;
mod ingest;
mod js;
mod many;
mod membership;
mod messages;
mod migrate;
mod mutants;
mod nats_rights;
mod nonce;
mod operator_pages;
mod page;
mod push;
mod rates;
mod restored;
mod resume;
mod retention;
mod rights;
mod serve;
mod slow;
mod socket;
mod tokens;
mod typing;
mod unreadable;
mod vanished;
mod zombie;
