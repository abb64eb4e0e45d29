//! What clients may send: a body that some reader could not read is refused, and any other comes back as it was sent.

use std::time::Duration;

use sendpi_client::{Client, ClientError, Frames, Options, Range, connect};
use sendpi_model::Code;
use sendpi_tests::{Recording, Sendpi, step, within};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

/// Sends a frame as it is, under an id that the client does not use itself, and returns the text of its answer.
async fn ask(client: &Client, frames: &mut Frames, fields: &str) -> String {
    client.send_text(format!(r#"{{"id":"mine",{fields}}}"#)).await.unwrap();
    loop {
        let text = within(LIMIT, fields, frames.next_text()).await.unwrap_or_else(|| panic!("closed after {fields}"));
        if text.starts_with(r#"{"id":"mine","#) {
            return text.to_string();
        }
    }
}

async fn refusal(client: &Client, frames: &mut Frames, fields: &str) -> (String, String) {
    let answer: Value = serde_json::from_str(&ask(client, frames, fields).await).unwrap();
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    (text("code"), text("field"))
}

#[tokio::test]
async fn bodies_that_a_reader_could_not_read_are_refused_and_the_others_come_back_byte_for_byte() {
    let server = Sendpi::start().await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let info = bob.client().create("lobby", &["ann"]).await.unwrap();
    let room = info.room.as_str();
    let token = server.token("ann").await;
    let (ann, mut frames, _) = connect(server.url(), &token, "phone", Options::default()).await.unwrap();
    let send = |body: &str| format!(r#""op":"send","room":"{room}","body":{body}"#);

    step("ann sends bodies that some reader could not read");
    for body in [
        r#"{"text":"see you \ud83d"}"#,
        r#"{"\ude00":1}"#,
        r#"{"text":"a","te\u0078t":"b"}"#,
        r#"{"list":[{"a":1,"a":2}]}"#,
        r#"{"n":1e999}"#,
        r#"{"$serde_json::private::RawValue":1}"#,
        "[]",
    ] {
        assert_eq!(
            refusal(&ann, &mut frames, &send(body)).await,
            ("bad_field".to_owned(), "body".to_owned()),
            "{body}"
        );
    }

    step("ann sends bodies that every reader can read");
    let bodies = [
        r#"{ "text" : "\u0068i \ud83d\ude00",  "n":[1.50, 1e3, -0, 12345678901234567890] }"#,
        r#"{"a":{"a":[{"a":null},{"a":"a"}]},"A":"\u0000 \\ud83d"}"#,
        "{}",
    ];
    for body in bodies {
        let answer = ask(&ann, &mut frames, &send(body)).await;
        assert!(answer.contains(r#""op":"ok""#), "{answer}");
    }
    step("they come back as they were sent");
    let page = ask(&ann, &mut frames, &format!(r#""op":"history","room":"{room}","limit":9"#)).await;
    for body in bodies {
        assert!(page.contains(&format!(r#""body":{body}}}"#)), "{page}");
    }
    bob.until_seq(room, info.seq + 3).await;
    let history = bob.history(room, Range::Newest, 9).await.unwrap();
    let read: Vec<&Value> = history.events.iter().filter_map(|event| event.body.as_ref()).collect();
    assert_eq!(read, bodies.map(|body| serde_json::from_str::<Value>(body).unwrap()).iter().collect::<Vec<_>>());
    bob.finish().await;
}

#[tokio::test]
async fn a_field_with_anything_in_it_is_answered_and_the_session_goes_on() {
    let server = Sendpi::start().await;
    let token = server.token("ann").await;
    let (ann, mut frames, _) = connect(server.url(), &token, "phone", Options::default()).await.unwrap();
    let deep = "[".repeat(200) + &"]".repeat(200);
    step("ann sends values that no field takes");
    for value in [deep.as_str(), "1e999", r#""\ud800""#, "-1", "10000000000000000"] {
        for (fields, field) in [
            (r#""op":"create","name":"#, "name"),
            (r#""op":"create","name":"a","members":"#, "members"),
            (r#""op":"send","room":"r","body":"#, "body"),
            (r#""op":"read","room":"r","seq":"#, "seq"),
            (r#""op":"history","room":"r","limit":"#, "limit"),
            (r#""op":"join","room":"#, "room"),
            (r#""op":"#, "op"),
        ] {
            let refused = refusal(&ann, &mut frames, &format!("{fields}{value}")).await;
            assert_eq!(refused, ("bad_field".to_owned(), field.to_owned()), "{fields}{value}");
        }
    }
    step("an id that a client could read as another number is not repeated");
    ann.send_text(r#"{"id":10000000000000000,"op":"ping"}"#).await.unwrap();
    let text = within(LIMIT, "a refusal", frames.next_text()).await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&answer["code"], &answer["field"], answer.get("id")), (&"bad_field".into(), &"id".into(), None));
    ann.ping().await.unwrap();
}

#[tokio::test]
async fn a_device_may_be_left_out_and_an_id_that_a_client_names_can_be_seen() {
    let server = Sendpi::start().await;
    let token = server.token("ann").await;
    let hello = || serde_json::json!({"op": "hello", "token": token});
    step("ann signs in twice without naming a device, and once with one");
    let (first, _frames) = sendpi_client::open(server.url(), None, Options::default()).await.unwrap();
    first.request(hello()).await.unwrap();
    let (second, _more) = sendpi_client::open(server.url(), None, Options::default()).await.unwrap();
    second.request(hello()).await.unwrap();
    let phone = Recording::connect(&server, "ann", "phone").await;
    for client in [&first, &second, phone.client()] {
        client.ping().await.unwrap();
    }
    step("ann names a room that nobody could tell from another");
    let refused =
        phone.client().create_with(serde_json::json!({"name": "x", "room": "lob\u{200b}by"})).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(refusal) if refusal.field.as_deref() == Some("room")), "{refused}");
    assert_eq!(refused.code(), Some(Code::BadField));
    phone.finish().await;
}
