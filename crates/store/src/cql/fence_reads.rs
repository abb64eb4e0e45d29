//! Reads of fences: one for all that wait. Whoever asks is answered by a read that began afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sendpi_model::Partition;
use tokio::sync::oneshot;

use super::client::CqlClient;
use super::statements::Read;
use crate::{Fence, ReadError};

type FenceResult = Result<Vec<Fence>, ReadError>;

/// Somebody who waits for the fences of a partition.
#[derive(Debug)]
struct Waiting {
    from: u64,
    answer: oneshot::Sender<FenceResult>,
}

/// The partitions whose fences are being read, and who waits for the next read of each.
type Reading = Arc<Mutex<HashMap<Partition, Vec<Waiting>>>>;

/// Reads fences.
#[derive(Debug)]
pub(super) struct FenceReads {
    client: CqlClient,
    reading: Reading,
}

impl FenceReads {
    pub(super) fn new(client: CqlClient) -> Self {
        Self { client, reading: Reading::default() }
    }

    /// Returns the fences of a partition from an epoch on, ordered by epoch and then by claim.
    pub(super) async fn read(&self, partition: Partition, from: u64) -> FenceResult {
        let (answer, fences) = oneshot::channel();
        let is_idle = {
            let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            let is_idle = !reading.contains_key(&partition);
            reading.entry(partition).or_default().push(Waiting { from, answer });
            is_idle
        };
        if is_idle {
            tokio::spawn(read_until_nobody_waits(self.client.clone(), Arc::clone(&self.reading), partition));
        }
        fences.await.unwrap_or_else(|_| Err(ReadError("the read of the fence ended early".into())))
    }
}

async fn read_until_nobody_waits(client: CqlClient, reading: Reading, partition: Partition) {
    loop {
        let waiting = {
            let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = reading.get_mut(&partition).map(std::mem::take).unwrap_or_default();
            if waiting.is_empty() {
                reading.remove(&partition);
                return;
            }
            waiting
        };
        let from = waiting.iter().map(|waiting| waiting.from).min().unwrap_or_default();
        let values = (i32::from(partition.0), from as i64);
        let fences = client.all::<(i64, String), _>(Read::Fences, &values).await.map(|rows| {
            let mut fences: Vec<Fence> =
                rows.into_iter().map(|(epoch, claim)| Fence { epoch: epoch as u64, claim }).collect();
            fences.sort_by(|a, b| (a.epoch, &a.claim).cmp(&(b.epoch, &b.claim)));
            fences
        });
        for Waiting { from, answer } in waiting {
            let fences = fences.clone().map(|mut fences| {
                fences.retain(|fence| fence.epoch >= from);
                fences
            });
            // Whoever asked may have stopped waiting.
            let _ = answer.send(fences);
        }
    }
}
