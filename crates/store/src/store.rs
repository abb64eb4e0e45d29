//! The contract of a store.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use sendpi_model::{Mark, Millis, Partition, RoomId, UserId};

use crate::{EventRow, Fence, MemberRow, OrderRow, RoomOfUser, RoomRow, Row, SettledRow, Start};

/// Why a write is not known to be done. The two are never folded into one another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Nothing of it was done, and nothing will be.
    #[error("the store refused the write: {0}")]
    Failed(String),
    /// It may have been done, in part or whole, or may still be: write the same rows again until the outcome is known.
    #[error("the outcome of the write is unknown: {0}")]
    Unknown(String),
}

/// A read that got no answer. It is always safe to read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store did not answer: {0}")]
pub struct ReadError(pub String);

/// Where everything that lasts is kept.
///
/// What every store promises, and the conformance suite checks:
/// * **Done means durable.** When [`Store::write`] returns `Ok`, every row of it survives a `kill -9` of the process and of the
///   machine, and every read that begins after that sees it.
/// * **Three outcomes.** `Ok` is done, [`WriteError::Failed`] is not done and never will be, [`WriteError::Unknown`] is neither:
///   the same rows written again lead to the same state.
/// * **The higher stamp stays.** Of two writes of one key the row with the higher stamp is kept, whatever the order in which they
///   arrive; of equal stamps the later one. Rows without a stamp (starts, events, order rows, active rooms, the partitions) have one
///   content for ever: written again they change nothing.
/// * **Order.** The events of one write become visible together or, in a store that splits a write, in the order of their seq.
/// * **A read is of one moment** for one key; it holds no lock and never waits for a write under way.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug + 'static {
    /// Writes all of `rows` and returns when they are durable.
    ///
    /// # Errors
    /// [`WriteError`] tells whether it may have been done.
    async fn write(&self, rows: Vec<Row>) -> Result<(), WriteError>;

    /// The number of partitions that this store was made for; `None` in a new one.
    async fn partitions(&self) -> Result<Option<u16>, ReadError>;

    /// The fence of a partition; `None` before the first claim.
    async fn fence(&self, partition: Partition) -> Result<Option<Fence>, ReadError>;

    /// All starts of a room, by epoch.
    async fn starts(&self, room: &RoomId) -> Result<Vec<Start>, ReadError>;

    /// The rows of a timeline whose seq is in `seqs`, oldest first and by epoch within a seq, at most `limit`: the lowest ones, or the
    /// highest ones where `newest` (still oldest first). Rows that do not count are among them.
    async fn timeline(
        &self,
        room: &RoomId,
        seqs: RangeInclusive<u64>,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<EventRow>, ReadError>;

    /// A room's row; `None` for a room that was never made.
    async fn room(&self, room: &RoomId) -> Result<Option<RoomRow>, ReadError>;

    /// The members of a room by user, without those who left.
    async fn members(&self, room: &RoomId) -> Result<Vec<MemberRow>, ReadError>;

    /// The rooms of a user by room, without those that the user left.
    async fn rooms_of_user(&self, user: &UserId) -> Result<Vec<RoomOfUser>, ReadError>;

    /// The order rows of a user, newest first and then by room, at most `limit`: those at or after `since`, and where `before` is
    /// given (the last row of a page) only those that follow it in this order.
    async fn rooms_by_activity(
        &self,
        user: &UserId,
        since: Millis,
        before: Option<(Millis, RoomId)>,
        limit: usize,
    ) -> Result<Vec<OrderRow>, ReadError>;

    /// The read markers of a user in these rooms, in their order.
    async fn read_markers(&self, user: &UserId, rooms: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError>;

    /// The rooms of a partition that had a durable event in these minutes, each once.
    async fn active_rooms(&self, partition: Partition, minutes: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError>;

    /// What is settled in a partition, by epoch.
    async fn settled(&self, partition: Partition) -> Result<Vec<SettledRow>, ReadError>;
}
