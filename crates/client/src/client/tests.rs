use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;
use crate::open;

type TestServer = WebSocketStream<TcpStream>;

/// Returns a client, and the server's side of its connection for the test to play.
async fn pair(options: Options) -> (Client, Frames, TestServer) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let subprotocol = |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("sendpi.v1"));
        Ok(response)
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_tungstenite::accept_hdr_async(stream, subprotocol).await.unwrap()
    };
    let (server, opened) = tokio::join!(accepting, open(&url, None, options));
    let (client, frames) = opened.unwrap();
    (client, frames, server)
}

async fn receive(server: &mut TestServer) -> Value {
    match server.next().await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("not a text frame: {other:?}"),
    }
}

async fn say(server: &mut TestServer, frame: Value) {
    server.send(Message::text(frame.to_string())).await.unwrap();
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let (client, mut frames, mut server) = pair(Options::default()).await;
    let serve = async {
        let (first, second) = (receive(&mut server).await, receive(&mut server).await);
        say(&mut server, json!({"op": "event", "room": "r", "kind": "typing", "from": "bob", "at": 1})).await;
        say(&mut server, json!({"id": second["id"], "op": "ok", "to": second["op"]})).await;
        say(&mut server, json!({"id": first["id"], "op": "error", "code": "conflict", "message": "no"})).await;
        server
    };
    let (first, second) = (client.request(json!({"op": "one"})), client.request(json!({"op": "two"})));
    let (first, second, _server) = tokio::join!(first, second, serve);
    assert_eq!(first.unwrap_err().code(), Some(sendpi_model::Code::Conflict));
    assert_eq!(second.unwrap()["to"], "two");
    assert!(matches!(frames.next().await, Some(Ok(ServerFrame::Event(event))) if event.kind == "typing"));
}

#[tokio::test]
async fn heartbeats_are_answered_unless_that_is_switched_off() {
    let (_client, _frames, mut server) = pair(Options::default()).await;
    say(&mut server, json!({"op": "ping"})).await;
    assert_eq!(receive(&mut server).await, json!({"op": "pong"}));

    let (client, _frames, mut server) = pair(Options { pong: false, ..Options::default() }).await;
    say(&mut server, json!({"op": "ping"})).await;
    client.send_text(r#"{"op":"next"}"#).await.unwrap();
    assert_eq!(receive(&mut server).await, json!({"op": "next"}));
}

#[tokio::test]
async fn who_waits_for_an_answer_is_told_how_the_connection_ended() {
    let (client, mut frames, mut server) = pair(Options::default()).await;
    let serve = async {
        receive(&mut server).await;
        let frame = CloseFrame { code: 4001.into(), reason: "reads too slowly".into() };
        server.send(Message::Close(Some(frame))).await.unwrap();
        server
    };
    // The client waits for the server to close the stream.
    let serve_and_close = async { drop(serve.await) };
    let (answer, ()) = tokio::join!(client.request(json!({"op": "one"})), serve_and_close);
    let Err(ClientError::Closed(closed)) = answer else { panic!("{answer:?}") };
    assert_eq!(closed, Closed { code: Some(4001), reason: "reads too slowly".to_owned() });
    assert!(frames.next().await.is_none());
}

#[tokio::test]
async fn a_full_queue_stops_reading_and_does_not_keep_the_client_from_cutting() {
    let (client, mut frames, mut server) = pair(Options { queue: 1, ..Options::default() }).await;
    for n in 0..5 {
        say(&mut server, json!({"op": "heads", "rooms": {"r": n}})).await;
    }
    assert!(frames.next().await.is_some());
    client.cut().await;
    assert!(matches!(server.next().await, Some(Err(_)) | None));
}
