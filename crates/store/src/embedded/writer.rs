//! The one thread that writes: whatever came while the last batch went to disk becomes the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::encode::EncodedRow;
use crate::WriteError;

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
    /// Writes what `puts` comes to, and returns when it is durable.
    fn commit(&mut self, puts: Vec<EncodedRow>) -> Result<(), CommitError>;

    /// Does a little of what nobody waits for.
    fn tidy(&mut self);
}

#[derive(Debug)]
struct WriteJob {
    puts: Vec<EncodedRow>,
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

    /// Writes `puts`. A caller that gives up waiting leaves the write to be done.
    pub(super) async fn write(&self, puts: Vec<EncodedRow>) -> WriteResult {
        let closed = || WriteError::Failed("the store is closed".into());
        let (answer, outcome) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(WriteJob { puts, answer }).await.map_err(|_| closed())?;
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
        let mut puts = Vec::new();
        for job in batch.drain(..) {
            puts.extend(job.puts);
            answers.push(job.answer);
        }
        let outcome = commit(&mut disk, puts, broken);
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
fn commit(disk: &mut impl Disk, puts: Vec<EncodedRow>, broken: &AtomicBool) -> WriteResult {
    if broken.load(Ordering::Relaxed) {
        return Err(WriteError::Failed("the disk failed; the store takes nothing until it is opened again".into()));
    }
    let error = match disk.commit(puts) {
        Ok(()) => return Ok(()),
        Err(CommitError::Failed(why)) => return Err(WriteError::Failed(why)),
        Err(CommitError::Closed(why)) => WriteError::Failed(why),
        Err(CommitError::Unknown(why)) => WriteError::Unknown(why),
    };
    broken.store(true, Ordering::Release);
    tracing::error!(%error, "the store takes no more writes until it is opened again");
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::super::encode::Keep;
    use super::super::table::Table;
    use super::*;

    /// Answers as it is told to, and waits before each batch until it may go on.
    struct Fake {
        outcomes: VecDeque<Result<(), CommitError>>,
        go: std::sync::mpsc::Receiver<()>,
        sizes: Arc<Mutex<Vec<usize>>>,
    }

    impl Disk for Fake {
        fn commit(&mut self, puts: Vec<EncodedRow>) -> Result<(), CommitError> {
            self.go.recv().unwrap();
            self.sizes.lock().unwrap().push(puts.len());
            self.outcomes.pop_front().unwrap()
        }

        fn tidy(&mut self) {}
    }

    fn start(outcomes: Vec<Result<(), CommitError>>) -> (Writer, std::sync::mpsc::Sender<()>, Arc<Mutex<Vec<usize>>>) {
        let (go, gate) = std::sync::mpsc::channel();
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let fake = Fake { outcomes: outcomes.into(), go: gate, sizes: sizes.clone() };
        (Writer::start(fake).unwrap(), go, sizes)
    }

    fn one() -> Vec<EncodedRow> {
        vec![EncodedRow { table: Table::Order, key: vec![1], value: vec![], keep: Keep::Either }]
    }

    #[tokio::test]
    async fn what_waited_while_a_batch_was_written_becomes_the_next_one() {
        let (writer, go, sizes) = start(vec![Ok(()), Ok(())]);
        let [a, b, c, d] = std::array::from_fn(|_| writer.write(one()));
        // All are queued at their first poll, while the first batch waits at the gate.
        let release = async {
            go.send(()).unwrap();
            go.send(()).unwrap();
        };
        let (a, b, c, d, ()) = tokio::join!(a, b, c, d, release);
        assert_eq!([a, b, c, d], [const { Ok(()) }; 4]);
        let sizes = sizes.lock().unwrap().clone();
        // The thread may wake for the first alone or find some of the others beside it.
        assert!(sizes.len() <= 2 && sizes.iter().sum::<usize>() == 4, "{sizes:?}");
    }

    #[tokio::test]
    async fn after_a_failed_flush_nothing_is_accepted() {
        let (writer, go, _) = start(vec![Err(CommitError::Unknown("I/O".into()))]);
        go.send(()).unwrap();
        assert!(matches!(writer.write(one()).await, Err(WriteError::Unknown(_))));
        assert!(writer.is_broken());
        assert!(matches!(writer.write(one()).await, Err(WriteError::Failed(_))));
    }

    #[tokio::test]
    async fn a_write_that_did_not_begin_does_not_end_the_store() {
        let (writer, go, _) = start(vec![Err(CommitError::Failed("read".into())), Ok(())]);
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert!(matches!(writer.write(one()).await, Err(WriteError::Failed(_))));
        assert_eq!(writer.write(one()).await, Ok(()));
    }

    #[tokio::test]
    async fn a_writer_that_panics_leaves_its_batch_unknown() {
        let (writer, go, _) = start(vec![]);
        go.send(()).unwrap();
        assert!(matches!(writer.write(one()).await, Err(WriteError::Unknown(_))));
        assert!(writer.write(one()).await.is_err());
    }
}
