//! System events that services publish on NATS.

use sendpi_client::ServerFrame;
use sendpi_tests::{NatsClient, NatsServer, Recording, Sendpi, SendpiSetup, api, step, until};
use serde_json::{Value, json};

const INGEST: &str = "sendpi.ingest";

async fn start() -> (NatsServer, Sendpi) {
    let nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    (nats, server)
}

fn text(text: &str) -> String {
    json!({"body": {"text": text}}).to_string()
}

/// Returns the texts of the system events of a room, in order.
async fn texts(server: &Sendpi, room: &str) -> Vec<String> {
    let token = server.service_token("reader").await;
    let path = format!("/v1/rooms/{}/events?limit=200", room.replace('=', "%3D"));
    let (_, page) = api("GET", server.url(), &path, &token, "").await;
    let events = page["events"].as_array().cloned().unwrap_or_default();
    let system = events.iter().filter(|event| event["kind"] == "system");
    system.map(|event| event["body"]["text"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn until_there_are(server: &Sendpi, room: &str, count: usize) -> Vec<String> {
    until("all events are there", async || texts(server, room).await.len() >= count).await;
    texts(server, room).await
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("event {n}")).collect()
}

#[tokio::test]
async fn what_a_service_publishes_arrives_in_the_room_and_in_the_inbox_of_a_user_in_order() {
    let (nats, server) = start().await;
    let mut service = NatsClient::connect(&nats.url()).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create_with(json!({"name": "lobby", "room": "auth0|5f.7"})).await.unwrap().room;
    for n in 0..50 {
        for target in ["room.auth0=7C5f=2E7", "user.ann"] {
            let kept = service.publish(&format!("{INGEST}.{target}"), None, &text(&format!("event {n}"))).await;
            assert_eq!(kept["stream"], "sendpi_ingest", "{kept}");
        }
    }
    let with_sender = json!({"from": "billing", "body": {"text": "last"}, "mentions": ["ann"]}).to_string();
    service.publish(&format!("{INGEST}.user.ann"), None, &with_sender).await;
    step("ann is online: she gets them live, and the inbox as a room of hers");
    let is_last = |event: &sendpi_client::EventFrame| event.text() == Some("last");
    let last = ann.until_event("=u:ann", "the last event", is_last).await;
    assert_eq!((last.kind.as_str(), last.from.as_str()), ("system", "billing"));
    let added = |frame: &ServerFrame| match frame {
        ServerFrame::RoomAdded { info } if info.room.as_str() == "=u:ann" => Some((info.kind, info.members)),
        _ => None,
    };
    assert_eq!(ann.until_frame("the inbox", added).await, (sendpi_model::RoomKind::Inbox, 1));
    assert_eq!(until_there_are(&server, room.as_str().replace('|', "%7C").as_str(), 50).await, numbered(50));
    assert_eq!(texts(&server, "=u:ann").await[..50], numbered(50));
    step("an inbox is listed, read and muted like other rooms, and not left");
    let (_, list) = api("GET", server.url(), "/v1/rooms", &server.token("ann").await, "").await;
    let inbox = list["rooms"].as_array().unwrap().iter().find(|room| room["room"] == "=u:ann").unwrap().clone();
    assert_eq!((&inbox["kind"], &inbox["unread"]), (&json!("inbox"), &json!(51)));
    ann.client().read("=u:ann", last.seq.unwrap()).await.unwrap();
    for (op, user) in [("leave", "ann"), ("invite", "bob")] {
        let refused = ann.client().request(json!({"op": op, "room": "=u:ann", "users": [user]})).await.unwrap_err();
        assert_eq!(refused.code(), Some(sendpi_model::Code::Forbidden), "{op}");
    }
    step("to others it is not there");
    let bob = Recording::connect(&server, "bob", "phone").await;
    let refused = bob.client().send("=u:ann", "hello").await.unwrap_err();
    assert_eq!(refused.code(), Some(sendpi_model::Code::NoSuchRoom));
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn what_is_published_while_sendpi_is_down_arrives_in_order_and_once_for_one_id() {
    let (mut nats, mut server) = start().await;
    let mut service = NatsClient::connect(&nats.url()).await;
    let subject = format!("{INGEST}.user.bob");
    let publish = async |service: &mut NatsClient, n: usize| {
        service.publish(&subject, Some(&format!("id-{n}")), &text(&format!("event {n}"))).await
    };
    for n in 0..20 {
        publish(&mut service, n).await;
    }
    until_there_are(&server, "=u:bob", 1).await;
    step("sendpi is killed in the middle, and more is published");
    server.kill9().await;
    for n in 20..40 {
        publish(&mut service, n).await;
    }
    server.start_again().await;
    assert_eq!(until_there_are(&server, "=u:bob", 40).await, numbered(40));
    step("what was published before is published again, also after NATS was restarted");
    assert_eq!(publish(&mut service, 7).await["duplicate"], true);
    drop(service);
    nats.kill9().await;
    nats.start_again().await;
    let mut service = NatsClient::connect(&nats.url()).await;
    assert_eq!(publish(&mut service, 8).await["duplicate"], true);
    step("even if the stream has lost what it knew");
    service.publish("$JS.API.STREAM.PURGE.sendpi_ingest", None, "").await;
    nats.kill9().await;
    nats.start_again().await;
    let mut service = NatsClient::connect(&nats.url()).await;
    for n in [9, 40] {
        publish(&mut service, n).await;
    }
    assert_eq!(until_there_are(&server, "=u:bob", 41).await, numbered(41));
}

#[tokio::test]
async fn a_bad_event_is_kept_with_the_reason_and_holds_up_nothing() {
    let (nats, server) = start().await;
    let mut service = NatsClient::connect(&nats.url()).await;
    let large = json!({"body": {"text": "x".repeat(20_000)}}).to_string();
    for (target, payload, code) in [
        ("room.there-is-none", text("hello"), "no_such_room"),
        ("user.eve", "nonsense".to_owned(), "bad_frame"),
        ("user.eve", "{}".to_owned(), "bad_field"),
        ("user.eve", r#"{"body":{"a":1,"a":2}}"#.to_owned(), "bad_field"),
        ("user.eve", r#"{"body":{},"from":"a b"}"#.to_owned(), "bad_field"),
        ("user.eve", large, "too_large"),
        ("user.=6", text("hello"), "bad_field"),
        ("thing.eve", text("hello"), "bad_field"),
    ] {
        service.publish(&format!("{INGEST}.{target}"), None, &payload).await;
        let mut letter = Value::Null;
        until("the dead letter", async || {
            let mut reader = NatsClient::connect(&nats.url()).await;
            let subject = format!("sendpi.dead.ingest.{target}");
            letter = reader.last_kept("sendpi_dead", &subject).await.unwrap_or_default();
            letter["payload"] == payload.as_str()
        })
        .await;
        assert_eq!((&letter["reason"]["code"], &letter["target"]), (&code.into(), &target.into()), "{letter}");
    }
    service.publish(&format!("{INGEST}.user.eve"), None, &text("event 0")).await;
    assert_eq!(until_there_are(&server, "=u:eve", 1).await, numbered(1));
}

#[tokio::test]
async fn a_service_that_has_the_id_of_a_user_is_not_the_user() {
    let (nats, server) = start().await;
    let mut service = NatsClient::connect(&nats.url()).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let system = Recording::connect(&server, "system", "phone").await;
    ann.client().create_with(json!({"name": "lobby", "room": "lobby", "members": ["system"]})).await.unwrap();
    service.publish(&format!("{INGEST}.room.lobby"), None, &text("Invoice paid")).await;
    let event = ann.until_event("lobby", "the event", |event| event.text() == Some("Invoice paid")).await;
    assert_eq!((event.kind.as_str(), event.from.as_str()), ("system", "system"));
    for op in ["edit", "delete"] {
        let request = json!({"op": op, "room": "lobby", "ref": event.seq, "body": {"text": "Pay to me"}});
        let refused = system.client().request(request).await.unwrap_err();
        assert_eq!(refused.code(), Some(sendpi_model::Code::Forbidden), "{refused}");
    }
    step("what it says in the name of a user is not read by the user");
    let from_ann = json!({"from": "ann", "body": {"text": "not by ann"}}).to_string();
    service.publish(&format!("{INGEST}.room.lobby"), None, &from_ann).await;
    ann.until_event("lobby", "the second event", |event| event.text() == Some("not by ann")).await;
    let token = server.token("ann").await;
    let (_, info) = api("GET", server.url(), "/v1/rooms/lobby", &token, "").await;
    assert_eq!((&info["count"], &info["unread"]), (&json!(2), &json!(2)), "{info}");
    ann.finish().await;
    system.finish().await;
}
