use bytes::Bytes;
use sendpi_model::{Mark, Millis, Partition, Role};

use super::sample::{
    Subject, event, event_row, fence, highest_fence, marker, member, put, room, room_of, room_row, settled, user,
};
use crate::{Fence, MemberRow, PushedRange, PushedRow, RevokedRow, RoomOfUser, RoomRow, Row, SettledRow, Stamp};

/// Checks that the highest fence is read whatever the order of the writes, and only from the epoch that is asked for.
pub async fn the_fence_is_never_lowered(store: Subject) {
    put(&store, vec![fence(5, "a")]).await;
    put(&store, vec![fence(4, "late")]).await;
    assert_eq!(highest_fence(&store).await, Some(Fence { epoch: 5, claim: "a".into() }));
    put(&store, vec![fence(1000, "b")]).await;
    assert_eq!(highest_fence(&store).await, Some(Fence { epoch: 1000, claim: "b".into() }));
    let from = async |epoch| store.fences(Partition(3), epoch).await.expect("the fences").len();
    assert_eq!((from(1000).await, from(1001).await), (1, 0));
    assert_eq!(store.fences(Partition(4), 0).await.expect("the fences"), []);
}

/// Checks that of two claims of one epoch both are seen, so that whoever came second sees that there is another.
pub async fn two_claims_of_one_epoch_are_both_seen(store: Subject) {
    let claims = async || {
        let fences = store.fences(Partition(3), 5).await.expect("the fences").into_iter();
        fences.map(|fence| (fence.epoch, fence.claim)).collect::<Vec<_>>()
    };
    put(&store, vec![fence(5, "b")]).await;
    put(&store, vec![fence(5, "a")]).await;
    put(&store, vec![fence(5, "b")]).await;
    assert_eq!(claims().await, [(5, "a".into()), (5, "b".into())]);
    put(&store, vec![fence(5, "c")]).await;
    assert!(claims().await.len() >= 2);
}

/// Checks that of two rows of one room the one with the higher stamp stays, whatever their order.
pub async fn the_room_row_with_the_higher_stamp_stays(store: Subject) {
    let read = async || store.room(&room("r")).await.expect("the room");
    put(&store, vec![Row::Room(room_row("r", 255, "first"))]).await;
    put(&store, vec![Row::Room(room_row("r", 256, "second"))]).await;
    put(&store, vec![Row::Room(room_row("r", 9, "late"))]).await;
    assert_eq!(read().await, Some(room_row("r", 256, "second")));
    let deleted = crate::RoomRow { deleted: true, last: None, ..room_row("r", 257, "") };
    put(&store, vec![Row::Room(deleted.clone())]).await;
    assert_eq!(read().await, Some(deleted));
}

/// Checks that of two rows that follow the same event the one with the later turn stays, whole, whatever the order of
/// the writes.
pub async fn of_one_seq_the_later_turn_stays(store: Subject) {
    let before = Stamp::before_fence(4, 7);
    for stamps in [[Stamp::of(4), Stamp::of(4).next(), before], [before, Stamp::of(4).next(), Stamp::of(4)]] {
        let named = |stamp: Stamp| if stamp == before { "last" } else { "first" };
        for stamp in stamps {
            let row = RoomRow { stamp, deleted: stamp != before, ..room_row("r", 4, named(stamp)) };
            let member = MemberRow { stamp, ..member("r", named(stamp), 4, None) };
            let role = (stamp == before).then_some(Role::Owner);
            let listed = RoomOfUser { stamp, ..room_of("ann", "r", 4, role) };
            put(&store, vec![Row::Room(row), Row::Member(member), Row::RoomOfUser(listed)]).await;
        }
        let row = store.room(&room("r")).await.expect("the room").expect("a row");
        assert_eq!((row.name.as_str(), row.deleted, row.stamp), ("last", false, before));
        let rooms = store.rooms_of_user(&user("ann"), None, 9).await.expect("the rooms");
        assert_eq!(rooms, [RoomOfUser { stamp: before, ..room_of("ann", "r", 4, Some(Role::Owner)) }]);
    }
}

/// Checks that the row with the higher stamp stays even if both are in one write.
pub async fn the_higher_stamp_stays_within_one_write(store: Subject) {
    let rows = [7, 9, 8].map(|stamp| Row::Room(room_row("r", stamp, &format!("as of {stamp}"))));
    put(&store, rows.to_vec()).await;
    assert_eq!(store.room(&room("r")).await.expect("the room"), Some(room_row("r", 9, "as of 9")));
    // A row that is not kept does not affect the rest of its write.
    put(&store, vec![Row::Room(room_row("r", 1, "late")), event("r", 1, 1)]).await;
    assert_eq!(store.timeline(&room("r"), 1..=1, 1, false).await.expect("a page").len(), 1);
}

/// Checks that an old join does not undo a newer leave that was written first, and the same for an old
/// leave and a newer join.
pub async fn a_late_join_does_not_bring_back_who_left(store: Subject) {
    let (join, leave, again) = (Some(Role::Member), None, Some(Role::Admin));
    for (stamp, role) in [(9, leave), (7, join)] {
        put(&store, vec![Row::Member(member("r", "ann", stamp, role))]).await;
        put(&store, vec![Row::RoomOfUser(room_of("ann", "r", stamp, role))]).await;
    }
    assert_eq!(store.all_members(&room("r")).await.expect("the members"), []);
    assert_eq!(store.rooms_of_user(&user("ann"), None, 99).await.expect("the rooms"), []);
    for (stamp, role) in [(11, again), (10, leave)] {
        put(&store, vec![Row::Member(member("r", "ann", stamp, role))]).await;
        put(&store, vec![Row::RoomOfUser(room_of("ann", "r", stamp, role))]).await;
    }
    assert_eq!(store.all_members(&room("r")).await.expect("the members"), [member("r", "ann", 11, again)]);
    assert_eq!(store.rooms_of_user(&user("ann"), None, 99).await.expect("the rooms"), [room_of("ann", "r", 11, again)]);
}

/// Checks that of two revisions of an event the later one stays, whatever their order, and that the event is where it
/// was.
pub async fn a_revised_event_stays_revised(store: Subject) {
    put(&store, (1..=3).map(|seq| event("r", seq, 1)).collect()).await;
    let revised = |text: &str| {
        let mut row = event_row(2, 1);
        row.event.frame = Bytes::from(format!(r#"{{"op":"event","seq":2,"body":{{"text":"{text}"}}}}"#));
        row
    };
    let write = async |text, by| put(&store, vec![Row::Revised(room("r"), revised(text), by)]).await;
    let read = async || store.timeline(&room("r"), 1..=9, 9, false).await.expect("the timeline");
    write("edited", 300).await;
    assert_eq!(read().await, [event_row(1, 1), revised("edited"), event_row(3, 1)]);
    write("late", 7).await;
    assert_eq!(read().await[1], revised("edited"));
    write("edited again", 301).await;
    assert_eq!(read().await[1], revised("edited again"));
    let nonces = store.nonces(&room("r"), 1..=9).await.expect("the nonces");
    assert_eq!(nonces.iter().map(|row| row.head.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let (first, then) = (event("q", 2, 1), Row::Revised(room("q"), revised("in one write"), 3));
    put(&store, vec![first, then]).await;
    let timeline = store.timeline(&room("q"), 1..=9, 9, false).await.expect("the timeline");
    assert_eq!(timeline, [revised("in one write")]);
}

/// Checks that an earlier time up to which tokens are revoked does not replace a later one.
pub async fn a_user_is_signed_out_up_to_the_latest_time(store: Subject) {
    assert_eq!(store.revoked(&user("ann")).await.expect("the row"), None);
    for before in [300, 7, 301, 300].map(Millis) {
        put(&store, vec![Row::Revoked(RevokedRow { user: user("ann"), before })]).await;
    }
    assert_eq!(store.revoked(&user("ann")).await.expect("the row"), Some(Millis(301)));
    assert_eq!(store.revoked(&user("an")).await.expect("no row"), None);
}

/// Checks that an older marker that is written late does not lower the stored one.
pub async fn a_read_marker_only_rises(store: Subject) {
    let read = async || store.read_markers(&user("ann"), &[room("r")]).await.expect("the markers");
    put(&store, vec![marker("ann", "r", 300, 200)]).await;
    put(&store, vec![marker("ann", "r", 299, 199)]).await;
    assert_eq!(read().await, [Some(Mark { seq: 300, count: 200 })]);
    put(&store, vec![marker("ann", "r", 301, 201)]).await;
    assert_eq!(read().await, [Some(Mark { seq: 301, count: 201 })]);
}

/// Checks that the settled time of an epoch only rises, and that the epochs come in order, the newest in any case.
pub async fn what_is_settled_only_rises(store: Subject) {
    for row in [settled(300, 50), settled(2, 1000), settled(2, 999), settled(300, 51)] {
        put(&store, vec![row]).await;
    }
    let rows = store.settled(Partition(3)).await.expect("what is settled");
    let all = [SettledRow { epoch: 2, at: Millis(1000) }, SettledRow { epoch: 300, at: Millis(51) }];
    assert!(rows == all || rows == all[1..], "{rows:?}");
    assert_eq!(store.settled(Partition(2)).await.expect("what is settled"), []);
}

/// Checks that of what is pushed in a room the row with the higher stamp stays, and comes back as it was.
pub async fn what_is_pushed_only_rises(store: Subject) {
    let row = |stamp| {
        let range = PushedRange { first: 2, last: stamp, users: vec![PushedRange::name(&user("ann")), u64::MAX] };
        PushedRow { room: room("r"), stamp: Stamp::of(stamp), ranges: vec![range] }
    };
    assert_eq!(store.pushed(&room("r")).await.expect("what is pushed"), None);
    for stamp in [7, 5] {
        put(&store, vec![Row::Pushed(row(stamp))]).await;
    }
    assert_eq!(store.pushed(&room("r")).await.expect("what is pushed"), Some(row(7)));
}

/// Checks that the number of partitions stays when it is written again.
pub async fn the_number_of_partitions_stays(store: Subject) {
    put(&store, vec![Row::Partitions(64)]).await;
    put(&store, vec![Row::Partitions(64)]).await;
    assert_eq!(store.partitions().await.expect("the number"), Some(64));
}
