//! How long events are kept, and what becomes of deleted rooms.

use sendpi_model::Role;
use sendpi_tests::{NodeProgram, Recording, Sendpi, SendpiSetup, api, get, step, until};
use serde_json::{Value, json};

const DAY: u64 = 24 * 60 * 60;

/// Returns the texts of a room's messages, as a member reads them over HTTP.
async fn texts(server: &Sendpi, user: &str, room: &str) -> Vec<String> {
    let (status, page) =
        api("GET", server.url(), &format!("/v1/rooms/{room}/events"), &server.token(user).await, "").await;
    assert_eq!(status, 200, "{page}");
    let events = page["events"].as_array().unwrap().iter();
    events.filter_map(|event| Some(event["body"]["text"].as_str()?.to_owned())).collect()
}

async fn ask(server: &Sendpi, user: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    api(method, server.url(), path, &server.token(user).await, &body.to_string()).await
}

async fn send(server: &Sendpi, room: &str, text: &str) -> Value {
    let (status, sent) =
        ask(server, "ann", "POST", &format!("/v1/rooms/{room}/events"), &json!({"body": {"text": text}})).await;
    assert_eq!(status, 201, "{sent}");
    sent
}

#[tokio::test]
async fn events_go_after_the_days_of_their_room_and_seqs_go_on() {
    // The clock of a database cannot be set, so this is about the embedded store.
    let setup = SendpiSetup {
        own_clock: true,
        store_mib: Some(128),
        args: vec!["--retention-days".into(), "5".into()],
        ..SendpiSetup::default()
    };
    let server = Sendpi::start_with(setup).await;
    for (room, days) in [("usual", Value::Null), ("short", json!(2)), ("endless", json!(0))] {
        let made = json!({"room": room, "name": room, "members": ["bob"], "retention_days": days});
        let (status, made) = ask(&server, "ann", "POST", "/v1/rooms", &made).await;
        assert_eq!((status, &made["info"]["retention_days"]), (201, &days));
        send(&server, room, "old").await;
    }
    let all = async || [texts(&server, "ann", "usual").await, texts(&server, "ann", "short").await];
    assert_eq!(all().await, [["old"], ["old"]]);

    step("three days later");
    server.set_clock(3 * DAY);
    assert_eq!(all().await, [vec!["old".to_owned()], vec![]]);
    let info = ask(&server, "ann", "GET", "/v1/rooms/short", &json!({})).await.1;
    assert_eq!((&info["last"], &info["seq"], &info["count"]), (&Value::Null, &json!(2), &json!(1)), "{info}");
    let sent = send(&server, "short", "new").await;
    assert_eq!((&sent["seq"], &sent["count"]), (&json!(3), &json!(2)));
    assert_eq!(texts(&server, "ann", "short").await, ["new"]);
    assert_eq!(texts(&server, "ann", "usual").await, ["old"]);

    step("six days later");
    server.set_clock(6 * DAY);
    let listed = ask(&server, "ann", "GET", "/v1/rooms", &json!({})).await.1;
    let last = |room: &str| {
        let listed = listed["rooms"].as_array().unwrap().iter().find(|listed| listed["room"] == room);
        listed.unwrap()["last"].clone()
    };
    assert_eq!((last("usual"), last("short")), (Value::Null, Value::Null), "{listed}");
    assert!(last("endless").is_object());
    assert_eq!(all().await, [Vec::<String>::new(), vec![]]);
    assert_eq!(texts(&server, "ann", "endless").await, ["old"]);

    step("what has expired can be marked as read, and programs go on behind it");
    let (status, marker) = ask(&server, "bob", "PUT", "/v1/rooms/usual/marker", &json!({"seq": 2})).await;
    assert_eq!((status, &marker), (200, &json!({"seq": 2, "count": 1})));
    let mut bob = NodeProgram::start(&server, server.url(), "bob", "usual", 3600).await;
    bob.until("open 2").await;
    assert_eq!(send(&server, "usual", "new").await["seq"], 3);
    bob.until("event 3 new").await;
}

#[tokio::test]
async fn a_retention_is_chosen_by_admins_and_told_to_all() {
    let server = Sendpi::start().await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    let room = json!({"room": "lobby", "name": "lobby", "members": ["bob"]});
    assert_eq!(ask(&server, "ann", "POST", "/v1/rooms", &room).await.0, 201);
    let change = async |user: &str, days: Value| {
        ask(&server, user, "PATCH", "/v1/rooms/lobby", &json!({"retention_days": days})).await
    };
    for days in [json!(-1), json!(3_651), json!("7"), json!(1.5)] {
        let (status, refused) = change("ann", days.clone()).await;
        assert_eq!((status, &refused["field"]), (400, &json!("retention_days")), "{days}: {refused}");
    }
    assert_eq!(change("bob", json!(7)).await.0, 403);
    let (status, changed) = change("ann", json!(7)).await;
    assert_eq!(status, 200, "{changed}");
    bob.until_seq("lobby", changed["seq"].as_u64().unwrap()).await;
    let page = ask(&server, "bob", "GET", "/v1/rooms/lobby/events", &json!({})).await.1;
    assert_eq!(page["events"][1]["retention_days"], 7, "{page}");
    let info = ask(&server, "bob", "GET", "/v1/rooms/lobby", &json!({})).await.1;
    assert_eq!((&info["retention_days"], &info["role"]), (&json!(7), &json!(Role::Member)));
    bob.finish().await;
}

#[tokio::test]
async fn of_a_deleted_room_nothing_is_left_but_its_id() {
    let args = ["--remove-after", "500ms"].map(str::to_owned).to_vec();
    let mut server = Sendpi::start_with(SendpiSetup { args, ..SendpiSetup::default() }).await;
    let room = json!({"room": "lobby", "name": "lobby", "members": ["bob"]});
    for room in [&room, &json!({"room": "kept", "name": "kept"})] {
        assert_eq!(ask(&server, "ann", "POST", "/v1/rooms", room).await.0, 201);
    }
    for room in ["lobby", "kept"] {
        send(&server, room, "hi").await;
    }
    assert_eq!(ask(&server, "ann", "DELETE", "/v1/rooms/lobby", &json!({})).await.0, 200);
    let metrics = async || get(server.url(), "/metrics", &[]).await.unwrap().body;
    until("the rest to be removed", async || metrics().await.contains("removed_rooms_total 1\n")).await;
    // The join, the message, and the deletion.
    assert!(metrics().await.contains("removed_events_total 3\n"), "{}", metrics().await);
    let (status, refused) = ask(&server, "ann", "POST", "/v1/rooms", &room).await;
    assert_eq!((status, &refused["code"]), (409, &json!("conflict")), "{refused}");
    assert_eq!(texts(&server, "ann", "kept").await, ["hi"]);
    assert!(server.terminate().await.success());
    let (store, room) = (server.store().await, |id: &str| sendpi_model::RoomId::parse(id).unwrap());
    assert_eq!(store.timeline(&room("lobby"), 1..=100, 10, false).await.unwrap(), []);
    assert_eq!(store.all_members(&room("lobby")).await.unwrap(), []);
    assert!(store.room(&room("lobby")).await.unwrap().unwrap().deleted);
    assert_eq!(store.timeline(&room("kept"), 1..=100, 10, false).await.unwrap().len(), 2);
}
