//! What the writer's thread does with a batch.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use sendpi_model::Partition;

use super::Clock;
use super::encode::EncodedRow;
use super::expiry::Sweep;
use super::merge::merge;
use super::table::{Table, Tables};
use super::value::decode_json;
use super::writer::{CommitError, Disk};
use crate::Fence;

/// The fences, in memory: one process writes them, so this is what the store holds, and reading it costs no look into the engine
/// after every batch of every channel.
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

    fn set(&self, fences: Vec<(Partition, Fence)>) {
        if !fences.is_empty() {
            self.0.write().unwrap_or_else(PoisonError::into_inner).extend(fences);
        }
    }
}

fn decode(key: &[u8], value: &[u8]) -> Option<(Partition, Fence)> {
    let partition = Partition(u16::from_be_bytes(key.try_into().ok()?));
    Some((partition, decode_json(value).ok()?))
}

/// The engine as its writer sees it.
pub(super) struct Engine {
    tables: Tables,
    fences: Fences,
    sweep: Sweep,
    clock: Clock,
}

impl Engine {
    pub(super) fn new(tables: Tables, fences: Fences, clock: Clock) -> Self {
        Self { tables, fences, sweep: Sweep::default(), clock }
    }
}

impl Disk for Engine {
    fn commit(&mut self, puts: Vec<EncodedRow>) -> Result<(), CommitError> {
        let puts = merge(puts, |table, key| self.tables.get(table, key))
            .map_err(|error| CommitError::Failed(error.to_string()))?;
        let raised = puts
            .iter()
            .filter(|put| put.table == Table::Fence)
            .filter_map(|put| decode(&put.key, &put.value))
            .collect();
        self.tables.commit(puts).map_err(|error| match error {
            // The engine looks for an earlier failure before it touches anything.
            fjall::Error::Poisoned => CommitError::Closed(error.to_string()),
            _ => CommitError::Unknown(error.to_string()),
        })?;
        self.fences.set(raised);
        Ok(())
    }

    fn tidy(&mut self) {
        if let Err(error) = self.sweep.round((self.clock)(), &self.tables) {
            tracing::warn!(%error, "expired rows could not be removed");
        }
    }
}
