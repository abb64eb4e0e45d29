//! The channel tier alone, on a real NATS server and the embedded store, which can be disturbed.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

mod removal;
mod revisions;
mod support;
mod tenures;

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use sendpi_bus::presence::{NodeInfo, NodeKey, UserKeys};
use sendpi_channel::ChannelConfig;
use sendpi_model::link::AudienceReason;
use sendpi_model::timing::ActivityWindow;
use sendpi_model::{Access, Content, Event, Head, Mark, Millis, Notify, Partitions, Role, RoomId, RoomKind, UserId};
use sendpi_store::{ActiveRoom, EventRow, Fence, MemberRow, RoomRow, Row, SettledRow, Stamp, Start, Store};
use sendpi_tests::{until, within};
use tokio_util::sync::CancellationToken;

use crate::support::ChannelTier;

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn room(id: &str) -> RoomId {
    RoomId::parse(id).unwrap()
}

/// Returns the rows of a room of ann, its owner, and bob with `count` messages, as epoch 1 wrote them. The head row
/// tells only of the first `head`.
fn rows(id: &str, count: u64, head: u64) -> Vec<Row> {
    let (partition, at) = (Partitions::DEFAULT.of(&room(id)), Millis::now());
    let mut rows = vec![
        Row::Fence(partition, Fence { epoch: 1, claim: "former".into() }),
        Row::Start(room(id), Start { epoch: 1, next_seq: 1, continues: None }),
        Row::Settled(partition, SettledRow { epoch: 1, at }),
        Row::ActiveRoom(ActiveRoom { partition, minute: at.minute(), room: room(id) }),
        Row::Room(RoomRow {
            room: room(id),
            stamp: Stamp::of(head),
            name: "lobby".into(),
            kind: RoomKind::Group,
            access: Access::Invite,
            creator: user("ann"),
            nonce: "made".into(),
            members: 2,
            head: Head { seq: head, count: head, at },
            last: None,
            retention_days: None,
            deleted: false,
            listed: None,
        }),
    ];
    for (name, role) in [("ann", Role::Owner), ("bob", Role::Member)] {
        rows.push(Row::Member(MemberRow {
            room: room(id),
            user: user(name),
            stamp: Stamp::of(1),
            role: Some(role),
            joined: Mark::default(),
            joined_at: at,
            notify: Notify::All,
            muted_until: None,
            banned: false,
        }));
    }
    let body = serde_json::value::RawValue::from_string("{}".into()).unwrap();
    let mut last = Head::default();
    for _ in 0..count {
        let content = Content::message(&body, None);
        let event = Event::next(&room(id), last, at, &user("ann"), None, &content);
        last = event.head;
        rows.push(Row::Event(room(id), EventRow { epoch: 1, event, expires: None }));
    }
    rows
}

/// Returns two ids of rooms that are in one partition.
fn neighbours() -> (String, String) {
    let first = "r0".to_owned();
    let partition = Partitions::DEFAULT.of(&room(&first));
    let second = (1..).map(|n| format!("r{n}")).find(|id| Partitions::DEFAULT.of(&room(id)) == partition).unwrap();
    (first, second)
}

/// Returns settings with which order rows are young for so long.
fn config_with_rows_of(age: Duration) -> ChannelConfig {
    let skew = Duration::from_secs(2);
    let window = ActivityWindow::new(age + skew, skew, Duration::from_secs(900)).unwrap();
    ChannelConfig { window, ..ChannelConfig::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_is_told_of_the_room_also_when_the_join_waited_for_new_order_rows() {
    let age = Duration::from_secs(1);
    let tier = ChannelTier::start(config_with_rows_of(age), rows("r", 1, 1)).await;
    let stop = CancellationToken::new();
    let info = NodeInfo::starting(Vec::new(), ([127, 0, 0, 1], 0).into());
    let _node_key = NodeKey::start(&tier.node, info, stop.clone()).await.unwrap();
    let keys = UserKeys::start(&tier.node, stop.clone());
    let (_, written) = keys.signed_in(&user("zoe"));
    assert!(written.await.is_some());
    *tier.store.slow.lock().unwrap() = age + Duration::from_millis(500);
    let invited = tier.ask("ann", "r", r#"{"op":"invite","users":["zoe"]}"#).await;
    assert_eq!(invited["op"], "ok", "{invited}");
    until("zoe to be in the audience", async || !tier.added("zoe").is_empty()).await;
    assert_eq!(tier.added("zoe")[0], AudienceReason::Joined);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_dispatched_only_under_order_rows_that_are_young_then() {
    let age = Duration::from_secs(1);
    let tier = ChannelTier::start(config_with_rows_of(age), rows("r", 1, 1)).await;
    *tier.store.slow.lock().unwrap() = age + Duration::from_millis(500);
    let sent = tier.ask("ann", "r", r#"{"op":"send","nonce":"n","body":{}}"#).await;
    let seen = Millis::now();
    assert_eq!(sent["seq"], 2, "{sent}");
    for name in ["ann", "bob"] {
        let rows = tier.store.rooms_by_activity(&user(name), Millis(0), None, 10).await.unwrap();
        assert!(
            seen.since(rows[0].active_at) < age,
            "{name} would not find the room: {:?}",
            seen.since(rows[0].active_at)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_without_a_quorum_holds_up_no_other_and_its_write_goes_on_until_it_is_done() {
    let (lost, well) = neighbours();
    let tier = ChannelTier::start(ChannelConfig::default(), [rows(&lost, 1, 1), rows(&well, 1, 1)].concat()).await;
    const SEND: &str = r#"{"op":"send","body":{}}"#;
    for room in [&lost, &well] {
        assert_eq!(tier.ask("ann", room, SEND).await["seq"], 2);
    }
    *tier.store.without_quorum.lock().unwrap() = Some(room(&lost));
    let places = tier.send_all(&[("ann", &lost, SEND), ("ann", &well, SEND)]).await;
    assert_eq!(tier.answer(places[1]).await["seq"], 3);
    assert!(!tier.is_answered(places[0]));
    *tier.store.without_quorum.lock().unwrap() = None;
    assert_eq!(tier.answer(places[0]).await["seq"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peek_and_a_detach_open_no_idle_room() {
    let mut stored = rows("r", 3, 3);
    // A former owner evicted it long ago.
    stored.retain(|row| !matches!(row, Row::ActiveRoom(_)));
    let tier = ChannelTier::start(ChannelConfig::default(), stored).await;
    let peeked = tier.ask("bob", "r", r#"{"op":"peek"}"#).await;
    assert_eq!((&peeked["info"]["seq"], &peeked["info"]["members"]), (&3.into(), &2.into()), "{peeked}");
    assert_eq!(tier.ask("zoe", "r", r#"{"op":"peek"}"#).await["code"], "no_such_room");
    assert_eq!(tier.ask("bob", "r", r#"{"op":"detach","signin":1}"#).await["op"], "ok");
    assert_eq!(tier.store.opened.load(Ordering::Relaxed), 0);
    // A room that was opened stays open for a while.
    for _ in 0..3 {
        assert_eq!(tier.ask("bob", "r", r#"{"op":"history","limit":2}"#).await["events"][1]["seq"], 3);
    }
    assert_eq!(tier.store.opened.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_hangs_holds_up_no_event() {
    let tier = ChannelTier::start(ChannelConfig::default(), rows("r", 1_000, 1_000)).await;
    tier.ask("bob", "r", r#"{"op":"peek"}"#).await;
    assert_eq!(tier.ask("ann", "r", r#"{"op":"send","nonce":"a","body":{}}"#).await["seq"], 1_001);
    tier.store.timelines.hold().await;
    let page = tier.send("bob", "r", r#"{"op":"history","before":100,"limit":10}"#).await;
    let retry = tier.send("bob", "r", r#"{"op":"send","nonce":"old","retry":0,"body":{}}"#).await;
    for n in 0..3 {
        let send = format!(r#"{{"op":"send","nonce":"b{n}","body":{{}}}}"#);
        assert_eq!(tier.ask("ann", "r", &send).await["seq"], 1_002 + n);
    }
    assert!(!tier.is_answered(page) && !tier.is_answered(retry));
    tier.store.timelines.release();
    let page = tier.answer(page).await;
    assert_eq!((&page["events"][9]["seq"], &page["more"]), (&99.into(), &true.into()), "{page}");
    assert_eq!(tier.answer(retry).await["seq"], 1_005);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_is_asked_something_while_it_is_opened_after_a_crash_gets_its_head_row() {
    let (id, other) = neighbours();
    let tier = ChannelTier::start_held(ChannelConfig::default(), rows(&id, 5, 2)).await;
    let peek = tier.send("bob", &id, r#"{"op":"peek"}"#).await;
    // What follows in the flow is answered, so the peek waits at its room.
    assert_eq!(tier.ask("bob", &other, r#"{"op":"peek"}"#).await["code"], "no_such_room");
    assert!(!tier.is_answered(peek));
    tier.store.timelines.release();
    assert_eq!(tier.answer(peek).await["info"]["seq"], 5);
    until("the head row is written", async || {
        tier.store.room(&room(&id)).await.unwrap().is_some_and(|row| row.head.seq == 5)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pages_at_once_come_whole() {
    let tier = ChannelTier::start(ChannelConfig::default(), rows("r", 500, 500)).await;
    let mut asked = Vec::new();
    for _ in 0..200 {
        asked.push(tier.send("bob", "r", r#"{"op":"history","before":200,"limit":50}"#).await);
    }
    for place in asked {
        let page = tier.answer(place).await;
        assert_eq!((page["events"].as_array().unwrap().len(), &page["events"][49]["seq"]), (50, &199.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_of_the_workers_own_whose_batch_failed_is_made_all_the_same() {
    let mut stored = rows("r", 3, 3);
    // The former owner ended before anything was settled, so bob is owed a push.
    for row in &mut stored {
        if let Row::Settled(_, settled) = row {
            settled.at = Millis(1);
        }
    }
    let config = ChannelConfig { bounce_after: Duration::from_secs(1), ..ChannelConfig::default() };
    let tier = ChannelTier::start(config, stored).await;
    assert_eq!(tier.ask("ann", "r", r#"{"op":"attach","signin":1}"#).await["live"], true);
    // The room is recovered. The next that passes the fence is the batch of bob's bounce.
    tier.store.failing_fences.store(1, Ordering::Relaxed);
    let mut jobs = sendpi_bus::push_stream::fetch_jobs(&tier.node).await.unwrap();
    let job = within(Duration::from_secs(20), "a job", jobs.next()).await.unwrap().unwrap().job;
    assert_eq!((job.first, job.last, job.users), (1, 3, vec![user("bob")]));
    assert_eq!(tier.store.failing_fences.load(Ordering::Relaxed), 0);
}
