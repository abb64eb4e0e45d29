//! From the store of one machine to a database.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use sendpi_model::{Content, Event, Head, Millis, RoomId, UserId};
use sendpi_store::embedded::Embedded;
use sendpi_store::{EventRow, Row, Store};
use sendpi_tests::{Keyspace, Sendpi, SendpiSetup, api, sendpi_binary, step, until};
use serde_json::{Value, json};
use tokio::process::Command;

/// The messages of the large room: more pages than are copied before the copy is killed.
const MESSAGES: u64 = 60_000;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

async fn ask(server: &Sendpi, user: &str, method: &str, path: &str, body: &Value) -> Value {
    let (status, answer) = api(method, server.url(), path, &server.token(user).await, &body.to_string()).await;
    assert!((200..300).contains(&status), "{answer}");
    answer
}

#[tokio::test]
async fn an_installation_of_one_machine_goes_on_in_a_database() {
    // The embedded store, whatever the other tests run on.
    let mut server = Sendpi::start_with(SendpiSetup { store_mib: Some(512), ..SendpiSetup::default() }).await;
    ask(&server, "ann", "POST", "/v1/rooms", &json!({"room": "lobby", "name": "lobby", "members": ["bob"]})).await;
    for n in 0..20 {
        ask(&server, "bob", "POST", "/v1/rooms/lobby/events", &json!({"body": {"text": format!("{n}")}})).await;
    }
    ask(&server, "bob", "PATCH", "/v1/rooms/lobby/events/5", &json!({"body": {"text": "edited"}})).await;
    ask(&server, "bob", "PUT", "/v1/rooms/lobby/marker", &json!({"seq": 9})).await;
    ask(&server, "ann", "POST", "/v1/rooms", &json!({"room": "short", "name": "short", "retention_days": 9})).await;
    ask(&server, "ann", "POST", "/v1/rooms/short/events", &json!({"body": {"text": "expires"}})).await;
    let page = async |server: &Sendpi| {
        [
            ask(server, "ann", "GET", "/v1/rooms/lobby/events?limit=100", &json!({})).await,
            ask(server, "ann", "GET", "/v1/rooms/short/events", &json!({})).await,
            ask(server, "bob", "GET", "/v1/rooms", &json!({})).await,
        ]
    };
    let before = page(&server).await;
    let data = server.data();
    let migrate = |keyspace: &Keyspace| {
        let (nodes, name) = (keyspace.config().nodes.join(","), keyspace.config().keyspace.clone());
        let args =
            ["migrate", "--from", "embedded", "--to", "cql", "--data", &data.display().to_string(), "--cql", &nodes];
        [args.map(str::to_owned).to_vec(), vec!["--keyspace".to_owned(), name]].concat()
    };
    let run = async |keyspace: &Keyspace| {
        let args = migrate(keyspace);
        Sendpi::run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    let keyspace = Keyspace::make().await;
    step("not while it runs");
    assert!(text(&run(&keyspace).await).contains("in use by another process"));
    assert!(server.terminate().await.success());
    grow(&data.join("store")).await;

    step("the copy is killed, and goes on");
    let progress = data.join("migration.json");
    let mut copying = Command::new(sendpi_binary()).args(migrate(&keyspace)).kill_on_drop(true).spawn().unwrap();
    until("the large room is being copied", async || table_of(&progress) == Some("timeline")).await;
    copying.kill().await.unwrap();
    assert_eq!(table_of(&progress), Some("timeline"), "it was not killed in the middle");
    let other = Keyspace::make().await;
    assert!(text(&run(&other).await).contains("a migration into"));
    let done = run(&keyspace).await;
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("counts and checksums of the"), "{}", text(&done));

    step("a copy that is not the same is found");
    keyspace.run("DELETE FROM read_markers WHERE user = 'bob'").await;
    let differs = text(&run(&keyspace).await);
    assert!(differs.contains("the copy differs: read_markers has"), "{differs}");
    std::fs::remove_file(&progress).unwrap();
    assert!(text(&run(&keyspace).await).contains("is not empty"));
    let done = run(&other).await;
    assert!(done.status.success(), "{}", text(&done));

    step("Sendpi goes on where it was");
    let moved = Sendpi::start_with(SendpiSetup { keyspace: Some(Arc::new(other)), ..SendpiSetup::default() }).await;
    assert_eq!(page(&moved).await, before);
    let sent = ask(&moved, "ann", "POST", "/v1/rooms/lobby/events", &json!({"body": {"text": "on"}})).await;
    assert_eq!(sent["count"], 21);
}

/// Returns the table that is being copied, if a part of it is.
fn table_of(progress: &Path) -> Option<&'static str> {
    let progress: Value = serde_json::from_slice(&std::fs::read(progress).ok()?).ok()?;
    let begun = progress["after"].is_array().then_some(progress["table"].as_u64()?)?;
    Embedded::TABLES.get(usize::try_from(begun).ok()?).copied()
}

/// Gives the store a large room.
async fn grow(path: &Path) {
    let store = Embedded::open(path).unwrap();
    let (room, from) = (RoomId::parse("large").unwrap(), UserId::parse("ann").unwrap());
    let body = serde_json::value::RawValue::from_string("{}".into()).unwrap();
    let mut last = Head::default();
    let mut rows = Vec::new();
    for _ in 0..MESSAGES {
        let event = Event::next(&room, last, Millis::now(), &from, None, &Content::message(&body, None));
        last = event.head;
        rows.push(Row::Event(room.clone(), EventRow { epoch: 1, event, expires: None }));
    }
    store.write(rows).await.unwrap();
}
