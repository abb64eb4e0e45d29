//! The embedded store, which a test can slow down, break and look into.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sendpi_model::{Mark, Millis, Partition, RoomId, UserId};
use sendpi_store::embedded::Embedded;
use sendpi_store::{
    DeviceRow, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, ReadError, RoomOfUser, RoomRow, Row,
    SettledRow, Start, Store, WriteError,
};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// How many reads of timelines may be under way at once.
const TIMELINES: u32 = 1_000;

/// A store that can be disturbed.
#[derive(Debug)]
pub struct DisturbedStore {
    store: Embedded,
    /// How long a write with events takes longer than it would.
    pub slow: Mutex<Duration>,
    /// Reads of timelines wait for a permit, and give it back.
    timelines: Semaphore,
    /// The room whose timeline cannot be read.
    pub unreadable: Mutex<Option<RoomId>>,
    /// How many reads failed because of [`Self::unreadable`].
    pub failed_timelines: AtomicUsize,
    /// How many rooms were opened, by the reads of their starts.
    pub opened: AtomicUsize,
    /// The room whose events have no quorum, so that the outcome of a write of them is unknown. The rooms of such a
    /// store fail apart.
    pub without_quorum: Mutex<Option<RoomId>>,
    /// How many of the next reads of fences fail.
    pub failing_fences: AtomicUsize,
}

impl DisturbedStore {
    /// Wraps a store.
    pub fn new(store: Embedded) -> Self {
        Self {
            store,
            slow: Mutex::default(),
            timelines: Semaphore::new(TIMELINES as usize),
            unreadable: Mutex::default(),
            failed_timelines: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            without_quorum: Mutex::default(),
            failing_fences: AtomicUsize::new(0),
        }
    }

    /// Holds up all reads of timelines until [`Self::release_timelines`].
    pub async fn hold_timelines(&self) {
        self.timelines.acquire_many(TIMELINES).await.unwrap().forget();
    }

    /// Lets the reads of timelines go on.
    pub fn release_timelines(&self) {
        self.timelines.add_permits(TIMELINES as usize);
    }
}

#[async_trait]
impl Store for DisturbedStore {
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        if rows.iter().any(|row| matches!(row, Row::Event(..))) {
            let slow = *self.slow.lock().unwrap();
            sleep(slow).await;
        }
        let without_quorum = self.without_quorum.lock().unwrap().clone();
        if rows.iter().any(|row| matches!(row, Row::Event(room, _) if without_quorum.as_ref() == Some(room))) {
            return Err(WriteError::Unknown("a test lost the quorum".into()));
        }
        self.store.write(rows).await
    }

    fn fails_apart(&self) -> bool {
        true
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        self.store.partitions().await
    }

    async fn fences(&self, partition: Partition, from: u64) -> Result<Vec<Fence>, ReadError> {
        let fail = |left: usize| left.checked_sub(1);
        if self.failing_fences.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fail).is_ok() {
            return Err(ReadError("a test failed it".into()));
        }
        self.store.fences(partition, from).await
    }

    async fn starts(&self, room: &RoomId, below: Option<u64>, limit: usize) -> Result<Vec<Start>, ReadError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.store.starts(room, below, limit).await
    }

    async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        let _permit = self.timelines.acquire().await.unwrap();
        if self.unreadable.lock().unwrap().as_ref() == Some(room) {
            self.failed_timelines.fetch_add(1, Ordering::SeqCst);
            return Err(ReadError("a later release wrote it".into()));
        }
        self.store.timeline(room, seqs, limit, newest).await
    }

    async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        let _permit = self.timelines.acquire().await.unwrap();
        self.store.nonces(room, seqs).await
    }

    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError> {
        self.store.room(room).await
    }

    async fn members(&self, room: &RoomId, after: Option<&UserId>, limit: usize) -> Result<Vec<MemberRow>, ReadError> {
        self.store.members(room, after, limit).await
    }

    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRow>, ReadError> {
        self.store.member(room, user).await
    }

    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        self.store.rooms_of_user(user, after, limit).await
    }

    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        self.store.rooms_of_user_among(user, rooms).await
    }

    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError> {
        self.store.count_rooms_of_user(user, most).await
    }

    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        self.store.rooms_by_activity(user, since, before, limit).await
    }

    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError> {
        self.store.read_markers(user, rooms).await
    }

    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        self.store.active_rooms(partition, minutes).await
    }

    async fn settled(&self, partition: Partition) -> Result<Vec<SettledRow>, ReadError> {
        self.store.settled(partition).await
    }

    async fn pushed(&self, room: &RoomId) -> Result<Option<PushedRow>, ReadError> {
        self.store.pushed(room).await
    }

    async fn revoked(&self, user: &UserId) -> Result<Option<Millis>, ReadError> {
        self.store.revoked(user).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, ReadError> {
        self.store.devices(user).await
    }
}
