//! A store that a test can slow down, break and look into.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sendpi_model::{Mark, Millis, Partition, RoomId, UserId};
use sendpi_store::{
    DeletedRoom, DeviceRow, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, ReadError, RoomOfUser, RoomRow,
    Row, SettledRow, Start, Store, WriteError,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

/// How many calls of one kind may be under way at once.
const CALLS: u32 = 1_000;

/// Calls of one kind, which a test can hold up before they reach the store.
#[derive(Debug)]
pub struct HeldCalls {
    permits: Semaphore,
    waiting: AtomicUsize,
}

impl Default for HeldCalls {
    fn default() -> Self {
        Self { permits: Semaphore::new(CALLS as usize), waiting: AtomicUsize::new(0) }
    }
}

impl HeldCalls {
    /// Holds up all calls until [`Self::release`].
    pub async fn hold(&self) {
        self.permits.acquire_many(CALLS).await.unwrap().forget();
    }

    /// Lets the calls go on.
    pub fn release(&self) {
        self.permits.add_permits(CALLS as usize);
    }

    /// Returns how many calls are held up.
    pub fn held(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    async fn pass(&self) -> SemaphorePermit<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let permit = self.permits.acquire().await.unwrap();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        permit
    }
}

/// A store that can be disturbed.
#[derive(Debug)]
pub struct DisturbedStore {
    store: Arc<dyn Store>,
    /// How long a write with events takes longer than it would.
    pub slow: Mutex<Duration>,
    /// Reads of timelines.
    pub timelines: HeldCalls,
    /// Writes with events.
    pub events: HeldCalls,
    /// Reads of fences.
    pub fences: HeldCalls,
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
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            slow: Mutex::default(),
            timelines: HeldCalls::default(),
            events: HeldCalls::default(),
            fences: HeldCalls::default(),
            unreadable: Mutex::default(),
            failed_timelines: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            without_quorum: Mutex::default(),
            failing_fences: AtomicUsize::new(0),
        }
    }
}

#[async_trait]
impl Store for DisturbedStore {
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError> {
        if rows.iter().any(|row| matches!(row, Row::Event(..))) {
            let slow = *self.slow.lock().unwrap();
            sleep(slow).await;
            let _permit = self.events.pass().await;
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
        let _permit = self.fences.pass().await;
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
        let _permit = self.timelines.pass().await;
        if self.unreadable.lock().unwrap().as_ref() == Some(room) {
            self.failed_timelines.fetch_add(1, Ordering::SeqCst);
            return Err(ReadError("a later release wrote it".into()));
        }
        self.store.timeline(room, seqs, limit, newest).await
    }

    async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        let _permit = self.timelines.pass().await;
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

    async fn rooms_ever(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomId>, ReadError> {
        self.store.rooms_ever(user, after, limit).await
    }

    async fn deleted_rooms(&self, partition: Partition) -> Result<Vec<DeletedRoom>, ReadError> {
        self.store.deleted_rooms(partition).await
    }

    async fn remove_events(&self, room: &RoomId, piece: u64) -> Result<usize, WriteError> {
        self.store.remove_events(room, piece).await
    }

    async fn remove_room(&self, partition: Partition, room: &RoomId) -> Result<(), WriteError> {
        self.store.remove_room(partition, room).await
    }

    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, ReadError> {
        self.store.devices(user).await
    }
}
