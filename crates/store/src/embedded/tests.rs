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
    assert_eq!(store.fence(Partition(1)).await.unwrap(), Some(fence));
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

async fn fresh() -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path()).unwrap();
    (dir, Arc::new(store))
}

crate::conformance_tests!(fresh);
