use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Mutex;

use async_trait::async_trait;
use sendpi_model::{Mark, Millis, RoomId};
use sendpi_store::{
    DeletedRoom, DeviceRow, EventRow, Fence, MemberRow, NonceRow, OrderRow, PushedRow, RoomOfUser, RoomRow, SettledRow,
    Start,
};

use super::*;

/// A store that answers writes with the given outcomes and reads nothing but the fence.
#[derive(Debug)]
struct Scripted {
    writes: Mutex<VecDeque<Result<(), WriteError>>>,
    fences: Result<Vec<Fence>, ReadError>,
}

impl Scripted {
    fn new(writes: impl IntoIterator<Item = Result<(), WriteError>>) -> Self {
        Self { writes: Mutex::new(writes.into_iter().collect()), fences: Err(ReadError("closed".into())) }
    }

    async fn write_once(&self) -> Result<(), JobError> {
        let tenure = Tenure { partition: Partition(1), epoch: 5, claim: 1 };
        write_until_known(self, tenure, vec![Row::Partitions(8)]).await
    }
}

#[async_trait]
impl Store for Scripted {
    async fn write(&self, _: Vec<Row>) -> Result<(), WriteError> {
        self.writes.lock().unwrap().pop_front().expect("no further write")
    }

    async fn partitions(&self) -> Result<Option<u16>, ReadError> {
        unreachable!()
    }

    async fn fences(&self, _: Partition, _: u64) -> Result<Vec<Fence>, ReadError> {
        self.fences.clone()
    }

    async fn starts(&self, _: &RoomId, _: Option<u64>, _: usize) -> Result<Vec<Start>, ReadError> {
        unreachable!()
    }

    async fn timeline(
        &self,
        _: &RoomId,
        _: RangeInclusive<u64>,
        _: usize,
        _: bool,
    ) -> Result<Vec<EventRow>, ReadError> {
        unreachable!()
    }

    async fn room(&self, _: &RoomId) -> Result<Option<RoomRow>, ReadError> {
        unreachable!()
    }

    async fn members(&self, _: &RoomId, _: Option<&UserId>, _: usize) -> Result<Vec<MemberRow>, ReadError> {
        unreachable!()
    }

    async fn rooms_of_user(
        &self,
        _: &UserId,
        _: Option<(Millis, RoomId)>,
        _: usize,
    ) -> Result<Vec<RoomOfUser>, ReadError> {
        unreachable!()
    }

    async fn rooms_of_user_among(&self, _: &UserId, _: &[RoomId]) -> Result<Vec<Option<RoomOfUser>>, ReadError> {
        unreachable!()
    }

    async fn count_rooms_of_user(&self, _: &UserId, _: usize) -> Result<usize, ReadError> {
        unreachable!()
    }

    async fn rooms_by_activity(
        &self,
        _: &UserId,
        _: Millis,
        _: Option<(Millis, RoomId)>,
        _: usize,
    ) -> Result<Vec<OrderRow>, ReadError> {
        unreachable!()
    }

    async fn read_markers(&self, _: &UserId, _: &[RoomId]) -> Result<Vec<Option<Mark>>, ReadError> {
        unreachable!()
    }

    async fn active_rooms(&self, _: Partition, _: RangeInclusive<u64>) -> Result<Vec<RoomId>, ReadError> {
        unreachable!()
    }

    async fn nonces(&self, _: &RoomId, _: RangeInclusive<u64>) -> Result<Vec<NonceRow>, ReadError> {
        unreachable!()
    }

    async fn member(&self, _: &RoomId, _: &UserId) -> Result<Option<MemberRow>, ReadError> {
        unreachable!()
    }

    async fn pushed(&self, _: &RoomId) -> Result<Option<PushedRow>, ReadError> {
        unreachable!()
    }

    async fn revoked(&self, _: &UserId) -> Result<Option<Millis>, ReadError> {
        unreachable!()
    }

    async fn rooms_ever(&self, _: &UserId, _: Option<&RoomId>, _: usize) -> Result<Vec<RoomId>, ReadError> {
        unreachable!()
    }

    async fn deleted_rooms(&self, _: Partition) -> Result<Vec<DeletedRoom>, ReadError> {
        unreachable!()
    }

    async fn remove_events(&self, _: &RoomId, _: u64) -> Result<usize, WriteError> {
        unreachable!()
    }

    async fn remove_room(&self, _: Partition, _: &RoomId) -> Result<(), WriteError> {
        unreachable!()
    }

    async fn devices(&self, _: &UserId) -> Result<Vec<DeviceRow>, ReadError> {
        unreachable!()
    }

    async fn settled(&self, _: Partition) -> Result<Vec<SettledRow>, ReadError> {
        unreachable!()
    }
}

fn unknown() -> Result<(), WriteError> {
    Err(WriteError::Unknown("the disk failed".into()))
}

fn failed() -> Result<(), WriteError> {
    Err(WriteError::Failed("the store is closed".into()))
}

#[tokio::test]
async fn a_write_that_failed_at_once_has_failed() {
    let store = Scripted::new([failed()]);
    assert!(matches!(store.write_once().await, Err(JobError::Write(WriteError::Failed(_)))));
}

#[tokio::test]
async fn what_is_refused_after_an_unknown_outcome_is_still_unknown_and_tried_again() {
    let store = Scripted::new([unknown(), failed(), failed(), unknown(), Ok(())]);
    assert!(store.write_once().await.is_ok());
    assert!(store.writes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_write_of_unknown_outcome_ends_when_a_higher_epoch_took_the_partition() {
    let fences = Ok(vec![Fence { epoch: 6, claim: "another".into() }]);
    let store = Scripted { fences, ..Scripted::new([unknown()]) };
    assert!(matches!(store.write_once().await, Err(JobError::NotOwner(Partition(1)))));
}
