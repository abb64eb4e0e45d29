//! The HTTP requests that Sendpi makes itself: for the keys of an identity provider, and to a push webhook.
//!
//! Each goes to an address that an operator configured, and nowhere else: redirects are not followed, and what a name
//! resolves to is checked at each connection, so that no answer of a DNS server leads into a private network.
//!
//! # Map
//! - `address`: which addresses are public. Pure.
//! - `client`: the client.

mod address;
mod client;

pub use address::is_public;
pub use client::{AddressRule, Fetch, FetchError, Fetched};
