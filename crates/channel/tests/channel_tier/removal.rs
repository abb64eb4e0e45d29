//! What is left of deleted rooms is removed by whoever owns them.

use std::time::Duration;

use sendpi_channel::ChannelConfig;
use sendpi_model::{Head, Millis, Partitions};
use sendpi_store::{DeletedRoom, EventRow, Row, Stamp, Store, TIMELINE_BUCKET};
use sendpi_tests::until;

use crate::support::ChannelTier;
use crate::{room, rows};

/// Returns the rows of a room that epoch 1 deleted a day ago, and did not remove: with messages in three pieces of its
/// timeline.
fn deleted(id: &str, is_deleted: bool) -> Vec<Row> {
    let partition = Partitions::DEFAULT.of(&room(id));
    let at = Millis::now().before(Duration::from_hours(24));
    let head = Head { seq: 2 * TIMELINE_BUCKET + 1, count: 3, at };
    let mut stored = rows(id, 2, 2);
    stored.retain(|row| !matches!(row, Row::ActiveRoom(_)));
    let Some(Row::Event(_, first)) = stored.last().cloned() else { panic!("no event") };
    for seq in [TIMELINE_BUCKET, head.seq] {
        let mut event = first.event.clone();
        event.head.seq = seq;
        stored.push(Row::Event(room(id), EventRow { epoch: 1, event, expires: None }));
    }
    for row in &mut stored {
        if let Row::Room(row) = row {
            (row.head, row.stamp, row.deleted) = (head, Stamp::of(head.seq), is_deleted);
        }
    }
    stored.push(Row::Deleted(DeletedRoom { partition, room: room(id), at }));
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_owner_removes_what_the_one_before_left_of_a_deleted_room_and_nothing_else() {
    let config = ChannelConfig { remove_after: Duration::from_secs(1), ..ChannelConfig::default() };
    // The deletion of the second one failed.
    let tier = ChannelTier::start(config, [deleted("gone", true), deleted("kept", false)].concat()).await;
    let events = async |id: &str| tier.store.timeline(&room(id), 1..=u64::MAX >> 20, 10, false).await.unwrap().len();
    let partition = Partitions::DEFAULT.of(&room("gone"));
    until("the room to be removed", async || {
        let left = tier.store.deleted_rooms(partition).await.unwrap();
        left.iter().all(|left| left.room != room("gone"))
    })
    .await;
    assert_eq!((events("gone").await, events("kept").await), (0, 4));
    assert_eq!(tier.store.starts(&room("gone"), None, 9).await.unwrap(), []);
    assert_eq!(tier.store.all_members(&room("gone")).await.unwrap(), []);
    assert!(tier.store.room(&room("gone")).await.unwrap().is_some());
    assert_eq!(tier.store.all_members(&room("kept")).await.unwrap().len(), 2);
}
