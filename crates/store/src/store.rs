//! The contract of a store.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use prometheus_client::registry::Registry;
use sendpi_model::{Mark, Millis, Partition, RoomId, UserId};
use tokio::sync::watch;

use crate::{
    DeletedRoom, DeviceRow, EpochChain, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, RoomOfUser, RoomRow,
    Row, SettledRow, Start,
};

/// The number of seqs from one border of a timeline to the next, which are its multiples. A store may keep what is
/// between two borders in one piece, so a read that goes on from border to border, until one piece ends early, looks
/// for nothing where nothing is.
pub const TIMELINE_BUCKET: u64 = 8192;

/// The rows of one page of [`Store::chain`] and [`Store::all_members`].
const PAGE: usize = 1_000;

/// The reason why a write is not known to be done. A store never reports one reason in place of the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing of the write was done, and nothing will be.
    #[error("the store refused the write: {0}")]
    Failed(String),
    /// The write may have been done, in part or whole, or may still be done. The caller writes the same rows again
    /// until the outcome is known.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
}

/// The error of a read that got no answer. It is always safe to read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store did not answer: {0}")]
pub struct ReadError(pub String);

/// Whether a store answers at all, and how often it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether the store reads and writes. While it does not, every read ends with an error and every write with
    /// [`WriteError::Failed`].
    pub is_up: bool,
    /// How often the store has failed. Rises at each failure, before anybody is told of that failure. What was under
    /// way then is unknown, so whoever keeps in memory what the store holds must forget it.
    pub failures: u64,
}

impl Default for StoreHealth {
    fn default() -> Self {
        Self { is_up: true, failures: 0 }
    }
}

/// A store, which keeps everything that must last.
///
/// Every store keeps these promises, and the conformance suite checks them:
/// * **Done means durable.** When [`Store::write`] returns `Ok`, every row of the write survives a `kill -9` of the
///   process and a crash of the machine, and every read that begins afterwards sees it.
/// * **Three outcomes.** `Ok` means that the write is done. [`WriteError::Failed`] means that it is not done and
///   never will be. [`WriteError::Unknown`] means neither: writing the same rows again leads to the same state.
/// * **The higher stamp stays.** Of two writes of one key, the row with the higher stamp is kept, whatever the
///   order in which they arrive. Two different rows of one key never have the same stamp: that is the callers' part.
///   Rows without a stamp (fences, starts, events, order rows, active rooms, deleted rooms, the partitions) never
///   change their content, so writing one again changes nothing. An event that is revised has a stamp from then on. Its
///   first row is not written again, because that write was done before.
/// * **Order.** The events of one write become visible together or, in a store that splits a write, in the order of
///   their seq.
/// * **Events go.** A row with a time to expire is not read after that time, and is removed some time later.
/// * **A read of one key shows one moment.** It holds no lock and never waits for a write under way.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Writes all of `rows`, and returns when they are durable.
    ///
    /// # Errors
    /// Returns [`WriteError`], which says whether the write may have been done.
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError>;

    /// Returns the store's health, which changes if the store fails as a whole and is opened again by itself. A store
    /// that never does so is always up.
    fn health(&self) -> watch::Receiver<StoreHealth> {
        watch::channel(StoreHealth::default()).1
    }

    /// Returns the number of partitions that this store was created for. `None` if the store is new.
    async fn partitions(&self) -> Result<Option<u16>, ReadError>;

    /// Registers what operators are told of the store.
    fn register_metrics(&self, _registry: &mut Registry) {}

    /// Returns whether the rows of different rooms may be written with different outcomes, as in a cluster where
    /// the nodes of one room are down and those of another are not. Then no write should hold rows of several rooms.
    fn fails_apart(&self) -> bool {
        false
    }

    /// Returns the fences of a partition whose epoch is `from` or higher, ordered by epoch and then by claim. Those
    /// below the highest epoch may be missing, and of more than two claims of one epoch all but two.
    async fn fences(&self, partition: Partition, from: u64) -> Result<Vec<Fence>, ReadError>;

    /// Returns the starts of a room, the highest epoch first, and at most `limit` of them. If `below` is given, it
    /// returns only starts of lower epochs. Those outside the chain may be missing.
    async fn starts(&self, room: &RoomId, below: Option<u64>, limit: usize) -> Result<Vec<Start>, ReadError>;

    /// Returns the chain of a room's starts, read page by page.
    async fn chain(&self, room: &RoomId) -> Result<EpochChain, ReadError> {
        let mut starts: Vec<Start> = Vec::new();
        loop {
            let page = self.starts(room, starts.last().map(|start| start.epoch), PAGE).await?;
            let ended = page.len() < PAGE;
            starts.extend(page);
            let chain = EpochChain::of(&starts);
            if ended || chain.is_whole() {
                return Ok(chain);
            }
        }
    }

    /// Returns the rows of a timeline whose seq is in `seqs`, oldest first, and by epoch within a seq. It returns
    /// at most `limit` rows: the lowest ones, or the highest ones if `newest` is set (still oldest first). Rows
    /// that do not count are among them. The range ends about where the caller knows the timeline to end: a store
    /// may look into each piece of it ([`TIMELINE_BUCKET`]).
    async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError>;

    /// Returns the nonces of a timeline whose seq is in `seqs`, oldest first, and by epoch within a seq, without those
    /// of events that have none. Nonces of rows that do not count are among them. It copies no frames.
    async fn nonces(&self, room: &RoomId, seqs: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError>;

    /// Returns the row of a room. `None` if the room was never created.
    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError>;

    /// Returns the members of a room and those who are banned from it, ordered by user, without those who left, and at
    /// most `limit` of them. If `after` is given, it returns only users that follow it.
    async fn members(&self, room: &RoomId, after: Option<&UserId>, limit: usize) -> Result<Vec<MemberRow>, ReadError>;

    /// Returns all members of a room and those who are banned from it, ordered by user, read page by page.
    async fn all_members(&self, room: &RoomId) -> Result<Vec<MemberRow>, ReadError> {
        let mut members: Vec<MemberRow> = Vec::new();
        loop {
            let page = self.members(room, members.last().map(|row| &row.user), PAGE).await?;
            let ended = page.len() < PAGE;
            members.extend(page);
            if ended {
                return Ok(members);
            }
        }
    }

    /// Returns one member of a room. `None` if the user is not a member.
    async fn member(&self, room: &RoomId, user: &UserId) -> Result<Option<MemberRow>, ReadError>;

    /// Returns the rooms of a user without those that the user left, the newest `active_at` first and then by room, and
    /// at most `limit` of them. If `after` (the last row of a page) is given, it returns only rows that follow it in
    /// this order. It keeps no more than `limit` rows in memory.
    async fn rooms_of_user(
        &self,
        user: &UserId,
        after: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError>;

    /// Returns the rows of a user in these rooms, in the order of `rooms`. `None` for a room that the user is not in.
    async fn rooms_of_user_among(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError>;

    /// Returns in how many rooms a user is. It counts no further than `most`.
    async fn count_rooms_of_user(&self, user: &UserId, most: usize) -> Result<usize, ReadError>;

    /// Returns the order rows of a user at or after `since`, newest first and then by room, and at most `limit` of
    /// them. If `before` (the last row of a page) is given, it returns only rows that follow it in this order.
    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError>;

    /// Returns the read markers of a user in these rooms, in the order of `rooms`. `None` for a room without a marker.
    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError>;

    /// Returns the rooms of a partition that had a durable event in these minutes, each once.
    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError>;

    /// Returns what is settled in a partition, ordered by epoch. Only the newest record is certain to be there.
    async fn settled(&self, partition: Partition) -> Result<Vec<SettledRow>, ReadError>;

    /// Returns what of a room's newest events is in the push stream. `None` if nothing of the room ever was.
    async fn pushed(&self, room: &RoomId) -> Result<Option<PushedRow>, ReadError>;

    /// Returns up to when a user's tokens are revoked. `None` if the user was never signed out.
    async fn revoked(&self, user: &UserId) -> Result<Option<Millis>, ReadError>;

    /// Returns the rooms of a user after `after`, also those that the user left, ordered by id, and at most `limit` of
    /// them.
    async fn rooms_ever(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomId>, ReadError>;

    /// Returns the rooms of a partition that were deleted and whose rows are not removed yet.
    async fn deleted_rooms(&self, partition: Partition) -> Result<Vec<DeletedRoom>, ReadError>;

    /// Removes a piece of a timeline for ever: the events whose seq, divided by [`TIMELINE_BUCKET`], is `piece`.
    /// Returns how many there were. Only for a room that was deleted, since nobody may write there any more.
    ///
    /// # Errors
    /// Returns [`WriteError`]. It can be tried again.
    async fn remove_events(&self, room: &RoomId, piece: u64) -> Result<usize, WriteError>;

    /// Removes what there is of a room that was deleted beside its events and its own row: its starts, its members,
    /// what was pushed of it, and at last its [`DeletedRoom`].
    ///
    /// # Errors
    /// Returns [`WriteError`]. It can be tried again.
    async fn remove_room(&self, partition: Partition, room: &RoomId) -> Result<(), WriteError>;

    /// Returns the devices of a user that have a push address, ordered by device.
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRow>, ReadError>;
}
