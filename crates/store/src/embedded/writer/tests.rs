use std::collections::VecDeque;
use std::sync::Mutex;

use super::super::encode::Keep;
use super::super::table::Table;
use super::*;

/// A disk that answers with the given outcomes. Before each batch, and before it is opened again, it waits for a
/// signal. It can be opened again at the second try.
struct Fake {
    outcomes: VecDeque<Result<(), CommitError>>,
    go: std::sync::mpsc::Receiver<()>,
    sizes: Arc<Mutex<Vec<usize>>>,
    tries: usize,
}

impl Disk for Fake {
    fn commit(&mut self, puts: Vec<EncodedRow>) -> Result<(), CommitError> {
        self.go.recv().unwrap();
        self.sizes.lock().unwrap().push(puts.len());
        self.outcomes.pop_front().unwrap()
    }

    fn tidy(&mut self) {}

    fn close(&mut self) {}

    fn open_again(&mut self) -> Result<(), OpenError> {
        self.tries += 1;
        if self.tries % 2 == 1 {
            return Err(OpenError::InUse(PathBuf::from("d")));
        }
        self.go.recv().unwrap();
        Ok(())
    }
}

fn start(outcomes: Vec<Result<(), CommitError>>) -> (Writer, std::sync::mpsc::Sender<()>, Arc<Mutex<Vec<usize>>>) {
    let (go, gate) = std::sync::mpsc::channel();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let fake = Fake { outcomes: outcomes.into(), go: gate, sizes: sizes.clone(), tries: 0 };
    (Writer::start(fake).unwrap(), go, sizes)
}

fn one() -> Vec<EncodedRow> {
    vec![EncodedRow { table: Table::Order, key: vec![1], value: vec![], keep: Keep::Either }]
}

#[tokio::test]
async fn what_waited_while_a_batch_was_written_becomes_the_next_one() {
    let (writer, go, sizes) = start(vec![Ok(()), Ok(())]);
    let [a, b, c, d] = std::array::from_fn(|_| writer.write_encoded(one()));
    // All writes are queued at their first poll, while the first batch waits for the signal.
    let release = async {
        go.send(()).unwrap();
        go.send(()).unwrap();
    };
    let (a, b, c, d, ()) = tokio::join!(a, b, c, d, release);
    assert_eq!([a, b, c, d], [const { Ok(()) }; 4]);
    let sizes = sizes.lock().unwrap().clone();
    // The first batch may contain only the first write, or also some of the others.
    assert!(sizes.len() <= 2 && sizes.iter().sum::<usize>() == 4, "{sizes:?}");
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_accepted_until_the_store_is_open_again() {
    let (writer, go, sizes) = start(vec![Err(CommitError::Unknown("I/O".into())), Ok(())]);
    let mut health = writer.health();
    go.send(()).unwrap();
    assert!(matches!(writer.write_encoded(one()).await, Err(WriteError::Unknown(_))));
    // That is told before the caller is answered, and what follows is refused without being begun.
    assert_eq!(*health.borrow_and_update(), StoreHealth { is_up: false, failures: 1 });
    assert!(matches!(writer.write_encoded(one()).await, Err(WriteError::Failed(_))));
    assert_eq!(*sizes.lock().unwrap(), [1]);

    go.send(()).unwrap();
    health.changed().await.unwrap();
    assert_eq!(*health.borrow_and_update(), StoreHealth { is_up: true, failures: 1 });
    go.send(()).unwrap();
    assert_eq!(writer.write_encoded(one()).await, Ok(()));
}

#[tokio::test]
async fn what_was_queued_behind_a_failed_flush_is_refused() {
    let (writer, go, sizes) = start(vec![Err(CommitError::Unknown("I/O".into()))]);
    let first = writer.write_encoded(one());
    let behind = async {
        // The first batch waits for its signal, so this one is queued behind it.
        while writer.queue.as_ref().unwrap().capacity() < QUEUE {
            tokio::task::yield_now().await;
        }
        let write = writer.write_encoded(one());
        let signal = async { go.send(()).unwrap() };
        tokio::join!(write, signal).0
    };
    let (first, behind) = tokio::join!(first, behind);
    assert!(matches!(first, Err(WriteError::Unknown(_))), "{first:?}");
    assert!(matches!(behind, Err(WriteError::Failed(_))), "{behind:?}");
    assert_eq!(*sizes.lock().unwrap(), [1]);
}

#[tokio::test]
async fn a_store_that_nobody_holds_any_more_is_not_opened_again() {
    let (writer, go, _) = start(vec![Err(CommitError::Unknown("I/O".into()))]);
    go.send(()).unwrap();
    assert!(writer.write_encoded(one()).await.is_err());
    // This waits until the thread has ended.
    drop(writer);
}

#[tokio::test]
async fn a_write_that_did_not_begin_does_not_end_the_store() {
    let (writer, go, _) = start(vec![Err(CommitError::Failed("read".into())), Ok(())]);
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert!(matches!(writer.write_encoded(one()).await, Err(WriteError::Failed(_))));
    assert_eq!(writer.write_encoded(one()).await, Ok(()));
}

#[tokio::test]
async fn a_writer_that_panics_leaves_its_batch_unknown() {
    let (writer, go, _) = start(vec![]);
    go.send(()).unwrap();
    assert!(matches!(writer.write_encoded(one()).await, Err(WriteError::Unknown(_))));
    assert!(writer.write_encoded(one()).await.is_err());
}
