//! What a link carries: the numbered messages of one worker to one node, as a version byte and length-prefixed items.
//!
//! `version u8 · what u8 · incarnation u64 · number u64 · item*`, an item being `length u32 · kind u8 · payload`; numbers are little-endian,
//! texts are a `u16` length and UTF-8, and what follows the last fixed field of a payload is its JSON. Unknown kinds of items are
//! skipped, so that neighbouring releases work together.

mod item;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

pub use item::{AudienceAdded, AudienceReason, AudienceRemoved, LinkItem, encode_item};

/// The version of this format.
pub const VERSION: u8 = 1;
const HEADER: usize = 18;
const ITEMS: u8 = 1;
const ANNOUNCEMENT: u8 = 2;

/// Why a message of a link cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It is of a version that this release does not know.
    #[error("link version {0} is not known here")]
    Version(u8),
    /// It ends before it should, or a text in it is none.
    #[error("not a link message")]
    Malformed,
}

/// The first bytes of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkHeader {
    /// Which life of the link: a new one begins with an empty audience.
    pub incarnation: u64,
    /// The message's number, from 1; in a tell the last number so far.
    pub number: u64,
    /// A tell has no items and no number of its own: it is sent every second, so that a lost last message is noticed.
    pub is_announcement: bool,
}

impl LinkHeader {
    /// Begins a message; items follow.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[VERSION, if self.is_announcement { ANNOUNCEMENT } else { ITEMS }]);
        bytes.extend_from_slice(&self.incarnation.to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

/// Reads the header of a message, and gives the rest of it.
///
/// # Errors
/// [`LinkError`] where the message is not of this format.
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
    /// One item; `None` where its kind is unknown.
    fn step(&mut self) -> Result<Option<LinkItem>, LinkError> {
        let length = self.0.try_get_u32_le().map_err(|_| LinkError::Malformed)? as usize;
        if length == 0 || length > self.0.len() {
            return Err(LinkError::Malformed);
        }
        item::decode(self.0.split_to(length))
    }
}

/// A node's answer to a link: how far it has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAck {
    /// The version of this format.
    pub v: u8,
    /// The incarnation that is answered.
    pub incarnation: u64,
    /// The highest number that the node has without a hole before it.
    #[serde(rename = "has")]
    pub received: u64,
    /// The highest number of which every event was confirmed by a device or by a bounce.
    pub settled: u64,
    /// The node holds a later number and misses what lies between: send it again at once.
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
    /// [`LinkError`] where it is not of this format.
    pub fn parse(bytes: &[u8]) -> Result<Self, LinkError> {
        let ack: Self = serde_json::from_slice(bytes).map_err(|_| LinkError::Malformed)?;
        if ack.v == VERSION { Ok(ack) } else { Err(LinkError::Version(ack.v)) }
    }
}
