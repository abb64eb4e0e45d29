//! A copy of the fences in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sendpi_model::Partition;

use super::encode::EncodedRow;
use super::table::{Table, Tables};
use super::value::decode_json;
use crate::Fence;

/// A copy of the fences in memory. It equals what the store holds, because one process writes them. It saves a read
/// from the engine after every batch of every channel.
#[derive(Debug, Clone, Default)]
pub(super) struct Fences(Arc<RwLock<HashMap<Partition, Fence>>>);

impl Fences {
    pub(super) fn load(tables: &Tables) -> Result<Self, String> {
        let mut fences = HashMap::new();
        for row in tables.prefix(Table::Fence, &[]) {
            let (key, value) = row.into_inner().map_err(|e| e.to_string())?;
            let (partition, fence) = decode(&key, &value).ok_or("a fence cannot be read")?;
            fences.insert(partition, fence);
        }
        Ok(Self(Arc::new(RwLock::new(fences))))
    }

    pub(super) fn get(&self, partition: Partition) -> Option<Fence> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    /// Returns the fences among rows that are about to be written.
    pub(super) fn among(rows: &[EncodedRow]) -> Vec<(Partition, Fence)> {
        rows.iter().filter(|row| row.table == Table::Fence).filter_map(|row| decode(&row.key, &row.value)).collect()
    }

    /// Stores fences that have become durable.
    pub(super) fn set(&self, fences: Vec<(Partition, Fence)>) {
        if !fences.is_empty() {
            self.0.write().unwrap_or_else(PoisonError::into_inner).extend(fences);
        }
    }
}

fn decode(key: &[u8], value: &[u8]) -> Option<(Partition, Fence)> {
    let partition = Partition(u16::from_be_bytes(key.try_into().ok()?));
    Some((partition, decode_json(value).ok()?))
}
