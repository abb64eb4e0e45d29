//! Checks what a store does on a disk that is full, and that it opens itself again once there is space.
//!
//! The disk is a small file system of its own in memory, which only root may mount.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use sendpi_model::{Event, EventKind, Head, Millis, Partition, RoomId, UserId};
use sendpi_store::embedded::Embedded;
use sendpi_store::{EventRow, Fence, Row, Store, StoreHealth, WriteError};

/// A file system with 24 MiB, and a file that fills it.
struct TestDisk(tempfile::TempDir);

impl TestDisk {
    fn mount() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(disk.path()).output();
        let said =
            mounted.map(|output| (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()));
        assert!(matches!(said, Ok((true, _))), "this test mounts a small file system, and must run as root: {said:?}");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("ballast")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(1), &mut file).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for TestDisk {
    fn drop(&mut self) {
        // A lazy unmount also succeeds while a file is open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn event(seq: u64) -> Row {
    let (from, head) = (UserId::parse("ann").unwrap(), Head { seq, count: seq, at: Millis(seq) });
    let event = Event { head, kind: EventKind::Message, from, nonce: None, frame: Bytes::from("x".repeat(3000)) };
    Row::Event(room(), EventRow { epoch: 1, event, expires: None })
}

/// Writes events until one fails. Returns the last seq that is done, and the error.
async fn until_failed(store: &Embedded, first: u64) -> (u64, WriteError) {
    let mut seq = first;
    loop {
        match store.write(vec![event(seq)]).await {
            Ok(()) => seq += 1,
            Err(error) => return (seq - 1, error),
        }
        assert!(seq < 100_000, "the disk is never full");
    }
}

/// Checks that the events up to `done` are there, each once, and at most one more, whose outcome was unknown.
async fn check(store: &Embedded, done: u64) -> u64 {
    let rows = store.timeline(&room(), 1..=u64::MAX, usize::MAX, false).await.unwrap();
    let seqs: Vec<_> = rows.iter().map(|row| row.event.head.seq).collect();
    let found = seqs.len() as u64;
    assert!(
        seqs == (1..=found).collect::<Vec<_>>() && (done..=done + 1).contains(&found),
        "{done} done, {found} found"
    );
    found
}

#[tokio::test]
async fn a_store_whose_disk_was_full_opens_itself_again() {
    let disk = TestDisk::mount();
    let store = Embedded::open(disk.path().join("store")).unwrap();
    let fence = Fence { epoch: 3, claim: "c".into() };
    store.write(vec![Row::Fence(Partition(1), fence.clone())]).await.unwrap();
    store.write(vec![event(1)]).await.unwrap();
    let mut health = store.health();
    let mut done = 1;
    for failures in 1..=2 {
        disk.fill();
        let (last, error) = until_failed(&store, done + 1).await;
        assert!(matches!(error, WriteError::Unknown(_)), "{error:?}");
        assert!(matches!(store.write(vec![event(last + 1)]).await, Err(WriteError::Failed(_))));
        assert!(store.room(&room()).await.is_err() && store.fences(Partition(1), 0).await.is_err());
        assert_eq!(*health.borrow(), StoreHealth { is_up: false, failures });

        disk.free();
        let up = health.wait_for(|health| health.is_up);
        tokio::time::timeout(Duration::from_secs(20), up).await.expect("it opens itself again").unwrap();
        done = check(&store, last).await;
        assert_eq!(store.fences(Partition(1), 0).await.unwrap(), std::slice::from_ref(&fence));
        store.write(vec![event(done + 1)]).await.unwrap();
        done += 1;
    }
    drop(store);
    let store = Embedded::open(disk.path().join("store")).unwrap();
    assert_eq!(check(&store, done).await, done);
}

#[tokio::test]
async fn what_was_done_before_the_disk_was_full_is_there_when_another_store_opens_the_files() {
    let disk = TestDisk::mount();
    let store = Embedded::open(disk.path().join("store")).unwrap();
    disk.fill();
    let (done, _) = until_failed(&store, 1).await;
    // Nobody else gets the files while the store waits for space.
    assert!(Embedded::open(disk.path().join("store")).is_err());
    drop(store);
    disk.free();
    check(&Embedded::open(disk.path().join("store")).unwrap(), done).await;
}
