//! Stamps, which order the writes of one row.

use serde::{Deserialize, Serialize};

/// Which of two writes of a row is the later one. Two different rows of one key never have the same stamp, because a
/// database that compares timestamps could then keep one column of each.
///
/// A stamp is the seq that the row follows, and a turn among the rows that follow the same seq. As one number
/// ([`Stamp::number`]) it has the turn in its lowest 16 bits. A cluster refuses timestamps that are days ahead of its
/// clock in microseconds (ScyllaDB: `restrict_future_timestamp`), which this number reaches at a seq of 2³⁴.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "(u64, u16)", from = "StoredStamp")]
pub struct Stamp {
    seq: u64,
    turn: u16,
}

/// The first turn of rows that are written before the fence.
const BEFORE_FENCE: u16 = 0x8000;

impl Stamp {
    /// Returns the stamp of a row that the event with this seq made as it is.
    #[must_use]
    pub const fn of(seq: u64) -> Self {
        Self { seq, turn: 0 }
    }

    /// Returns the stamp of a row that is written before the fence is passed, when the timeline ends at `head`. The
    /// epoch may turn out to be over. Then such a row gives way to what the next owner writes, because the next owner's
    /// timeline ends there or later. It stays among the rows of owners whose events up to `head` counted.
    #[must_use]
    pub const fn before_fence(head: u64, epoch: u64) -> Self {
        Self { seq: head, turn: BEFORE_FENCE | (epoch as u16 & (BEFORE_FENCE - 1)) }
    }

    /// Returns the next stamp. Beyond 65,535 turns it is one of the next seq, so callers end their turns before that.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.turn.checked_add(1) {
            Some(turn) => Self { seq: self.seq, turn },
            None => Self::of(self.seq + 1),
        }
    }

    /// Returns the seq that the row follows.
    #[must_use]
    pub const fn seq(self) -> u64 {
        self.seq
    }

    /// Returns the stamp that is this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        Self { seq: number >> 16, turn: number as u16 }
    }

    /// Returns the stamp as one number, in the same order.
    #[must_use]
    pub const fn number(self) -> u64 {
        (self.seq << 16) | self.turn as u64
    }
}

/// A stamp as rows hold it.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredStamp {
    Seq(u64),
    Turn(u64, u16),
}

impl From<StoredStamp> for Stamp {
    fn from(stored: StoredStamp) -> Self {
        match stored {
            // As the first releases wrote it.
            StoredStamp::Seq(seq) => Self::of(seq),
            StoredStamp::Turn(seq, turn) => Self { seq, turn },
        }
    }
}

impl From<Stamp> for (u64, u16) {
    fn from(stamp: Stamp) -> Self {
        (stamp.seq, stamp.turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_with_the_seq_and_then_with_the_turn() {
        let rising = [
            Stamp::default(),
            Stamp::before_fence(0, 7),
            Stamp::before_fence(0, 8),
            Stamp::of(1),
            Stamp::of(1).next(),
            Stamp::before_fence(1, 1),
            Stamp::of(2),
        ];
        assert!(rising.is_sorted_by(|a, b| a < b && a.number() < b.number()), "{rising:?}");
        assert!(rising.iter().all(|stamp| Stamp::from_number(stamp.number()) == *stamp));
        assert_eq!(Stamp { seq: 4, turn: u16::MAX }.next(), Stamp::of(5));
    }

    #[test]
    fn a_stamp_comes_back_and_a_seq_is_read_as_one() {
        let stamp = Stamp::of(7).next();
        let json = serde_json::to_string(&stamp).unwrap();
        assert_eq!((json.as_str(), serde_json::from_str(&json).ok()), ("[7,1]", Some(stamp)));
        assert_eq!(serde_json::from_str::<Stamp>("7").ok(), Some(Stamp::of(7)));
    }
}
