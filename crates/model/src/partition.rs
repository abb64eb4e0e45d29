//! Partitions, the units in which rooms are owned.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::fnv1a_32;
use crate::{RoomId, subject_token};

/// One partition, numbered from 0 to P − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of partitions of a cluster (P), which is fixed when the cluster is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partitions(u16);

impl Partitions {
    /// The default P.
    pub const DEFAULT: Self = Self(64);

    /// Returns `None` if `count` is zero.
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (count > 0).then_some(Self(count))
    }

    /// Returns P.
    #[must_use]
    pub fn count(self) -> u16 {
        self.0
    }

    /// Returns all partitions, in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.0).map(Partition)
    }

    /// Returns the partition of a room: the 32-bit FNV-1a hash of the encoded room id, or of the encoded user id if
    /// the room is an inbox, modulo P. NATS uses the same hash for `{{partition(P,n)}}`, so a subject transform
    /// finds the same partition.
    #[must_use]
    pub fn of(self, room: &RoomId) -> Partition {
        let token = subject_token::encode(room.inbox_owner().unwrap_or(room.as_str()));
        Partition((fnv1a_32(token.as_bytes()) % u32::from(self.0)) as u16)
    }
}
