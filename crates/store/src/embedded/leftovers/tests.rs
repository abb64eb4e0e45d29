use sendpi_model::{Access, Mark, Notify, Partition, Role, RoomKind, UserId};

use super::super::encode::EncodedRow;
use super::*;
use crate::{Fence, MemberRow, RoomOfUser, RoomRow, Row, SettledRow};

fn room() -> RoomId {
    RoomId::parse("r").unwrap()
}

fn put(opened: &Opened, rows: impl IntoIterator<Item = Row>) {
    let rows: Vec<_> = rows.into_iter().map(|row| EncodedRow::of(&row).unwrap()).collect();
    opened.fences.set(super::super::table::Fences::among(&rows));
    opened.tables.commit(rows).unwrap();
}

fn raise_fence(opened: &Opened, epoch: u64) {
    put(opened, [Row::Fence(Partitions::DEFAULT.of(&room()), Fence { epoch, claim: "c".into() })]);
}

/// Runs one whole pass.
fn sweep(opened: &Opened) {
    let (mut sweep, mut now) = (LeftoverSweep::default(), Millis(0));
    loop {
        sweep.round(now, opened).unwrap();
        if sweep.due > now.after(ROUND_EVERY) {
            return;
        }
        now = now.after(ROUND_EVERY);
    }
}

fn keys(opened: &Opened, table: Table) -> Vec<Vec<u8>> {
    opened.tables.prefix(table, &[]).map(|row| row.key().unwrap().to_vec()).collect()
}

fn epochs(opened: &Opened) -> Vec<u64> {
    let starts = opened.tables.prefix(Table::Starts, &RowKey::of_id("r").bytes());
    starts.map(|row| decode_json::<Start>(&row.into_inner().unwrap().1).unwrap().epoch).collect()
}

fn row_of_room(seq: u64) -> Row {
    Row::Room(RoomRow {
        room: room(),
        stamp: Stamp::of(seq),
        name: "r".into(),
        kind: RoomKind::Group,
        access: Access::Open,
        creator: UserId::parse("ann").unwrap(),
        nonce: String::new(),
        members: 1,
        head: Head { seq, count: seq, at: Millis(seq) },
        last: None,
        retention_days: None,
        deleted: false,
        listed: None,
    })
}

fn rows_of_member(user: &str, stamp: u64, role: Option<Role>) -> [Row; 2] {
    let (user, room, joined) = (UserId::parse(user).unwrap(), room(), Mark { seq: 1, count: 0 });
    let of_user = RoomOfUser {
        user: user.clone(),
        room: room.clone(),
        stamp: Stamp::of(stamp),
        role,
        joined,
        active_at: Millis(1),
    };
    let (joined_at, notify, muted_until) = (Millis(1), Notify::All, None);
    let stamp = Stamp::of(stamp);
    let member = MemberRow { room, user, stamp, role, joined, joined_at, notify, muted_until, banned: false };
    [Row::Member(member), Row::RoomOfUser(of_user)]
}

#[test]
fn only_the_newest_record_of_what_is_settled_stays() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::open(dir.path()).unwrap();
    let record = |partition, epoch| Row::Settled(Partition(partition), SettledRow { epoch, at: Millis(epoch) });
    // More than one round, with one partition that has more records than a round examines.
    put(&opened, (1..=3000).map(|epoch| record(1, epoch)));
    put(&opened, (2..=600).flat_map(|partition| (1..=3).map(move |epoch| record(partition, epoch * 7))));
    sweep(&opened);
    let expected: Vec<_> = (1..=600)
        .map(|partition| {
            RowKey::of_partition(Partition(partition)).number(if partition == 1 { 3000 } else { 21 }).bytes()
        })
        .collect();
    assert_eq!(keys(&opened, Table::Settled).len(), expected.len());
    assert_eq!(keys(&opened, Table::Settled), expected);
}

#[test]
fn starts_outside_the_chain_are_removed_once_the_newest_is_that_of_the_fence() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::open(dir.path()).unwrap();
    let start = |epoch, next_seq, continues| Row::Start(room(), Start { epoch, next_seq, continues });
    put(&opened, [Row::Partitions(Partitions::DEFAULT.count())]);
    // Epoch 2 wrote nothing, and epoch 3 left it out. The start of epoch 4 is of an owner who did not see that of 3.
    put(&opened, [start(1, 1, None), start(2, 8, Some(1)), start(3, 8, Some(1)), start(4, 9, Some(2))]);
    raise_fence(&opened, 5);
    sweep(&opened);
    // The owner of epoch 5 may have read the starts without that of epoch 4, and may continue any of them.
    assert_eq!(epochs(&opened), [1, 2, 3, 4]);

    put(&opened, [start(5, 8, Some(3))]);
    sweep(&opened);
    assert_eq!(epochs(&opened), [1, 3, 5]);
    sweep(&opened);
    assert_eq!(epochs(&opened), [1, 3, 5]);
}

#[test]
fn members_who_left_before_the_head_row_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Opened::open(dir.path()).unwrap();
    let left = (0..2000).flat_map(|n| rows_of_member(&format!("u{n:04}"), 10 + n, None));
    put(&opened, left.chain(rows_of_member("ann", 3, Some(Role::Owner))));
    sweep(&opened);
    // The room has no row yet.
    assert_eq!(keys(&opened, Table::Members).len(), 2001);

    put(&opened, [row_of_room(1009)]);
    sweep(&opened);
    // Those with the stamps 10 to 1009 are gone.
    assert_eq!(keys(&opened, Table::Members).len(), 1001);
    assert_eq!(keys(&opened, Table::RoomsOfUser).len(), 2001, "they tell where the user may have written");
    assert!(keys(&opened, Table::Members).iter().all(|key| key.ends_with(b"ann\0") || *key >= b"r\0u1000\0".to_vec()));
}
