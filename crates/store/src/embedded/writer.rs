//! The write path. Callers encode and queue their rows, and one thread writes them. Everything that was queued
//! while the last batch was written becomes the next batch. Rows of a batch that must give way to other rows are
//! left out ([`merge`]). The rest is written and synced once, and only then are the callers answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::Clock;
use super::encode::EncodedRow;
use super::expiry::ExpirySweep;
use super::merge::merge;
use super::table::{Fences, Tables};
use crate::{Row, WriteError};

/// The maximum number of queued writes. Callers of further writes wait. It is also the maximum number
/// of writes in one batch.
const QUEUE: usize = 1024;

type WriteResult = Result<(), WriteError>;

/// The reason why a batch was not committed.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing of the batch reached the disk. The next batch may succeed.
    Failed(String),
    /// The engine accepts no more writes, and this one was not begun.
    Closed(String),
    /// The write was begun, and it is unknown how much of it was done.
    Unknown(String),
}

/// The destination of the writer.
pub(super) trait Disk: Send + 'static {
    /// Writes the rows that [`merge`] leaves of `rows`, and returns when they are durable.
    fn commit(&mut self, rows: Vec<EncodedRow>) -> Result<(), CommitError>;

    /// Does a little of the work for which no caller waits.
    fn tidy(&mut self);
}

#[derive(Debug)]
struct WriteJob {
    rows: Vec<EncodedRow>,
    answer: oneshot::Sender<WriteResult>,
}

/// The writer thread and its queue. Dropping it finishes the queued writes and then ends the thread.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Option<mpsc::Sender<WriteJob>>,
    thread: Option<JoinHandle<()>>,
    broken: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn start(disk: impl Disk) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let broken = Arc::new(AtomicBool::new(false));
        let flag = broken.clone();
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(disk, jobs, &flag))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), broken })
    }

    /// Returns whether a batch failed in a way that makes the store unusable until it is opened again.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Writes rows, and returns when they are durable. The write is done even if the caller stops
    /// waiting once it is queued.
    pub(super) async fn write(&self, rows: &[Row]) -> WriteResult {
        // Rows are encoded here, so that the only thread that writes has as little to do as possible.
        let encoded: Result<Vec<_>, _> = rows.iter().map(EncodedRow::of).collect();
        let encoded = encoded.map_err(|error| WriteError::Failed(error.to_string()))?;
        if encoded.is_empty() { Ok(()) } else { self.write_encoded(encoded).await }
    }

    async fn write_encoded(&self, rows: Vec<EncodedRow>) -> WriteResult {
        let closed = || WriteError::Failed("the store is closed".into());
        let (answer, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(WriteJob { rows, answer }).await.map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(WriteError::Unknown("the writer thread ended".into())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer thread panicked");
        }
    }
}

fn run(mut disk: impl Disk, mut jobs: mpsc::Receiver<WriteJob>, broken: &AtomicBool) {
    let mut batch = Vec::with_capacity(QUEUE);
    while jobs.blocking_recv_many(&mut batch, QUEUE) > 0 {
        let mut answers = Vec::with_capacity(batch.len());
        let mut rows = Vec::new();
        for job in batch.drain(..) {
            rows.extend(job.rows);
            answers.push(job.answer);
        }
        let outcome = commit(&mut disk, rows, broken);
        for answer in answers {
            // The caller may have stopped waiting.
            let _ = answer.send(outcome.clone());
        }
        if !broken.load(Ordering::Relaxed) {
            disk.tidy();
        }
    }
}

/// Commits a batch. After a failed flush it is unknown what the disk holds, and another flush would report success
/// for pages that the kernel has dropped. Therefore the outcome of the batch is unknown, and
/// nothing is accepted after it.
fn commit(disk: &mut impl Disk, rows: Vec<EncodedRow>, broken: &AtomicBool) -> WriteResult {
    if broken.load(Ordering::Relaxed) {
        return Err(WriteError::Failed("the disk failed; the store accepts no writes until it is opened again".into()));
    }
    let error = match disk.commit(rows) {
        Ok(()) => return Ok(()),
        Err(CommitError::Failed(why)) => return Err(WriteError::Failed(why)),
        Err(CommitError::Closed(why)) => WriteError::Failed(why),
        Err(CommitError::Unknown(why)) => WriteError::Unknown(why),
    };
    broken.store(true, Ordering::Release);
    tracing::error!(%error, "the store accepts no more writes until it is opened again");
    Err(error)
}

/// The destination in use: the tables of the engine.
pub(super) struct TableDisk {
    tables: Tables,
    fences: Fences,
    expiry: ExpirySweep,
    clock: Clock,
}

impl TableDisk {
    pub(super) fn new(tables: Tables, fences: Fences, clock: Clock) -> Self {
        Self { tables, fences, expiry: ExpirySweep::default(), clock }
    }
}

impl Disk for TableDisk {
    fn commit(&mut self, rows: Vec<EncodedRow>) -> Result<(), CommitError> {
        let rows = merge(rows, |table, key| self.tables.get(table, key))
            .map_err(|error| CommitError::Failed(error.to_string()))?;
        let raised = Fences::among(&rows);
        self.tables.commit(rows).map_err(|error| match error {
            // The engine checks for an earlier failure before it writes anything.
            fjall::Error::Poisoned => CommitError::Closed(error.to_string()),
            _ => CommitError::Unknown(error.to_string()),
        })?;
        self.fences.set(raised);
        Ok(())
    }

    fn tidy(&mut self) {
        if let Err(error) = self.expiry.round((self.clock)(), &self.tables) {
            tracing::warn!(%error, "expired rows could not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
