//! The write path. Callers encode and queue their rows, and one thread writes them. Everything that was queued
//! while the last batch was written becomes the next batch. Rows of a batch that must give way to other rows are
//! left out ([`merge`]). The rest is written and synced once, and only then are the callers answered.
//!
//! After the disk failed, the thread closes the files and opens them again, after a pause that doubles with each try.
//! Meanwhile it refuses what is queued.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::encode::EncodedRow;
use super::event_expiry::EventExpirySweep;
use super::expiry::ExpirySweep;
use super::leftovers::LeftoverSweep;
use super::merge::merge;
use super::opened::{Opened, OpenedSlot};
use super::table::Fences;
use super::{Clock, OpenError};
use crate::{Row, StoreHealth, WriteError};

/// The maximum number of queued writes. Callers of further writes wait. It is also the maximum number
/// of writes in one batch.
const QUEUE: usize = 1024;
/// The pause before a store that failed is opened again, and the longest one.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A store that failed after it was open for this long is opened again after the first pause.
const STEADY: Duration = Duration::from_mins(1);
/// How often a closed store looks at what is queued.
const REFUSE_EVERY: Duration = Duration::from_millis(20);

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

    /// Shuts readers out. The files stay open until [`Self::open_again`].
    fn close(&mut self);

    /// Closes the files, opens them again, and lets readers in.
    fn open_again(&mut self) -> Result<(), OpenError>;
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
    health: watch::Receiver<StoreHealth>,
}

impl Writer {
    pub(super) fn start(disk: impl Disk) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (tell, health) = watch::channel(StoreHealth::default());
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || run(disk, jobs, &tell))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), health })
    }

    pub(super) fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.clone()
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
        if !self.health.borrow().is_up {
            return Err(refused());
        }
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

fn refused() -> WriteError {
    WriteError::Failed("the disk failed; the store is closed until it can be opened again".into())
}

fn run(mut disk: impl Disk, mut jobs: mpsc::Receiver<WriteJob>, health: &watch::Sender<StoreHealth>) {
    let mut batch = Vec::with_capacity(QUEUE);
    let (mut pause, mut opened) = (OPEN_AGAIN.0, Instant::now());
    while jobs.blocking_recv_many(&mut batch, QUEUE) > 0 {
        let mut answers = Vec::with_capacity(batch.len());
        let mut rows = Vec::new();
        for job in batch.drain(..) {
            rows.extend(job.rows);
            answers.push(job.answer);
        }
        let outcome = commit(&mut disk, rows, health);
        for answer in answers {
            // The caller may have stopped waiting.
            let _ = answer.send(outcome.clone());
        }
        if health.borrow().is_up {
            disk.tidy();
            continue;
        }
        if opened.elapsed() > STEADY {
            pause = OPEN_AGAIN.0;
        }
        if !open_again(&mut disk, &mut jobs, &mut pause) {
            return;
        }
        opened = Instant::now();
        health.send_modify(|health| health.is_up = true);
    }
}

/// Commits a batch. After a failed flush it is unknown what the disk holds, and another flush would report success
/// for pages that the kernel has dropped. Therefore the outcome of the batch is unknown, and the store closes. That
/// is told before anybody is answered.
fn commit(disk: &mut impl Disk, rows: Vec<EncodedRow>, health: &watch::Sender<StoreHealth>) -> WriteResult {
    let error = match disk.commit(rows) {
        Ok(()) => return Ok(()),
        Err(CommitError::Failed(why)) => return Err(WriteError::Failed(why)),
        Err(CommitError::Closed(why)) => WriteError::Failed(why),
        Err(CommitError::Unknown(why)) => WriteError::Unknown(why),
    };
    tracing::error!(%error, "the disk failed: the store is closed until it can be opened again");
    health.send_modify(|health| *health = StoreHealth { is_up: false, failures: health.failures + 1 });
    disk.close();
    Err(error)
}

/// Opens the store again, after a pause that doubles with each try. Refuses what is queued meanwhile. Returns `false`
/// if nobody holds the store any more.
fn open_again(disk: &mut impl Disk, jobs: &mut mpsc::Receiver<WriteJob>, pause: &mut Duration) -> bool {
    loop {
        let due = Instant::now() + *pause;
        *pause = (*pause * 2).min(OPEN_AGAIN.1);
        while Instant::now() < due {
            match jobs.try_recv() {
                Ok(job) => drop(job.answer.send(Err(refused()))),
                Err(TryRecvError::Empty) => std::thread::park_timeout(REFUSE_EVERY),
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        match disk.open_again() {
            Ok(()) => {
                tracing::info!("the store is open again");
                return true;
            }
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error, again_in = ?*pause,
                "the store cannot be opened again yet"
            ),
        }
    }
}

/// The destination in use: the tables of the engine.
pub(super) struct TableDisk {
    path: PathBuf,
    /// `None` if the files could not be opened again yet.
    opened: Option<Arc<Opened>>,
    slot: OpenedSlot,
    expiry: ExpirySweep,
    events: EventExpirySweep,
    leftovers: LeftoverSweep,
    clock: Clock,
}

impl TableDisk {
    pub(super) fn new(path: &Path, opened: Opened, slot: OpenedSlot, clock: Clock) -> Self {
        let opened = Some(Arc::new(opened));
        slot.set(opened.clone());
        Self {
            path: path.to_owned(),
            opened,
            slot,
            expiry: ExpirySweep::default(),
            events: EventExpirySweep::default(),
            leftovers: LeftoverSweep::default(),
            clock,
        }
    }
}

impl Disk for TableDisk {
    fn commit(&mut self, rows: Vec<EncodedRow>) -> Result<(), CommitError> {
        let Some(opened) = &self.opened else { return Err(CommitError::Closed("the store is closed".into())) };
        let rows = merge(rows, |table, key| opened.tables.get(table, key))
            .map_err(|error| CommitError::Failed(error.to_string()))?;
        let raised = Fences::among(&rows);
        opened.tables.commit(rows).map_err(|error| match error {
            // The engine checks for an earlier failure before it writes anything.
            fjall::Error::Poisoned => CommitError::Closed(error.to_string()),
            _ => CommitError::Unknown(error.to_string()),
        })?;
        opened.fences.set(raised);
        Ok(())
    }

    fn tidy(&mut self) {
        let Some(opened) = &self.opened else { return };
        let now = (self.clock)();
        let swept = self.expiry.round(now, &opened.tables);
        let swept = swept.and_then(|()| self.events.round(now, &opened.tables));
        let swept = swept.and_then(|()| self.leftovers.round(now, opened));
        if let Err(error) = swept {
            tracing::warn!(%error, "old rows could not be removed");
        }
    }

    fn close(&mut self) {
        self.slot.set(None);
    }

    fn open_again(&mut self) -> Result<(), OpenError> {
        if let Some(opened) = self.opened.take() {
            match Arc::try_unwrap(opened) {
                Ok(opened) => drop(opened),
                // A scan that began before has not ended.
                Err(opened) => {
                    self.opened = Some(opened);
                    return Err(OpenError::InUse(self.path.clone()));
                }
            }
        }
        let opened = Arc::new(Opened::open(&self.path)?);
        self.opened = Some(Arc::clone(&opened));
        self.slot.set(Some(opened));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
