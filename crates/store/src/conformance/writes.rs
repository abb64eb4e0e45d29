use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sendpi_model::{Millis, Partition, Role, RoomId, limits};

use super::sample::{
    Subject, active, event, event_row, fence, highest_fence, marker, member, order, places, put, room, room_of,
    room_row, settled, start, user,
};
use crate::{DeletedRoom, Row, Stamp, TIMELINE_BUCKET};

/// Checks that a new store answers every read, with nothing.
pub async fn a_new_store_holds_nothing(store: Subject) {
    let (r, u, p) = (room("r"), user("ann"), Partition(0));
    assert_eq!(store.partitions().await, Ok(None));
    assert_eq!(store.fences(p, 0).await, Ok(vec![]));
    assert_eq!(store.starts(&r, None, 9).await, Ok(vec![]));
    assert_eq!(store.timeline(&r, 0..=9, 9, true).await, Ok(vec![]));
    assert_eq!(store.room(&r).await, Ok(None));
    assert_eq!(store.members(&r, None, 9).await, Ok(vec![]));
    assert_eq!(store.rooms_of_user(&u, None, 99).await, Ok(vec![]));
    assert_eq!(store.rooms_by_activity(&u, Millis(0), None, 9).await, Ok(vec![]));
    assert_eq!(store.read_markers(&u, std::slice::from_ref(&r)).await, Ok(vec![None]));
    assert_eq!(store.active_rooms(p, 0..=u64::MAX >> 11).await, Ok(vec![]));
    assert_eq!(store.settled(p).await, Ok(vec![]));
}

/// Checks that a write without rows is done.
pub async fn a_write_of_nothing_is_done(store: Subject) {
    assert_eq!(store.write(vec![]).await, Ok(()));
}

fn one_of_each(now: Millis) -> Vec<Row> {
    vec![
        Row::Partitions(8),
        fence(2, "c"),
        Row::Start(room("r"), start(2, 1)),
        event("r", 1, 2),
        Row::Room(room_row("r", 1, "one")),
        Row::Member(member("r", "ann", 1, Some(Role::Owner))),
        Row::RoomOfUser(room_of("ann", "r", 1, Some(Role::Owner))),
        order("ann", now, "r"),
        marker("ann", "r", 1, 1),
        active(3, now.minute(), "r"),
        settled(2, 7),
    ]
}

async fn check_one_of_each(store: &Subject) {
    let (r, u, p) = (room("r"), user("ann"), Partition(3));
    assert_eq!(store.partitions().await, Ok(Some(8)));
    assert_eq!(store.fences(p, 2).await.map(|f| f.len()), Ok(1));
    assert_eq!(store.starts(&r, None, 9).await, Ok(vec![start(2, 1)]));
    assert_eq!(store.timeline(&r, 0..=9, 9, true).await, Ok(vec![event_row(1, 2)]));
    assert_eq!(store.room(&r).await, Ok(Some(room_row("r", 1, "one"))));
    assert_eq!(store.members(&r, None, 9).await.map(|rows| rows.len()), Ok(1));
    assert_eq!(store.rooms_of_user(&u, None, 99).await.map(|rows| rows.len()), Ok(1));
    assert_eq!(store.rooms_by_activity(&u, Millis(0), None, 9).await.map(|rows| rows.len()), Ok(1));
    assert_eq!(store.read_markers(&u, std::slice::from_ref(&r)).await.map(|m| m.len()), Ok(1));
    assert_eq!(store.active_rooms(p, 0..=u64::MAX >> 11).await, Ok(vec![r]));
    assert_eq!(store.settled(p).await.map(|rows| rows.len()), Ok(1));
}

/// Checks that one write may contain rows of every kind, and that reads that begin after it see them all.
pub async fn rows_of_all_kinds_go_in_one_write(store: Subject) {
    put(&store, one_of_each(Millis::now())).await;
    check_one_of_each(&store).await;
}

/// Checks that writing the same rows again, as after an unknown outcome, leads to the same state.
pub async fn what_is_written_again_changes_nothing(store: Subject) {
    let rows = one_of_each(Millis::now());
    for _ in 0..2 {
        put(&store, rows.clone()).await;
    }
    put(&store, [rows.clone(), rows].concat()).await;
    check_one_of_each(&store).await;
}

/// Checks that one write may contain about a megabyte of messages of the maximum size.
pub async fn many_large_rows_fit_in_one_write(store: Subject) {
    let frame = Bytes::from("x".repeat(limits::BODY_BYTES));
    let rows = (1..=60).map(|seq| {
        let mut row = event_row(seq, 1);
        row.event.frame = frame.clone();
        Row::Event(room("r"), row)
    });
    put(&store, rows.collect()).await;
    let read = store.timeline(&room("r"), 0..=99, 99, false).await.expect("a page");
    assert_eq!(read.len(), 60);
    assert!(read.iter().all(|row| row.event.frame == frame));
}

/// Checks that each of many concurrent writers finds all its own rows after its write is done.
pub async fn concurrent_writers_lose_nothing(store: Subject) {
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..32 {
        let store = store.clone();
        writers.spawn(async move {
            let id = format!("r{n}");
            for seq in 1..=30 {
                put(&store, vec![event(&id, seq, 1), Row::Room(room_row(&id, seq, "r"))]).await;
                let newest = store.timeline(&room(&id), 0..=99, 1, true).await.expect("a page");
                assert_eq!(places(&newest), [(seq, 1)]);
                let row = store.room(&room(&id)).await.expect("the room").expect("a row");
                assert_eq!(row.stamp, Stamp::of(seq));
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("a writer");
    }
    for n in 0..32 {
        let rows = store.timeline(&room(&format!("r{n}")), 0..=99, 99, false).await.expect("a page");
        assert_eq!(rows.len(), 30);
    }
}

/// Checks that concurrent writers of one key leave the row with the highest stamp.
pub async fn of_concurrent_writes_the_highest_stamp_stays(store: Subject) {
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..16u64 {
        let store = store.clone();
        writers.spawn(async move {
            for k in 0..20 {
                let stamp = (n * 7919 + k * 104_729) % 1000;
                put(&store, vec![Row::Room(room_row("r", stamp, "r")), fence(stamp, "c")]).await;
                let row = store.room(&room("r")).await.expect("the room").expect("a row");
                assert!(row.stamp >= Stamp::of(stamp), "the stamp is {:?} after {stamp} was done", row.stamp);
            }
            (0..20).map(|k| (n * 7919 + k * 104_729) % 1000).max()
        });
    }
    let mut highest = 0;
    while let Some(done) = writers.join_next().await {
        highest = highest.max(done.expect("a writer").unwrap_or_default());
    }
    assert_eq!(store.room(&room("r")).await.expect("the room").expect("a row").stamp, Stamp::of(highest));
    assert_eq!(highest_fence(&store).await.expect("a row").epoch, highest);
}

/// Checks that a reader that runs while events are written finds them up to some seq, without a hole before it.
pub async fn a_reader_never_sees_a_hole(store: Subject) {
    let done = std::sync::Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done) = (store.clone(), done.clone());
        async move {
            let mut most = 0;
            loop {
                let last = done.load(Ordering::Acquire);
                let rows = store.timeline(&room("r"), 0..=9999, 9999, false).await.expect("a page");
                let expected: Vec<_> = (1..=rows.len() as u64).map(|seq| (seq, 1)).collect();
                assert_eq!(places(&rows), expected);
                assert!(rows.len() >= most, "rows that were seen are gone");
                most = rows.len();
                if last {
                    return most;
                }
                tokio::task::yield_now().await;
            }
        }
    });
    for first in (1..2000).step_by(100) {
        put(&store, (first..first + 100).map(|seq| event("r", seq, 1)).collect()).await;
    }
    done.store(true, Ordering::Release);
    assert_eq!(reader.await.expect("the reader"), 2000);
}

/// Checks that of a room that was deleted everything can be removed but its own row, piece by piece and again, and that
/// the rooms whose rows are still there are told.
pub async fn what_was_deleted_is_removed_piece_by_piece(store: Subject) {
    let (gone, other) = (room("r"), room("r2"));
    let deleted = |id: &str, at| DeletedRoom { partition: Partition(3), room: room(id), at: Millis(at) };
    let last = 2 * TIMELINE_BUCKET + 3;
    for id in ["r", "r2"] {
        let mut rows: Vec<Row> = [1, 2, TIMELINE_BUCKET, last].map(|seq| event(id, seq, 1)).into();
        rows.extend([Row::Start(room(id), start(1, 1)), Row::Member(member(id, "ann", 1, None))]);
        rows.extend([Row::Room(room_row(id, last, "n")), Row::RoomOfUser(room_of("ann", id, 1, None))]);
        rows.push(Row::Deleted(deleted(id, 7)));
        put(&store, rows).await;
    }
    put(&store, vec![Row::Deleted(DeletedRoom { partition: Partition(4), ..deleted("r", 7) })]).await;
    let told = async |partition| store.deleted_rooms(Partition(partition)).await.expect("the deleted rooms");
    assert_eq!(told(3).await, [deleted("r", 7), deleted("r2", 7)]);
    for removed in [[2, 1, 1, 0], [0; 4]] {
        for (piece, expected) in (0..).zip(removed) {
            assert_eq!(store.remove_events(&gone, piece).await, Ok(expected), "piece {piece}");
        }
        store.remove_room(Partition(3), &gone).await.expect("the rest is removed");
    }
    assert_eq!(told(3).await, [deleted("r2", 7)]);
    assert_eq!(told(4).await.len(), 1, "another partition's");
    let events = async |id| places(&store.timeline(id, 1..=last, 10, false).await.expect("a page"));
    assert_eq!(events(&gone).await, []);
    assert_eq!(events(&other).await.len(), 4);
    assert_eq!(store.starts(&gone, None, 9).await.expect("the starts"), []);
    assert_eq!(store.starts(&other, None, 9).await.expect("the starts").len(), 1);
    assert!(store.room(&gone).await.expect("the room").is_some(), "its id is never used again");
    let ever =
        async |after: Option<&RoomId>, limit| store.rooms_ever(&user("ann"), after, limit).await.expect("the rooms");
    assert_eq!(ever(None, 9).await, [gone.clone(), other.clone()]);
    assert_eq!(ever(None, 1).await, std::slice::from_ref(&gone));
    assert_eq!(ever(Some(&gone), 9).await, [other]);
    assert_eq!(ever(None, 0).await, []);
}
