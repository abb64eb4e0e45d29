use std::sync::atomic::{AtomicU64, Ordering};

use sendpi_model::{Partition, RoomId, UserId};

use super::*;
use crate::{ActiveRoom, Fence, OrderRow, Row, Store};

const DAY: u64 = 24 * 60 * 60 * 1000;

fn order(at: u64) -> Row {
    let (user, room) = (UserId::parse("ann").unwrap(), RoomId::parse("r").unwrap());
    Row::Order(OrderRow { user, active_at: Millis(at), room })
}

#[tokio::test]
async fn a_store_that_is_open_cannot_be_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    assert!(matches!(Embedded::open(dir.path()), Err(OpenError::InUse(_))));
    drop(store);
    Embedded::open(dir.path()).unwrap();
}

#[tokio::test]
async fn what_was_written_is_there_when_the_store_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deeper/store");
    let fence = Fence { epoch: 3, claim: "c".into() };
    let store = Embedded::open(&path).unwrap();
    store.write(vec![Row::Fence(Partition(1), fence.clone()), Row::Partitions(8)]).await.unwrap();
    drop(store);
    let store = Embedded::open(&path).unwrap();
    assert_eq!(store.fences(Partition(1), 0).await.unwrap(), [fence]);
    assert_eq!(store.partitions().await.unwrap(), Some(8));
}

#[tokio::test]
async fn rows_older_than_seven_days_are_not_read_and_then_removed() {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(10 * DAY));
    let clock = now.clone();
    let store = Embedded::open_with_clock(dir.path(), Arc::new(move || Millis(clock.load(Ordering::Relaxed)))).unwrap();
    let (ann, room) = (UserId::parse("ann").unwrap(), RoomId::parse("r").unwrap());
    let active =
        |at| Row::ActiveRoom(ActiveRoom { partition: Partition(1), minute: Millis(at).minute(), room: room.clone() });
    store.write(vec![order(4 * DAY), order(9 * DAY), active(4 * DAY)]).await.unwrap();
    let listed = async || store.rooms_by_activity(&ann, Millis(0), None, 10).await.unwrap().len();
    let rooms = async || store.active_rooms(Partition(1), 0..=u64::MAX).await.unwrap().len();
    assert_eq!((listed().await, rooms().await), (2, 1));

    now.store(12 * DAY, Ordering::Relaxed);
    assert_eq!((listed().await, rooms().await), (1, 0));
    // The sweep follows a write.
    store.write(vec![order(12 * DAY)]).await.unwrap();
    drop(store);
    let store = Embedded::open_with_clock(dir.path(), Arc::new(|| Millis(10 * DAY))).unwrap();
    assert_eq!(store.rooms_by_activity(&ann, Millis(0), None, 10).await.unwrap().len(), 2);
    assert_eq!(store.active_rooms(Partition(1), 0..=u64::MAX).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_is_done_before_the_store_closes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    {
        let mut write = std::pin::pin!(store.write(vec![Row::Partitions(8)]));
        // One poll puts the write into the queue. Then its caller goes away.
        let waker = std::task::Waker::noop();
        let _ = write.as_mut().poll(&mut std::task::Context::from_waker(waker));
    }
    drop(store);
    assert_eq!(Embedded::open(dir.path()).unwrap().partitions().await.unwrap(), Some(8));
}

/// Writes ten batches, and returns the path and the content of the journal.
async fn journal(dir: &Path) -> (PathBuf, Vec<u8>) {
    let store = Embedded::open(dir).unwrap();
    for n in 1..=10 {
        store.write(vec![order(Millis::now().0 + n)]).await.unwrap();
    }
    drop(store);
    // Opening it once more cuts off the space that it does not use.
    drop(Embedded::open(dir).unwrap());
    let path = dir.join("0.jnl");
    let bytes = std::fs::read(&path).unwrap();
    assert!((500..5000).contains(&bytes.len()), "{}", bytes.len());
    (path, bytes)
}

/// Opens the store. `None` if the engine panics, which asserts some lengths in test builds.
fn try_open(dir: &Path) -> Option<Result<Embedded, OpenError>> {
    std::panic::catch_unwind(|| Embedded::open(dir)).ok()
}

fn orders(store: &Embedded) -> usize {
    let opened = store.0.slot.get().unwrap();
    opened.tables.prefix(table::Table::Order, &[]).count()
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = journal(dir.path()).await;
    let last = bytes.windows(4).rposition(|bytes| bytes == b"FJL\x03").unwrap();
    let before = bytes[..last].windows(4).rposition(|bytes| bytes == b"FJL\x03").unwrap() + 4;
    for cut in before..bytes.len() {
        for (zeros, rest) in [(0, vec![]), (4096, vec![]), (3, bytes[(cut + 3).min(bytes.len())..].to_vec())] {
            // The rest is as if the disk lost a piece in the middle of the last batch.
            let torn = [&bytes[..cut], &vec![0; zeros], &rest].concat();
            std::fs::write(&path, &torn).unwrap();
            match try_open(dir.path()) {
                Some(Ok(store)) => assert!((9..=10).contains(&orders(&store)), "cut at {cut}"),
                Some(Err(error)) => {
                    assert!(!rest.is_empty() && matches!(error, OpenError::Journal { .. }), "cut at {cut}: {error}");
                }
                None => assert!(!rest.is_empty(), "cut at {cut}"),
            }
        }
    }
}

#[tokio::test]
async fn a_journal_that_is_damaged_in_the_middle_is_not_opened_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (path, bytes) = journal(dir.path()).await;
    let (mut refused, mut kept) = (0, 0);
    for place in (bytes.len() / 3..bytes.len() / 2).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x41;
        std::fs::write(&path, &damaged).unwrap();
        match try_open(dir.path()) {
            Some(Ok(store)) => {
                // Some bytes do not matter, but no batch may be missing.
                assert_eq!(orders(&store), 10, "byte {place}");
                kept += 1;
            }
            Some(Err(error)) => {
                let OpenError::Journal { path: told, whole, .. } = &error else { panic!("{error}") };
                assert!(error.to_string().contains("backup") && *told == path && *whole <= bytes.len() as u64);
                assert_eq!(std::fs::read(&path).unwrap(), damaged, "byte {place}");
                refused += 1;
            }
            None => refused += 1,
        }
    }
    assert!(refused > kept, "{refused} refused, {kept} kept");
}

async fn fresh() -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    (dir, Arc::new(store))
}

crate::conformance_tests!(fresh);
