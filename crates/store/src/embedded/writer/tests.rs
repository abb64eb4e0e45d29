use std::collections::VecDeque;
use std::sync::Mutex;

use super::super::encode::Keep;
use super::super::table::Table;
use super::*;

/// A disk that answers with the given outcomes. Before each batch it waits for a signal.
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
async fn after_a_failed_flush_nothing_is_accepted() {
    let (writer, go, _) = start(vec![Err(CommitError::Unknown("I/O".into()))]);
    go.send(()).unwrap();
    assert!(matches!(writer.write_encoded(one()).await, Err(WriteError::Unknown(_))));
    assert!(writer.is_broken());
    assert!(matches!(writer.write_encoded(one()).await, Err(WriteError::Failed(_))));
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
