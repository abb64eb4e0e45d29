//! The format of a link: the numbered messages of one worker to one node, as a version byte and length-prefixed items.
//!
//! A message is `version u8 · what u8 · incarnation u64 · number u64 · item*`.
//! An item is `length u32 · kind u8 · payload`. Numbers are little-endian. A text is a `u16` length and UTF-8. The
//! bytes after the last fixed field of a payload are its JSON. Items of an unknown kind are skipped, so that
//! neighbouring releases work together.

mod item;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

pub use item::{AudienceAdded, AudienceReason, AudienceRemoved, LinkItem, encode_item};

/// The version of this format.
pub const VERSION: u8 = 1;
const HEADER: usize = 18;
const ITEMS: u8 = 1;
const ANNOUNCEMENT: u8 = 2;

/// The reason why a message of a link cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The message is of a version that this release does not know.
    #[error("link version {0} is not supported")]
    Version(u8),
    /// The message ends too early, or something in it is not valid.
    #[error("not a link message")]
    Malformed,
}

/// The first bytes of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkHeader {
    /// The incarnation of the link. A new one begins with an empty audience.
    pub incarnation: u64,
    /// The number of the message, from 1. In an announcement, the last number so far.
    pub number: u64,
    /// Whether the message is an announcement. An announcement has no items and no number of its own. It is sent
    /// every second, so that the node notices the loss of a last message.
    pub is_announcement: bool,
}

impl LinkHeader {
    /// Begins a message with this header. Items follow.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[VERSION, if self.is_announcement { ANNOUNCEMENT } else { ITEMS }]);
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

/// Reads the header of a message, and returns it with the items of the message.
///
/// # Errors
/// Returns [`LinkError`] if the message is not of this format.
pub fn read_message(mut message: Bytes) -> Result<(LinkHeader, LinkItems), LinkError> {
    let version = *message.first().ok_or(LinkError::Malformed)?;
    if version != VERSION {
        return Err(LinkError::Version(version));
    }
    if message.len() < HEADER {
        return Err(LinkError::Malformed);
    }
    message.advance(1);
    let is_announcement = match message.get_u8() {
        ANNOUNCEMENT => true,
        ITEMS => false,
        _ => return Err(LinkError::Malformed),
    };
    let header = LinkHeader { is_announcement, incarnation: message.get_u64_le(), number: message.get_u64_le() };
    Ok((header, LinkItems(message)))
}

/// The items of one message, in order.
#[derive(Debug, Clone)]
pub struct LinkItems(Bytes);

impl Iterator for LinkItems {
    type Item = Result<LinkItem, LinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.0.is_empty() {
                return None;
            }
            match self.step() {
                Ok(None) => {}
                Ok(Some(item)) => return Some(Ok(item)),
                Err(error) => {
                    self.0.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl LinkItems {
    /// Reads one item. `None` if its kind is unknown.
    fn step(&mut self) -> Result<Option<LinkItem>, LinkError> {
        let length = self.0.try_get_u32_le().map_err(|_| LinkError::Malformed)? as usize;
        if length == 0 || length > self.0.len() {
            return Err(LinkError::Malformed);
        }
        item::decode(self.0.split_to(length))
    }
}

/// A node's answer to a link, which says how far the node has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAck {
    /// The version of this format.
    pub v: u8,
    /// The incarnation that this answers.
    pub incarnation: u64,
    /// The highest number up to which the node has received every message.
    #[serde(rename = "has")]
    pub received: u64,
    /// The highest number up to which every event was confirmed by a device or by a bounce.
    pub settled: u64,
    /// Whether the node knows of a later number and has not received the messages in between.
    /// The worker resends them at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gap: bool,
}

impl LinkAck {
    /// Encodes the answer.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        crate::encode_json(self).into()
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// Returns [`LinkError`] if the answer is not of this format.
    pub fn parse(bytes: &[u8]) -> Result<Self, LinkError> {
        let ack: Self = serde_json::from_slice(bytes).map_err(|_| LinkError::Malformed)?;
        if ack.v == VERSION { Ok(ack) } else { Err(LinkError::Version(ack.v)) }
    }
}
