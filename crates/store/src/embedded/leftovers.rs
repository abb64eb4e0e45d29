//! Removes rows that no read needs any more, a few at a time: records of what was settled in older epochs, fences of
//! older epochs, starts outside the chain, and the rows of members who left and are not banned.
//!
//! *Records:* the newest one of a partition says that all older epochs are settled. *Fences:* so does the highest one.
//!
//! *Starts:* rows of an epoch outside the chain are void with or without its start. A start is removed only while the
//! newest one is that of the fence. A later owner writes its fence before it reads the starts, so it reads this newest
//! one, and continues it or what it continues. Nobody will ever name the removed one.
//!
//! *Members who left:* their row among the members of the room keeps out a late write of an older join. The writes of
//! this store come from one process, in order, and the jobs of a room one after the other. So once the room's head row
//! is at or above the row's stamp, no older write can come any more. The events that activation applies again are the
//! end of the timeline, which has the leave wherever it has the join. The row among the rooms of the user stays: it
//! tells in which rooms a user who is to be forgotten may have written something.

use std::ops::Bound;
use std::time::Duration;

use fjall::{UserKey, UserValue};
use sendpi_model::{Head, Millis, Partitions, RoomId};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::encode::{decode_json, stamp};
use super::key::{RowKey, split_id};
use super::opened::Opened;
use super::table::Table;
use crate::{EpochChain, Stamp, Start};

/// The interval between two rounds of a pass.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// The time from the end of a pass to the beginning of the next one.
const PASS_EVERY: Duration = Duration::from_hours(1);
/// The number of rows that one round examines, which takes about a millisecond.
const ROWS: usize = 1024;

/// The tables in the order in which they are swept.
const TABLES: [Table; 4] = [Table::Settled, Table::Fence, Table::Starts, Table::Members];

type StoredRow = (UserKey, UserValue);

/// The position of the sweep.
#[derive(Debug, Default)]
pub(super) struct LeftoverSweep {
    due: Millis,
    table: usize,
    cursor: Vec<u8>,
}

impl LeftoverSweep {
    /// Examines the next rows and removes what is left over. Does nothing if no round is due.
    pub(super) fn round(&mut self, now: Millis, opened: &Opened) -> fjall::Result<()> {
        if now < self.due {
            return Ok(());
        }
        self.due = now.after(ROUND_EVERY);
        let Some(table) = TABLES.get(self.table).copied() else {
            *self = Self { due: now.after(PASS_EVERY), ..Self::default() };
            return Ok(());
        };
        let from = Bound::Included(self.cursor.as_slice());
        let rows = opened.tables.range(table, from, Bound::Unbounded).take(ROWS).map(fjall::Guard::into_inner);
        let rows: Vec<StoredRow> = rows.collect::<Result<_, _>>()?;
        let whole = self.advance(table, &rows);
        let groups = rows[..whole].chunk_by(|(a, _), (b, _)| group(table, a) == group(table, b));
        let mut left_over = Vec::new();
        for rows in groups {
            match table {
                Table::Settled => left_over.extend(rows[..rows.len() - 1].iter().map(|(key, _)| key.clone())),
                Table::Fence => left_over.extend(lower_fences(rows)),
                Table::Starts => left_over.extend(unchained(rows, opened)),
                _ => {
                    let (key, value) = &rows[0];
                    if has_left(key, value, opened)? {
                        left_over.push(key.clone());
                    }
                }
            }
        }
        opened.tables.remove(table, left_over)
    }

    /// Moves on behind the rows that can be judged now, and returns how many these are. The last group of a full round
    /// may go on behind it, so it is read again, or at least its last row if it is the only group.
    fn advance(&mut self, table: Table, rows: &[StoredRow]) -> usize {
        let Some((last, _)) = rows.last().filter(|_| rows.len() == ROWS) else {
            self.table += 1;
            self.cursor.clear();
            return rows.len();
        };
        let last_group = group(table, last);
        if last_group.len() == last.len() {
            self.cursor = [&last[..], &[0]].concat();
            return rows.len();
        }
        let begins = rows.iter().position(|(key, _)| group(table, key) == last_group).unwrap_or_default();
        let (next, whole) = if begins == 0 { (last, rows.len()) } else { (&rows[begins].0, begins) };
        self.cursor = next.to_vec();
        whole
    }
}

/// Returns the part of a key that is common to the rows that are judged together.
fn group(table: Table, key: &[u8]) -> &[u8] {
    let length = match table {
        Table::Settled | Table::Fence => 2,
        Table::Starts => key.iter().position(|byte| *byte == 0).unwrap_or(key.len()),
        _ => key.len(),
    };
    key.get(..length).unwrap_or(key)
}

/// Returns the keys of a partition's fences below the highest epoch. All values begin with the epoch.
fn lower_fences(rows: &[StoredRow]) -> Vec<UserKey> {
    let highest = rows.iter().filter_map(|(_, value)| stamp(value)).max();
    rows.iter().filter(|(_, value)| stamp(value) < highest).map(|(key, _)| key.clone()).collect()
}

/// Returns the keys of a room's starts that are outside the chain. Empty if the room was not opened under the present
/// fence, or if anything cannot be read.
fn unchained(rows: &[StoredRow], opened: &Opened) -> Vec<UserKey> {
    let chain = || {
        let room = RoomId::parse(split_id(&rows.first()?.0)?.0).ok()?;
        let count = opened.tables.get(Table::Partitions, &RowKey::default().number(0).bytes()).ok()??;
        let partition = Partitions::new(decode_json(&count).ok()?)?.of(&room);
        let epoch = opened.fences.highest(partition).first()?.epoch;
        let starts: Vec<Start> = rows.iter().map(|(_, value)| decode_json(value)).collect::<Result<_, _>>().ok()?;
        let chain = EpochChain::of(&starts);
        (chain.newest()?.epoch == epoch).then_some((chain, starts))
    };
    let Some((chain, starts)) = chain() else { return Vec::new() };
    let outside = rows.iter().zip(starts).filter(|(_, start)| !chain.has(start.epoch));
    outside.map(|((key, _), _)| key.clone()).collect()
}

/// Returns whether the row is of a user who left before the head row of the room.
fn has_left(key: &[u8], value: &[u8], opened: &Opened) -> fjall::Result<bool> {
    #[derive(Deserialize)]
    struct LeftRow {
        stamp: Stamp,
        role: Option<IgnoredAny>,
        #[serde(default)]
        banned: bool,
    }
    #[derive(Deserialize)]
    struct RoomHead {
        head: Head,
    }
    // A row that cannot be read stays.
    let Ok(LeftRow { stamp, role: None, banned: false }) = decode_json(value) else { return Ok(false) };
    let Some((room, _)) = split_id(key) else { return Ok(false) };
    let row = opened.tables.get(Table::Rooms, &RowKey::of_id(room).bytes())?;
    let head = row.and_then(|row| decode_json::<RoomHead>(&row).ok()).map(|room| room.head.seq);
    Ok(head.is_some_and(|head| stamp.seq() <= head))
}

#[cfg(test)]
mod tests;
