//! Rows for the conformance suite to write and to compare with.

use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::{
    Access, Event, EventKind, Head, Mark, Millis, Nonce, Notify, Partition, Preview, Role, RoomId, RoomKind, UserId,
};

use crate::{
    ActiveRoom, EventRow, Fence, MarkerRow, MemberRow, OrderRow, RoomOfUser, RoomRow, Row, SettledRow, Stamp, Start,
    Store,
};

/// The store under test.
pub(super) type Subject = Arc<dyn Store>;

pub(super) fn room(id: &str) -> RoomId {
    RoomId::parse(id).expect("a valid room id")
}

pub(super) fn user(id: &str) -> UserId {
    UserId::parse(id).expect("a valid user id")
}

pub(super) async fn put(store: &Subject, rows: Vec<Row>) {
    store.write(rows).await.expect("the write is done");
}

pub(super) fn event_row(seq: u64, epoch: u64) -> EventRow {
    let frame = format!(r#"{{"op":"event","seq":{seq},"body":{{"text":"{seq} of {epoch}"}}}}"#);
    let event = Event {
        head: Head { seq, count: seq / 2, at: Millis(1_790_000_000_000 + seq) },
        kind: EventKind::Message,
        from: user("ann"),
        nonce: Nonce::parse(&format!("n-{seq}")).ok(),
        frame: Bytes::from(frame),
    };
    EventRow { epoch, event, expires: None }
}

pub(super) fn event(id: &str, seq: u64, epoch: u64) -> Row {
    Row::Event(room(id), event_row(seq, epoch))
}

/// Returns the seq and the epoch of each row of a page.
pub(super) fn places(rows: &[EventRow]) -> Vec<(u64, u64)> {
    rows.iter().map(|row| (row.event.head.seq, row.epoch)).collect()
}

pub(super) fn start(epoch: u64, next_seq: u64) -> Start {
    Start { epoch, next_seq, continues: epoch.checked_sub(1).filter(|older| *older > 0) }
}

pub(super) async fn highest_fence(store: &Subject) -> Option<Fence> {
    store.fences(Partition(3), 0).await.expect("the fences").pop()
}

pub(super) fn fence(epoch: u64, claim: &str) -> Row {
    Row::Fence(Partition(3), Fence { epoch, claim: claim.into() })
}

pub(super) fn room_row(id: &str, stamp: u64, name: &str) -> RoomRow {
    let (seq, at) = (stamp, Millis(stamp));
    let last = Preview { seq, kind: EventKind::System, from: user("svc"), at, text: Some("grüß".into()) };
    RoomRow {
        room: room(id),
        stamp: Stamp::of(stamp),
        name: name.into(),
        kind: RoomKind::Group,
        access: Access::Open,
        creator: user("ann"),
        nonce: "made".into(),
        members: 2,
        head: Head { seq, count: 1, at },
        last: Some(last),
        retention_days: None,
        deleted: false,
        listed: None,
    }
}

pub(super) fn member(id: &str, name: &str, stamp: u64, role: Option<Role>) -> MemberRow {
    MemberRow {
        room: room(id),
        user: user(name),
        stamp: Stamp::of(stamp),
        role,
        joined: Mark { seq: 1, count: 0 },
        joined_at: Millis(5),
        notify: Notify::Mentions,
        muted_until: Some(Millis(9)),
        banned: false,
    }
}

pub(super) fn room_of(name: &str, id: &str, stamp: u64, role: Option<Role>) -> RoomOfUser {
    let joined = Mark { seq: 1, count: 0 };
    let stamp_of = Stamp::of(stamp);
    RoomOfUser { user: user(name), room: room(id), stamp: stamp_of, role, joined, active_at: Millis(stamp) }
}

pub(super) fn order(name: &str, at: Millis, id: &str) -> Row {
    Row::Order(OrderRow { user: user(name), active_at: at, room: room(id) })
}

pub(super) fn marker(name: &str, id: &str, seq: u64, count: u64) -> Row {
    Row::Marker(MarkerRow { user: user(name), room: room(id), mark: Mark { seq, count } })
}

pub(super) fn active(partition: u16, minute: u64, id: &str) -> Row {
    Row::ActiveRoom(ActiveRoom { partition: Partition(partition), minute, room: room(id) })
}

pub(super) fn settled(epoch: u64, at: u64) -> Row {
    Row::Settled(Partition(3), SettledRow { epoch, at: Millis(at) })
}
