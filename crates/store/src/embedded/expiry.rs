//! Removes expired rows, a few at a time.
//!
//! Readers never read expired rows, nor the tombstones that their removal leaves behind. Both are outside the
//! ranges that readers request.

use std::ops::Bound;
use std::time::Duration;

use sendpi_model::{Millis, Partition};

use super::KEPT;
use super::key::{RowKey, split_id};
use super::table::{Table, Tables};

/// The interval between two rounds of a pass.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// The time from the end of a pass to the beginning of the next one.
const PASS_EVERY: Duration = Duration::from_hours(1);
/// The maximum number of users or partitions that one round examines.
const STEPS: usize = 256;
/// The maximum number of rows that one round removes.
const REMOVALS: usize = 4096;

/// The tables whose rows expire.
const TABLES: [Table; 2] = [Table::Order, Table::ActiveRooms];

/// The position of the sweep.
#[derive(Debug, Default)]
pub(super) struct ExpirySweep {
    due: Millis,
    table: usize,
    cursor: Vec<u8>,
}

/// The key range of the expired rows of one user or partition, and the key at which the next one begins.
struct Expired {
    low: Vec<u8>,
    high: Vec<u8>,
    next: Vec<u8>,
}

impl ExpirySweep {
    /// Removes what has expired at `now`, up to the limits of one round. Does nothing if no round is due.
    pub(super) fn round(&mut self, now: Millis, tables: &Tables) -> fjall::Result<()> {
        if now < self.due {
            return Ok(());
        }
        self.due = now.after(ROUND_EVERY);
        let mut budget = REMOVALS;
        for _ in 0..STEPS {
            let Some(table) = TABLES.get(self.table).copied() else {
                *self = Self { due: now.after(PASS_EVERY), ..Self::default() };
                return Ok(());
            };
            let from = Bound::Included(self.cursor.as_slice());
            let first = tables.range(table, from, Bound::Unbounded).next();
            let Some(first) = first.map(fjall::Guard::key).transpose()? else {
                self.table += 1;
                self.cursor.clear();
                continue;
            };
            let Some(expired) = expired(table, &first, now.before(KEPT)) else {
                tracing::error!(?table, "a key cannot be read; the rest of its table is not swept");
                self.table += 1;
                self.cursor.clear();
                continue;
            };
            let (low, high) = (Bound::Included(&*expired.low), Bound::Excluded(&*expired.high));
            let keys: Vec<_> =
                tables.range(table, low, high).take(budget).map(fjall::Guard::key).collect::<Result<_, _>>()?;
            budget -= keys.len();
            tables.remove(table, keys)?;
            if budget == 0 {
                // The next round begins with the same user or partition.
                return Ok(());
            }
            self.cursor = expired.next;
        }
        Ok(())
    }
}

/// Returns what has expired of the user or partition to which `key` belongs: everything before `cutoff`. `None` if
/// the key cannot be read.
fn expired(table: Table, key: &[u8], cutoff: Millis) -> Option<Expired> {
    match table {
        Table::Order => {
            let (user, _) = split_id(key)?;
            // The newest rows come first, so what has expired comes after the rows at the cutoff.
            let mut next = user.as_bytes().to_vec();
            next.push(1);
            let low = RowKey::of_id(user).falling(cutoff.0).after_ids().bytes();
            Some(Expired { low, high: next.clone(), next })
        }
        _ => {
            let partition = Partition(u16::from_be_bytes(*key.first_chunk()?));
            let next = match partition.0.checked_add(1) {
                Some(next) => RowKey::of_partition(Partition(next)).bytes(),
                None => vec![0xff; 3],
            };
            let low = RowKey::of_partition(partition).bytes();
            Some(Expired { low, high: RowKey::of_partition(partition).number(cutoff.minute()).bytes(), next })
        }
    }
}

#[cfg(test)]
mod tests {
    use sendpi_model::{RoomId, UserId};

    use super::super::encode::EncodedRow;
    use super::*;
    use crate::{ActiveRoom, OrderRow, Row};

    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn rows(tables: &Tables) -> [usize; 2] {
        TABLES.map(|table| tables.prefix(table, &[]).count())
    }

    /// Creates `users` users and as many partitions, each with one row per day from 1 to `days`.
    fn filled(path: &std::path::Path, users: u16, days: u64) -> Tables {
        let tables = Tables::open(path).unwrap();
        let room = RoomId::parse("r").unwrap();
        let mut puts = Vec::new();
        for n in 0..users {
            for day in 1..=days {
                let (user, room) = (UserId::parse(&format!("u{n}")).unwrap(), room.clone());
                let order = Row::Order(OrderRow { user, active_at: Millis(day * DAY), room: room.clone() });
                let active = ActiveRoom { partition: Partition(n), minute: day * DAY / 60_000, room };
                puts.extend([EncodedRow::of(&order).unwrap(), EncodedRow::of(&Row::ActiveRoom(active)).unwrap()]);
            }
        }
        tables.commit(puts).unwrap();
        tables
    }

    #[test]
    fn what_is_older_than_seven_days_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let tables = filled(dir.path(), 3, 10);
        let mut sweep = ExpirySweep::default();
        sweep.round(Millis(10 * DAY), &tables).unwrap();
        // Days 3 to 10 are not older than seven days.
        assert_eq!(rows(&tables), [24, 24]);
        // The pass has ended. The next one begins after an hour.
        let next = Millis(10 * DAY).after(PASS_EVERY);
        sweep.round(Millis(next.0 - 1), &tables).unwrap();
        assert_eq!(rows(&tables), [24, 24]);
        sweep.round(next, &tables).unwrap();
        assert_eq!(rows(&tables), [21, 21]);
    }

    #[test]
    fn a_round_is_bounded_and_the_next_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let tables = filled(dir.path(), 300, 20);
        let mut sweep = ExpirySweep::default();
        let mut now = Millis(100 * DAY);
        sweep.round(now, &tables).unwrap();
        assert_eq!(rows(&tables), [6000 - REMOVALS, 6000]);
        sweep.round(now, &tables).unwrap();
        assert_eq!(rows(&tables), [6000 - REMOVALS, 6000], "between rounds nothing is done");
        for _ in 0..4 {
            now = now.after(ROUND_EVERY);
            sweep.round(now, &tables).unwrap();
        }
        assert_eq!(rows(&tables), [0, 0]);
    }
}
