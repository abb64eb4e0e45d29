//! Forgetting a user: no word of the user is left.

use std::time::Duration;

use sendpi_model::CloseCode;
use sendpi_tests::{Recording, Sendpi, SendpiSetup, api, get, step, until};
use serde_json::{Value, json};

async fn events(server: &Sendpi, room: &str) -> Vec<Value> {
    let path = format!("/v1/rooms/{room}/events?limit=100");
    let (status, page) = api("GET", server.url(), &path, &server.service_token("desk").await, "").await;
    assert_eq!(status, 200, "{page}");
    page["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_forgotten_user_leaves_no_word_behind() {
    // Rooms are idle soon.
    let args = ["--idle-min", "500ms", "--idle-max", "1s"].map(str::to_owned).to_vec();
    let heartbeat = Duration::from_secs(1);
    let server = Sendpi::start_with(SendpiSetup { args, heartbeat, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann/b", "phone").await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    for room in ["lobby", "left", "gone"] {
        bob.client().create_with(json!({"room": room, "name": room, "members": ["ann/b"]})).await.unwrap();
        for n in 0..3 {
            ann.client().send(room, &format!("secret {n}")).await.unwrap();
            bob.client().send(room, &format!("public {n}")).await.unwrap();
        }
    }
    let (own, bobs) = (server.token("ann/b").await, server.token("bob").await);
    let ask = async |token: &str, method: &str, path: &str, body: Value| {
        let (status, answer) = api(method, server.url(), path, token, &body.to_string()).await;
        assert_eq!(status, 200, "{path}: {answer}");
    };
    let edited = ann.client().send("lobby", "secret, first").await.unwrap();
    let path = format!("/v1/rooms/lobby/events/{}", edited.seq);
    ask(&own, "PATCH", &path, json!({"body": {"text": "secret, then"}})).await;
    let deleted = ann.client().send("lobby", "secret, deleted").await.unwrap();
    ask(&own, "DELETE", &format!("/v1/rooms/lobby/events/{}", deleted.seq), json!({})).await;
    ann.client().send("left", "secret, last").await.unwrap();
    ann.client().leave("left").await.unwrap();
    ask(&bobs, "DELETE", "/v1/rooms/gone", json!({})).await;
    let address = json!({"kind": "fcm", "address": "t"}).to_string();
    assert_eq!(api("PUT", server.url(), "/v1/devices/phone", &own, &address).await.0, 200);
    let before = events(&server, "lobby").await;

    step("only a service may ask");
    for token in [&own, &bobs] {
        assert_eq!(api("POST", server.url(), "/v1/users/ann%2Fb/forget", token, "").await.0, 403);
    }
    let service = server.service_token("desk").await;
    let (status, refused) = api("POST", server.url(), "/v1/users/ann%2Fb/forget?cursor=x", &service, "").await;
    assert_eq!((status, &refused["field"]), (400, &json!("cursor")));

    step("ann is forgotten, when all rooms are idle");
    let live = async || get(server.url(), "/metrics", &[]).await.unwrap().body.contains("sendpi_live_rooms 0\n");
    until("no room to be live", live).await;
    let forget = async || {
        let args = ["admin", "forget-user", "ann/b", "--url", server.url(), "--token", &service];
        let output = Sendpi::run(&args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = forget().await;
    assert!(said.contains("8 messages in 3 rooms") && said.contains("1 devices"), "{said}");
    assert_eq!(ann.client().closed().await.code, Some(CloseCode::SignedOut.code()));
    assert_eq!(api("GET", server.url(), "/v1/rooms", &own, "").await.0, 401);
    for room in ["lobby", "left"] {
        let found = events(&server, room).await;
        let text = json!(found).to_string();
        assert!(!text.contains("secret") && text.matches("public").count() == 3, "{text}");
    }
    step("the list of rooms shows nothing of it either, also of a room that is idle");
    let (status, list) = api("GET", server.url(), "/v1/rooms", &bobs, "").await;
    assert!(status == 200 && list["rooms"].as_array().unwrap().len() == 2, "{list}");
    assert!(!list.to_string().contains("secret"), "{list}");
    step("places, counts and whose they are stay");
    let place = |event: &Value| (event["seq"].clone(), event["count"].clone(), event["from"].clone());
    let after = events(&server, "lobby").await;
    assert_eq!(after.iter().map(place).collect::<Vec<_>>(), before.iter().map(place).collect::<Vec<_>>());

    step("once more there is nothing left, and after a crash it is gone as well");
    assert!(forget().await.contains("0 messages in 3 rooms"));
    let new = server.token("ann/b").await;
    assert_eq!(api("GET", server.url(), "/v1/devices", &new, "").await.1, json!({"devices": []}));
    let mut server = server;
    server.kill9().await;
    server.start_again().await;
    assert!(!json!(events(&server, "lobby").await).to_string().contains("secret"));
    drop((ann, bob));
}
