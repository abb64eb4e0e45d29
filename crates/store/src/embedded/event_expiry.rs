//! Removes events whose time is over, a few at a time. Nobody reads them any more, but they take up space.
//!
//! It looks at every event once a day, which is the least time for which any is kept: a room may have kept some of its
//! events for longer than those that followed.

use std::ops::Bound;
use std::time::Duration;

use sendpi_model::Millis;

use super::encode::has_expired;
use super::table::{Table, Tables};

/// The interval between two rounds of a pass.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// The time from the end of a pass to the beginning of the next one.
const PASS_EVERY: Duration = Duration::from_hours(24);
/// The number of events that one round examines, which takes some milliseconds.
const EVENTS: usize = 4096;

/// The position of the sweep.
#[derive(Debug, Default)]
pub(super) struct EventExpirySweep {
    due: Millis,
    cursor: Vec<u8>,
}

impl EventExpirySweep {
    /// Examines the next events and removes those that have expired at `now`. Does nothing if no round is due.
    pub(super) fn round(&mut self, now: Millis, tables: &Tables) -> fjall::Result<()> {
        if now < self.due {
            return Ok(());
        }
        let (mut expired, mut examined) = (Vec::new(), 0);
        for row in tables.range(Table::Timeline, Bound::Excluded(&self.cursor), Bound::Unbounded).take(EVENTS) {
            let (key, value) = row.into_inner()?;
            examined += 1;
            if examined == EVENTS {
                self.cursor = key.to_vec();
            }
            if has_expired(&value, now) {
                expired.push(key);
            }
        }
        if examined == EVENTS {
            self.due = now.after(ROUND_EVERY);
        } else {
            *self = Self { due: now.after(PASS_EVERY), cursor: Vec::new() };
        }
        tables.remove(Table::Timeline, expired)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sendpi_model::{Event, EventKind, Head, RoomId, UserId};

    use super::super::encode::EncodedRow;
    use super::*;
    use crate::{EventRow, Row};

    fn event(room: &str, seq: u64, expires: Option<u64>) -> EncodedRow {
        let (head, from) = (Head { seq, count: seq, at: Millis(seq) }, UserId::parse("ann").unwrap());
        let event = Event { head, kind: EventKind::Message, from, nonce: None, frame: Bytes::from_static(b"{}") };
        let row = EventRow { epoch: 1, event, expires: expires.map(Millis) };
        EncodedRow::of(&Row::Event(RoomId::parse(room).unwrap(), row)).unwrap()
    }

    #[test]
    fn what_has_expired_goes_wherever_it_is_and_a_round_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let tables = Tables::open(dir.path()).unwrap();
        let soon = Millis(1).after(PASS_EVERY).0;
        let mut puts =
            vec![event("a", 1, None), event("a", 2, Some(9)), event("a", 3, Some(soon)), event("a", 4, Some(9))];
        puts.extend((1..=EVENTS as u64).map(|seq| event("b", seq, Some(1))));
        tables.commit(puts).unwrap();
        let mut sweep = EventExpirySweep::default();
        let mut left = |now| {
            sweep.round(now, &tables).unwrap();
            tables.prefix(Table::Timeline, &[]).count()
        };
        assert_eq!(left(Millis(9)), 2 + 4);
        assert_eq!(left(Millis(10)), 2 + 4, "between rounds nothing is done");
        let next = Millis(9).after(ROUND_EVERY);
        assert_eq!(left(next), 2);
        assert_eq!(left(Millis(soon)), 2, "the next pass is a day later");
        assert_eq!(left(next.after(PASS_EVERY)), 1);
    }
}
