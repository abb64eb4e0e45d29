use std::time::Duration;

use sendpi_model::{DeviceId, Mark, Millis, Partition, PushAddress, Role};

use super::sample::{Subject, active, event, marker, member, order, places, put, room, room_of, room_row, start, user};
use crate::{DeviceRow, OrderRow, RoomOfUser, Row};

fn ago(minutes: u64) -> Millis {
    Millis::now().before(Duration::from_mins(minutes))
}

fn listed(rows: &[OrderRow]) -> Vec<(Millis, &str)> {
    rows.iter().map(|row| (row.active_at, row.room.as_str())).collect()
}

/// Checks that order rows come newest first and then by room, and that a row at `since` is included.
pub async fn order_rows_come_newest_first_and_not_before_since(store: Subject) {
    let (new, middle, old) = (ago(1), ago(50), ago(5000));
    put(&store, vec![order("ann", old, "a"), order("ann", new, "b"), order("bob", new, "z")]).await;
    put(&store, vec![order("ann", middle, "b"), order("ann", middle, "a"), order("ann", middle, "b1")]).await;
    let read = async |since, limit| store.rooms_by_activity(&user("ann"), since, None, limit).await.expect("the rows");
    let all = [(new, "b"), (middle, "a"), (middle, "b"), (middle, "b1"), (old, "a")];
    assert_eq!(listed(&read(Millis(0), 100).await), all);
    assert_eq!(listed(&read(middle, 100).await), all[..4]);
    assert_eq!(listed(&read(Millis(middle.0 + 1), 100).await), all[..1]);
    assert_eq!(listed(&read(Millis(0), 2).await), all[..2]);
    assert_eq!(listed(&read(Millis(new.0 + 1), 100).await), []);
}

/// Checks that pages of any size contain every row once, even if many rooms have the same time.
pub async fn order_rows_are_paged_without_gap_or_repeat_where_times_are_equal(store: Subject) {
    let times = [ago(3), ago(2), ago(1)];
    let rooms = ["a", "ab", "b", "b!", "c", "é"];
    let rows = times.iter().flat_map(|at| rooms.map(|id| order("ann", *at, id))).collect();
    put(&store, rows).await;
    for limit in [1, 2, 4, 6, 7, 100] {
        let (mut all, mut before) = (Vec::new(), None);
        loop {
            let page = store.rooms_by_activity(&user("ann"), times[0], before, limit).await.expect("a page");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            before = Some((last.active_at, last.room.clone()));
            all.extend(page);
        }
        let expected: Vec<_> = times.iter().rev().flat_map(|at| rooms.map(|id| (*at, id))).collect();
        assert_eq!(listed(&all), expected, "in pages of {limit}");
    }
    // The end of the last page may be older than `since`.
    let before = Some((times[0], room("z")));
    assert_eq!(store.rooms_by_activity(&user("ann"), times[1], before, 9).await.expect("a page"), []);
}

/// Checks that order rows and active rooms are still there after six of their seven days.
pub async fn order_rows_of_six_days_ago_are_still_there(store: Subject) {
    let old = ago(6 * 24 * 60);
    put(&store, vec![order("ann", old, "r"), active(1, old.minute(), "r")]).await;
    assert_eq!(store.rooms_by_activity(&user("ann"), Millis(0), None, 9).await.expect("the rows").len(), 1);
    assert_eq!(store.active_rooms(Partition(1), 0..=ago(0).minute()).await.expect("the rooms"), [room("r")]);
}

/// Checks that a room that was active in several minutes is listed once, and that rooms of other minutes and
/// partitions are not listed.
pub async fn active_rooms_are_told_once_each_and_only_those_of_the_minutes_asked(store: Subject) {
    let m = ago(100).minute();
    put(&store, vec![active(1, m, "a"), active(1, m + 1, "a"), active(1, m + 1, "b"), active(1, m + 2, "a")]).await;
    put(&store, vec![active(1, m + 3, "late"), active(2, m, "other"), active(1, m - 1, "early")]).await;
    let read = async |minutes| {
        let mut rooms = store.active_rooms(Partition(1), minutes).await.expect("the rooms");
        rooms.sort();
        rooms
    };
    assert_eq!(read(m..=m + 2).await, [room("a"), room("b")]);
    assert_eq!(read(m + 2..=m + 2).await, [room("a")]);
    assert_eq!(read(m + 4..=m + 9).await, []);
}

/// Checks that markers come in the order of the requested rooms, and that a room in which nothing was read has none.
pub async fn read_markers_come_in_the_order_of_the_rooms_asked(store: Subject) {
    put(&store, vec![marker("ann", "a", 1, 1), marker("ann", "b", 2, 1), marker("bob", "c", 3, 1)]).await;
    let asked = ["b", "c", "a", "b"].map(room);
    let marks = store.read_markers(&user("ann"), &asked).await.expect("the markers");
    let mark = |seq| Some(Mark { seq, count: 1 });
    assert_eq!(marks, [mark(2), None, mark(1), mark(2)]);
    assert_eq!(store.read_markers(&user("ann"), &[]).await.expect("the markers"), []);
    let many: Vec<_> = (0..1000).map(|n| room(&format!("r{n}"))).collect();
    let marks = store.read_markers(&user("ann"), &many).await.expect("the markers");
    assert!(marks.len() == 1000 && marks.iter().all(Option::is_none));
}

/// Checks that pages of any size contain every room of a user once, the newest first, even if many rooms have the same
/// time.
pub async fn rooms_of_a_user_are_paged_newest_first(store: Subject) {
    let row = |id: &str, at: u64| RoomOfUser { active_at: Millis(at), ..room_of("ann", id, 1, Some(Role::Member)) };
    let rows = [("b", 7), ("a", 7), ("é", 9), ("c", 8), ("d", 7)].map(|(id, at)| row(id, at));
    put(&store, rows.iter().cloned().map(Row::RoomOfUser).collect()).await;
    put(&store, vec![Row::RoomOfUser(room_of("bob", "z", 8, Some(Role::Member)))]).await;
    let expected = [("é", 9), ("c", 8), ("a", 7), ("b", 7), ("d", 7)].map(|(id, at)| row(id, at));
    for limit in [1, 2, 3, 4, 5, 9] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.rooms_of_user(&user("ann"), after, limit).await.expect("a page");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some((last.active_at, last.room.clone()));
            all.extend(page);
        }
        assert_eq!(all, expected, "in pages of {limit}");
    }
    let among = store.rooms_of_user_among(&user("ann"), &["c", "z", "a"].map(room)).await.expect("the rows");
    assert_eq!(among, [Some(row("c", 8)), None, Some(row("a", 7))]);
}

/// Checks that members are ordered by user, and that a user who left is in neither list.
pub async fn those_who_left_are_not_among_members_or_rooms(store: Subject) {
    let rows = [("bob", Some(Role::Member)), ("ann", Some(Role::Owner)), ("eve", None), ("bo", Some(Role::Admin))];
    for (n, (name, role)) in (1..).zip(rows) {
        put(&store, vec![Row::Member(member("r", name, n, role)), Row::RoomOfUser(room_of("ann", name, n, role))])
            .await;
    }
    let members = store.all_members(&room("r")).await.expect("the members");
    assert_eq!(members.iter().map(|row| row.user.as_str()).collect::<Vec<_>>(), ["ann", "bo", "bob"]);
    assert_eq!(members[0], member("r", "ann", 2, Some(Role::Owner)));
    for (name, row) in [("bob", Some(&members[2])), ("eve", None), ("zoe", None)] {
        assert_eq!(store.member(&room("r"), &user(name)).await.expect("the member").as_ref(), row, "{name}");
    }
    let rooms = store.rooms_of_user(&user("ann"), None, 99).await.expect("the rooms");
    assert_eq!(rooms.iter().map(|row| row.room.as_str()).collect::<Vec<_>>(), ["bo", "ann", "bob"]);
    assert_eq!(rooms[2], room_of("ann", "bob", 1, Some(Role::Member)));
    let count = async |most| store.count_rooms_of_user(&user("ann"), most).await.expect("a count");
    assert_eq!((count(9).await, count(2).await), (3, 2));
    let banned = crate::MemberRow { banned: true, ..member("r", "abe", 9, None) };
    put(&store, vec![Row::Member(banned.clone())]).await;
    assert_eq!(store.all_members(&room("r")).await.expect("the members").first(), Some(&banned));
    assert_eq!(store.member(&room("r"), &user("abe")).await.expect("no member"), None);
    let among = store.rooms_of_user_among(&user("ann"), &["eve", "bo"].map(room)).await.expect("the rows");
    assert_eq!(among, [None, Some(room_of("ann", "bo", 4, Some(Role::Admin)))]);
}

/// Checks that pages of any size contain every member once, ordered by user, also between those who left.
pub async fn members_are_paged_by_user(store: Subject) {
    let names: Vec<String> = (0..25).map(|n| format!("u{n:02}")).collect();
    let rows = names.iter().zip(1..).map(|(name, n)| member("r", name, n, (n % 3 != 0).then_some(Role::Member)));
    put(&store, rows.map(Row::Member).collect()).await;
    let present: Vec<_> = (1..).zip(&names).filter(|(n, _)| n % 3 != 0).map(|(_, name)| user(name)).collect();
    for limit in [1, 2, 5, 17, 99] {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.members(&room("r"), after.as_ref(), limit).await.expect("a page");
            assert!(page.len() <= limit);
            let Some(last) = page.last() else { break };
            after = Some(last.user.clone());
            all.extend(page.into_iter().map(|row| row.user));
        }
        assert_eq!(all, present, "in pages of {limit}");
    }
    assert_eq!(store.members(&room("r"), None, 0).await.expect("a page"), []);
    assert_eq!(store.all_members(&room("r")).await.expect("the members").len(), present.len());
}

/// Checks that the devices of a user come in order, without those whose address was taken away, and that of two changes
/// of a device the later one stays.
pub async fn devices_of_a_user_are_those_with_an_address(store: Subject) {
    let device = |name: &str, at: u64, address: Option<&str>| DeviceRow {
        user: user("ann"),
        device: DeviceId::parse(name).expect("a device id"),
        at: Millis(at),
        address: address.map(|address| PushAddress { kind: "fcm".into(), address: address.into() }),
    };
    let (phone, laptop) = (device("phone", 9, Some("p2")), device("laptop", 300, Some("l")));
    for row in [device("phone", 7, Some("p1")), laptop.clone(), phone.clone(), device("phone", 8, None)] {
        put(&store, vec![Row::Device(row)]).await;
    }
    assert_eq!(store.devices(&user("ann")).await.expect("the devices"), [laptop.clone(), phone]);
    put(&store, vec![Row::Device(device("phone", 10, None))]).await;
    assert_eq!(store.devices(&user("ann")).await.expect("the devices"), [laptop]);
    assert_eq!(store.devices(&user("an")).await.expect("no devices"), []);
}

/// Checks that rows do not mix if their ids begin alike, or contain characters that a key might use as separators.
pub async fn rows_of_one_room_or_user_never_show_under_another(store: Subject) {
    let ids = ["r", "r1", "r/", "r:1", "r.", "rr", "é", "e", "r\u{10ffff}"];
    let at = ago(1);
    for (n, id) in (1..).zip(ids) {
        let rows = vec![
            event(id, n, 1),
            Row::Start(room(id), start(n, 1)),
            Row::Room(room_row(id, n, id)),
            Row::Member(member(id, id, n, Some(Role::Member))),
            Row::RoomOfUser(room_of(id, id, n, Some(Role::Member))),
            order(id, at, id),
            marker(id, id, n, 1),
        ];
        put(&store, rows).await;
    }
    for (n, id) in (1..).zip(ids) {
        let (r, u) = (room(id), user(id));
        for newest in [false, true] {
            let page = store.timeline(&r, 0..=9_999, 99, newest).await.expect("a page");
            assert_eq!(places(&page), [(n, 1)], "{id}");
        }
        assert_eq!(store.starts(&r, None, 9).await.expect("the starts"), [start(n, 1)]);
        assert_eq!(store.room(&r).await.expect("the room"), Some(room_row(id, n, id)));
        assert_eq!(store.all_members(&r).await.expect("the members"), [member(id, id, n, Some(Role::Member))]);
        assert_eq!(
            store.rooms_of_user(&u, None, 99).await.expect("the rooms"),
            [room_of(id, id, n, Some(Role::Member))]
        );
        let rows = store.rooms_by_activity(&u, Millis(0), None, 99).await.expect("the rows");
        assert_eq!(listed(&rows), [(at, id)]);
        let marks = store.read_markers(&u, &ids.map(room)).await.expect("the markers");
        assert_eq!(marks.iter().flatten().count(), 1, "{id}");
    }
}
