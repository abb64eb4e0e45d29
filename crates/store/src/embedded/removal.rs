//! Removes what is left of rooms that were deleted.

use std::ops::Bound;

use sendpi_model::{Partition, RoomId};

use super::Inner;
use super::key::RowKey;
use super::store::PIECE;
use super::table::{Table, Tables};
use super::timeline::timeline_range;
use crate::{TIMELINE_BUCKET, WriteError};

/// The tables whose keys begin with the room.
const TABLES: [Table; 3] = [Table::Starts, Table::Members, Table::Pushed];

fn unknown(error: impl std::fmt::Display) -> WriteError {
    WriteError::Unknown(error.to_string())
}

/// Removes all that a range has, a few rows at a time. Returns how many there were.
fn remove_all(tables: &Tables, table: Table, mut rows: impl Iterator<Item = fjall::Guard>) -> fjall::Result<usize> {
    let mut removed = 0;
    loop {
        let keys: Vec<_> = rows.by_ref().take(PIECE).map(fjall::Guard::key).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Ok(removed);
        }
        removed += keys.len();
        tables.remove_durably(table, keys)?;
    }
}

impl Inner {
    pub(super) async fn remove_events(&self, room: &RoomId, piece: u64) -> Result<usize, WriteError> {
        let opened = self.opened().map_err(|error| WriteError::Failed(error.to_string()))?;
        let first = piece * TIMELINE_BUCKET;
        let rows = timeline_range(&opened, room, &(first..=first + (TIMELINE_BUCKET - 1)));
        // Each piece of it waits for the disk.
        let removed = tokio::task::spawn_blocking(move || remove_all(&opened.tables, Table::Timeline, rows));
        removed.await.map_err(unknown)?.map_err(unknown)
    }

    pub(super) async fn remove_room(&self, partition: Partition, room: &RoomId) -> Result<(), WriteError> {
        let opened = self.opened().map_err(|error| WriteError::Failed(error.to_string()))?;
        let prefix = RowKey::of_id(room.as_str()).bytes();
        let key = RowKey::of_partition(partition).last_id(room.as_str()).bytes();
        let removed = tokio::task::spawn_blocking(move || {
            let tables = &opened.tables;
            // The row of `pushed` has the same key.
            for table in TABLES {
                remove_all(tables, table, tables.prefix(table, &prefix))?;
            }
            let row = tables.range(Table::DeletedRooms, Bound::Included(&key), Bound::Included(&key));
            remove_all(tables, Table::DeletedRooms, row)
        });
        removed.await.map_err(unknown)?.map(drop).map_err(unknown)
    }
}
