//! The tables. Each is a keyspace of the engine. One of them, the fences, also has a copy in memory.

use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use fjall::{Database, Iter, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, UserValue};

use sendpi_model::Partition;

use super::encode::{EncodedRow, decode_json};
use crate::Fence;

/// One kind of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Partitions,
    Fence,
    Starts,
    Timeline,
    Rooms,
    Members,
    RoomsOfUser,
    Order,
    Markers,
    ActiveRooms,
    Settled,
    Pushed,
    Revoked,
    Devices,
    DeletedRooms,
}

impl Table {
    /// All tables, in the order of their numbers.
    pub(super) const ALL: [Self; 15] = [
        Self::Partitions,
        Self::Fence,
        Self::Starts,
        Self::Timeline,
        Self::Rooms,
        Self::Members,
        Self::RoomsOfUser,
        Self::Order,
        Self::Markers,
        Self::ActiveRooms,
        Self::Settled,
        Self::Pushed,
        Self::Revoked,
        Self::Devices,
        Self::DeletedRooms,
    ];

    /// The names of all tables, in the same order.
    pub(super) const NAMES: [&str; Self::ALL.len()] = [
        "partitions",
        "fence",
        "starts",
        "timeline",
        "rooms",
        "members",
        "rooms_of_user",
        "rooms_by_activity",
        "read_markers",
        "active_rooms",
        "settled",
        "pushed",
        "revoked",
        "devices",
        "deleted_rooms",
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Returns the size, in bytes, up to which rows stay in memory before they are written to a file. Timelines
    /// have the most rows.
    fn memory(self) -> u64 {
        const MIB: u64 = 1024 * 1024;
        if self == Self::Timeline { 32 * MIB } else { 8 * MIB }
    }
}

/// The engine with all tables open. Clones share the engine.
#[derive(Clone)]
pub(super) struct Tables {
    db: Database,
    keyspaces: [Keyspace; Table::ALL.len()],
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").finish_non_exhaustive()
    }
}

impl Tables {
    pub(super) fn open(path: &Path) -> fjall::Result<Self> {
        let db = Database::builder(path).open()?;
        let keyspaces = Table::ALL
            .iter()
            .map(|table| {
                db.keyspace(table.name(), || KeyspaceCreateOptions::default().max_memtable_size(table.memory()))
            })
            .collect::<fjall::Result<Vec<_>>>()?;
        // There are as many keyspaces as tables, by construction.
        let keyspaces = keyspaces.try_into().map_err(|_| fjall::Error::Unrecoverable)?;
        Ok(Self { db, keyspaces })
    }

    fn keyspace(&self, table: Table) -> &Keyspace {
        &self.keyspaces[table as usize]
    }

    /// Returns about how many rows a table has.
    pub(super) fn approximate_len(&self, table: Table) -> usize {
        self.keyspace(table).approximate_len()
    }

    /// Returns what is stored under `key`. A batch that is being applied is not visible.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> fjall::Result<Option<UserValue>> {
        self.db.snapshot().get(self.keyspace(table), key)
    }

    /// Returns what is stored under several keys, as of one moment.
    pub(super) fn get_all<'a>(
        &self,
        table: Table,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> fjall::Result<Vec<Option<UserValue>>> {
        let snapshot = self.db.snapshot();
        keys.map(|key| snapshot.get(self.keyspace(table), key)).collect()
    }

    /// Returns the rows from `low` to `high`, as of this moment. A batch that is being applied is not visible.
    pub(super) fn range(&self, table: Table, low: Bound<&[u8]>, high: Bound<&[u8]>) -> Iter {
        self.db.snapshot().range::<&[u8], _>(self.keyspace(table), (low, high))
    }

    /// Returns the rows whose keys begin with `prefix`.
    pub(super) fn prefix(&self, table: Table, prefix: &[u8]) -> Iter {
        self.db.snapshot().prefix(self.keyspace(table), prefix)
    }

    /// Writes all of `puts`, which contain each key at most once. They are durable before any reader sees them, and
    /// readers see them together.
    pub(super) fn commit(&self, puts: Vec<EncodedRow>) -> fjall::Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for put in puts {
            batch.insert(self.keyspace(put.table), put.key, put.value);
        }
        batch.commit()
    }

    /// Removes rows without waiting for the disk. Rows that a crash brings back are removed again later.
    pub(super) fn remove(&self, table: Table, keys: Vec<fjall::UserKey>) -> fjall::Result<()> {
        self.remove_with(None, table, keys)
    }

    /// Removes rows for ever.
    pub(super) fn remove_durably(&self, table: Table, keys: Vec<fjall::UserKey>) -> fjall::Result<()> {
        self.remove_with(Some(PersistMode::SyncData), table, keys)
    }

    fn remove_with(
        &self,
        durability: Option<PersistMode>,
        table: Table,
        keys: Vec<fjall::UserKey>,
    ) -> fjall::Result<()> {
        let mut batch = self.db.batch().durability(durability);
        for key in keys {
            batch.remove(self.keyspace(table), key);
        }
        batch.commit()
    }
}

/// A copy of the highest fences in memory: for each partition those of the highest epoch, and at most two of them. One
/// process writes them. It saves a read from the engine after every batch of every channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences(Arc<RwLock<HashMap<Partition, Vec<Fence>>>>);

impl Fences {
    pub(super) fn load(tables: &Tables) -> Result<Self, String> {
        let mut fences = HashMap::new();
        for row in tables.prefix(Table::Fence, &[]) {
            let (key, value) = row.into_inner().map_err(|e| e.to_string())?;
            let (partition, fence) = decode(&key, &value).ok_or("a fence cannot be read")?;
            add(&mut fences, partition, fence);
        }
        Ok(Self(Arc::new(RwLock::new(fences))))
    }

    /// Returns the fences of the highest epoch of a partition, ordered by claim.
    pub(super) fn highest(&self, partition: Partition) -> Vec<Fence> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned().unwrap_or_default()
    }

    /// Returns the fences among rows that are about to be written.
    pub(super) fn among(rows: &[EncodedRow]) -> Vec<(Partition, Fence)> {
        rows.iter().filter(|row| row.table == Table::Fence).filter_map(|row| decode(&row.key, &row.value)).collect()
    }

    /// Stores fences that have become durable.
    pub(super) fn set(&self, fences: Vec<(Partition, Fence)>) {
        if fences.is_empty() {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (partition, fence) in fences {
            add(&mut known, partition, fence);
        }
    }
}

fn add(fences: &mut HashMap<Partition, Vec<Fence>>, partition: Partition, fence: Fence) {
    let highest = fences.entry(partition).or_default();
    match highest.first().map(|known| known.epoch) {
        Some(known) if known > fence.epoch => {}
        Some(known) if known == fence.epoch => {
            if !highest.contains(&fence) && highest.len() < 2 {
                highest.push(fence);
                highest.sort_by(|a, b| a.claim.cmp(&b.claim));
            }
        }
        _ => *highest = vec![fence],
    }
}

fn decode(key: &[u8], value: &[u8]) -> Option<(Partition, Fence)> {
    // The first releases kept one fence for each partition, whose key ends here.
    let partition = Partition(u16::from_be_bytes(*key.first_chunk()?));
    Some((partition, decode_json(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_found_under_its_own_number() {
        for (number, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table as usize, number);
        }
        let names = [(Table::Fence, "fence"), (Table::Timeline, "timeline"), (Table::DeletedRooms, "deleted_rooms")];
        for (table, name) in names {
            assert_eq!(table.name(), name);
        }
    }
}
