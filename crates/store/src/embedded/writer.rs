//! The write path, whole: rows are encoded by their callers, queued, and written by one thread. Whatever came while the last batch went
//! to disk becomes the next one. Of each batch, rows that have to give way to others are left out ([`merge`]); the rest is written and
//! synced once, and only then are the callers answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::Clock;
use super::encode::EncodedRow;
use super::expiry::ExpirySweep;
use super::fences::Fences;
use super::merge::merge;
use super::table::Tables;
use crate::{Row, WriteError};

/// How many writes may wait; more wait with their callers. Also the most that one batch takes.
const QUEUE: usize = 1024;

type WriteResult = Result<(), WriteError>;

/// Why a batch did not get through.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing of it reached the disk, and the next one may.
    Failed(String),
    /// The engine takes no more writes, and this one was not begun.
    Closed(String),
    /// It was begun, and nobody knows how far it went.
    Unknown(String),
}

/// What the writer writes to.
pub(super) trait Disk: Send + 'static {
    /// Writes what `rows` comes to, and returns when it is durable.
    fn commit(&mut self, rows: Vec<EncodedRow>) -> Result<(), CommitError>;

    /// Does a little of what nobody waits for.
    fn tidy(&mut self);
}

#[derive(Debug)]
struct WriteJob {
    rows: Vec<EncodedRow>,
    answer: oneshot::Sender<WriteResult>,
}

/// The thread and the way to it. Dropping it finishes what waits, and then ends the thread.
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

    /// Whether a batch failed in a way that ends the store's use until it is opened again.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Writes rows, and returns when they are durable. A caller that gives up waiting leaves the write to be done.
    pub(super) async fn write(&self, rows: &[Row]) -> WriteResult {
        // Encoded here, so that the one thread that writes has as little to do as can be.
        let encoded: Result<Vec<_>, _> = rows.iter().map(EncodedRow::of).collect();
        let encoded = encoded.map_err(|error| WriteError::Failed(error.to_string()))?;
        if encoded.is_empty() { Ok(()) } else { self.write_encoded(encoded).await }
    }

    async fn write_encoded(&self, rows: Vec<EncodedRow>) -> WriteResult {
        let closed = || WriteError::Failed("the store is closed".into());
        let (answer, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(WriteJob { rows, answer }).await.map_err(|_| closed())?;
        outcome.await.unwrap_or_else(|_| Err(WriteError::Unknown("the writer ended".into())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer ended by a panic");
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
            // A caller that is gone does not ask.
            let _ = answer.send(outcome.clone());
        }
        if !broken.load(Ordering::Relaxed) {
            disk.tidy();
        }
    }
}

/// After a failed flush nobody knows what the disk holds, and flushing again would claim success for pages that the kernel has
/// dropped: so the batch is unknown, and nothing is accepted after it.
fn commit(disk: &mut impl Disk, rows: Vec<EncodedRow>, broken: &AtomicBool) -> WriteResult {
    if broken.load(Ordering::Relaxed) {
        return Err(WriteError::Failed("the disk failed; the store takes nothing until it is opened again".into()));
    }
    let error = match disk.commit(rows) {
        Ok(()) => return Ok(()),
        Err(CommitError::Failed(why)) => return Err(WriteError::Failed(why)),
        Err(CommitError::Closed(why)) => WriteError::Failed(why),
        Err(CommitError::Unknown(why)) => WriteError::Unknown(why),
    };
    broken.store(true, Ordering::Release);
    tracing::error!(%error, "the store takes no more writes until it is opened again");
    Err(error)
}

/// The files, as the writer writes them.
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
            // The engine looks for an earlier failure before it touches anything.
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
