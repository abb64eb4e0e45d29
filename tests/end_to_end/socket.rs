//! The edge of the protocol: handshakes, sign-ins and frames that are not as they should be.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use sendpi_client::{Client, ClientError, Frames, Options, ServerFrame, connect, open};
use sendpi_model::Code;
use sendpi_tests::{Sendpi, SendpiSetup, get, step, within};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(30);

async fn signed_in(server: &Sendpi, user: &str) -> (Client, Frames) {
    let token = server.token(user).await;
    let (client, frames, _) = connect(server.url(), &token, "phone", Options::default()).await.unwrap();
    (client, frames)
}

async fn close_code(client: &Client) -> Option<u16> {
    within(LIMIT, "the server closes", client.closed()).await.code
}

async fn next_refusal(frames: &mut Frames) -> Code {
    match within(LIMIT, "an error frame", frames.next()).await {
        Some(Ok(ServerFrame::Error(refusal))) => refusal.code,
        other => panic!("not an error frame: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_may_come_on_the_upgrade() {
    let server = Sendpi::start().await;
    let token = server.token("ann").await;
    let options = Options { bearer: true, ..Options::default() };
    step("ann signs in with a token on the upgrade");
    let (_client, _frames, welcome) = connect(server.url(), &token, "phone", options.clone()).await.unwrap();
    assert_eq!(welcome.user.as_str(), "ann");
    step("a nonsense token is refused");
    let refused = connect(server.url(), "nonsense", "phone", options).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}

#[tokio::test]
async fn a_token_in_the_url_and_a_foreign_origin_are_refused() {
    let server = Sendpi::start().await;
    let token = server.token("ann").await;
    let handshake = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    step("a client puts its token into the url");
    let answer = get(server.url(), &format!("/v1/ws?token={token}"), &handshake).await.unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
    step("a page of a foreign origin connects");
    let foreign = Options { origin: Some("https://evil.example".to_owned()), ..Options::default() };
    let refused = open(server.url(), None, foreign).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
    step("a page of the own origin connects");
    let own = Options { origin: Some(server.url().to_owned()), ..Options::default() };
    open(server.url(), None, own).await.unwrap();
}

#[tokio::test]
async fn who_is_not_signed_in_is_closed_with_the_reason() {
    let server = Sendpi::start().await;
    let refused = |token: &str| json!({"op": "hello", "device": "phone", "token": token});
    let expired = server.short_token("ann", 0).await;
    // The server allows expired tokens this much leeway, for clocks that differ.
    step("ann's token expires");
    tokio::time::sleep(Duration::from_secs(5)).await;
    for (frame, code) in [
        (json!({"op": "rooms"}), 4100),
        (json!({"op": "hello", "device": "phone"}), 4100),
        (refused("nonsense"), 4100),
        (refused(&expired), 4101),
    ] {
        step(format!("a client that is not signed in sends {frame}"));
        let (client, _frames) = open(server.url(), None, Options::default()).await.unwrap();
        let error = client.request(frame.clone()).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::Unauthorized), "{frame}");
        assert_eq!(close_code(&client).await, Some(code), "{frame}");
    }
    step("a client says nothing");
    let (silent, _frames) = open(server.url(), None, Options::default()).await.unwrap();
    assert_eq!(close_code(&silent).await, Some(4100));
}

/// Kills the mutant `ExpiryForgiven`.
#[tokio::test]
async fn a_session_ends_with_its_token_unless_that_is_renewed() {
    let server = Sendpi::start().await;
    let token = server.short_token("ann", 3).await;
    let (client, _frames, _) = connect(server.url(), &token, "phone", Options::default()).await.unwrap();
    let (renewed, _more, _) = connect(server.url(), &token, "tablet", Options::default()).await.unwrap();
    step("the tablet renews its token");
    renewed.renew(&server.token("ann").await).await.unwrap();
    let foreign = renewed.renew(&server.token("bob").await).await.unwrap_err();
    assert_eq!(foreign.code(), Some(Code::Forbidden));
    step("the phone's token expires");
    let closed = within(Duration::from_secs(6), "the session ends with its token", client.closed()).await;
    assert_eq!(closed.code, Some(4101));
    renewed.ping().await.unwrap();
    step("the tablet renews its token with one that ends soon");
    renewed.renew(&server.short_token("ann", 2).await).await.unwrap();
    let closed = within(Duration::from_secs(5), "the session ends with its token", renewed.closed()).await;
    assert_eq!(closed.code, Some(4101));
}

#[tokio::test]
async fn a_token_that_has_just_expired_is_good_for_as_long_as_clocks_may_differ() {
    let server = Sendpi::start().await;
    let token = server.short_token("ann", 0).await;
    step("ann signs in with a token that has just expired");
    let (client, _frames, welcome) = connect(server.url(), &token, "phone", Options::default()).await.unwrap();
    assert!(welcome.expires_at > welcome.now, "{welcome:?}");
    client.ping().await.unwrap();
    let closed = within(Duration::from_secs(8), "the session ends with its token", client.closed()).await;
    assert_eq!(closed.code, Some(4101));
}

#[tokio::test]
async fn frames_that_came_before_the_welcome_are_answered_after_it() {
    let server = Sendpi::start().await;
    let token = server.token("ann").await;
    let (client, mut frames) = open(server.url(), None, Options::default()).await.unwrap();
    step("ann sends a ping right behind her hello");
    client.send_text(json!({"op": "hello", "device": "phone", "token": token}).to_string()).await.unwrap();
    client.send_text(r#"{"op":"ping"}"#).await.unwrap();
    let mut ops = Vec::new();
    for _ in 0..2 {
        let text = within(LIMIT, "an answer", frames.next_text()).await.unwrap();
        ops.push(serde_json::from_str::<serde_json::Value>(&text).unwrap()["op"].clone());
    }
    assert_eq!(ops, ["welcome", "pong"]);
}

#[tokio::test]
async fn garbage_is_answered_and_then_ends_the_session() {
    let server = Sendpi::start().await;
    let (client, mut frames) = signed_in(&server, "ann").await;
    step("ann sends frames that cannot be read");
    client.send_text("no json").await.unwrap();
    assert_eq!(next_refusal(&mut frames).await, Code::BadFrame);
    client.send_binary(&b"\x00\x01"[..]).await.unwrap();
    assert_eq!(next_refusal(&mut frames).await, Code::Unsupported);
    let error = client.request(json!({"op": "dance", "room": "r"})).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unsupported));
    client.ping().await.unwrap();
    step("ann sends too many of them");
    for _ in 0..10 {
        client.send_text("[]").await.unwrap();
    }
    assert_eq!(close_code(&client).await, Some(4103));
}

#[tokio::test]
async fn a_frame_above_64_kib_closes_with_1009() {
    let server = Sendpi::start().await;
    let (client, mut frames) = signed_in(&server, "ann").await;
    // A frame of the greatest allowed size is read, and is refused only for its content.
    step("ann sends a frame of 64 KiB");
    client.send_text("x".repeat(64 * 1024)).await.unwrap();
    assert_eq!(next_refusal(&mut frames).await, Code::BadFrame);
    step("ann sends a frame of one byte more");
    client.send_text("x".repeat(64 * 1024 + 1)).await.unwrap();
    assert_eq!(close_code(&client).await, Some(1009));
}

#[tokio::test]
async fn protocol_pings_are_answered_and_a_close_is_echoed() {
    let server = Sendpi::start().await;
    let url = format!("{}/v1/ws", server.url().replace("http://", "ws://"));
    let address = server.url().trim_start_matches("http://").to_owned();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    step("a client pings");
    socket.send(Message::Ping("are you there".into())).await.unwrap();
    let answer = within(LIMIT, "a pong", socket.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Pong("are you there".into()));
    step("the client closes");
    socket.send(Message::Close(None)).await.unwrap();
    let echo = within(LIMIT, "the close frame", socket.next()).await;
    assert!(matches!(echo, Some(Ok(Message::Close(_)))), "{echo:?}");
    assert!(within(LIMIT, "the end", socket.next()).await.is_none());
}

/// Kills the mutant `SilenceForgiven`.
#[tokio::test]
async fn a_client_that_gives_no_sign_of_life_is_closed() {
    let server = Sendpi::start_with(SendpiSetup { heartbeat: Duration::from_secs(1), ..SendpiSetup::default() }).await;
    let token = server.token("ann").await;
    let options = Options { pong: false, ..Options::default() };
    let (dead, _frames, welcome) = connect(server.url(), &token, "phone", options).await.unwrap();
    let (alive, _more, _) = connect(server.url(), &token, "tablet", Options::default()).await.unwrap();
    assert_eq!(welcome.heartbeat_ms, 1_000);
    step("the phone answers no heartbeat");
    assert_eq!(close_code(&dead).await, Some(4002));
    alive.ping().await.unwrap();
}

/// Kills the mutant `OutboxUnbounded`.
#[tokio::test]
async fn a_client_that_reads_too_slowly_is_closed_and_can_resume() {
    let server = Sendpi::start().await;
    let (ann, _frames) = signed_in(&server, "ann").await;
    let room = ann.create("lobby", &["bob"]).await.unwrap().room;
    let token = server.token("bob").await;
    let small = Options { receive_buffer: Some(4 * 1024), ..Options::default() };
    let (bob, _more, _) = connect(server.url(), &token, "phone", small).await.unwrap();
    step("bob stops reading and ann sends");
    bob.stop_reading().await.unwrap();
    let text = "x".repeat(15 * 1024);
    let mut last = 0;
    // The buffers of the socket hold the first few MiB.
    for _ in 0..1_000 {
        last = ann.send(room.as_str(), &text).await.unwrap().seq;
    }
    step("bob reads again and finds his connection closed");
    bob.start_reading().await.unwrap();
    let code = close_code(&bob).await;
    assert_eq!(code, Some(4001));

    step("bob comes back and resumes");
    let resume = [(room.to_string(), last - 2)].into();
    let again = connect(server.url(), &token, "phone", Options { resume, ..Options::default() }).await;
    let (_bob, mut frames, _) = again.unwrap();
    for seq in [last - 1, last] {
        match within(LIMIT, "a replayed event", frames.next()).await {
            Some(Ok(ServerFrame::Event(event))) => assert_eq!(event.seq, Some(seq)),
            other => panic!("not an event: {other:?}"),
        }
    }
}

/// Kills the mutant `SameDeviceStays`.
#[tokio::test]
async fn the_same_device_ends_its_older_session() {
    let server = Sendpi::start().await;
    let (older, _frames) = signed_in(&server, "ann").await;
    step("ann signs in again on the same device");
    let (newer, _more) = signed_in(&server, "ann").await;
    assert_eq!(close_code(&older).await, Some(4105));
    newer.ping().await.unwrap();
    assert!(matches!(older.ping().await, Err(ClientError::Closed(_))));
}
