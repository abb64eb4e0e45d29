//! Rates and limits of clients, and what operators see of a node.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, future::join_all};
use sendpi_client::{ClientError, Options, connect};
use sendpi_model::{CloseCode, Code};
use sendpi_tests::{NatsServer, Recording, Sendpi, SendpiSetup, get, request, step, until, within};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Starts a Sendpi that holds clients to these rates, beside the defaults.
async fn start(rates: &[&str]) -> Sendpi {
    let args = rates.iter().flat_map(|rate| ["--rate".to_owned(), (*rate).to_owned()]).collect();
    Sendpi::start_with(SendpiSetup { rates: true, args, ..SendpiSetup::default() }).await
}

fn retry_in_ms(error: &ClientError) -> u64 {
    assert_eq!(error.code(), Some(Code::RateLimited), "{error}");
    match error {
        ClientError::Refused(refusal) => refusal.retry_in_ms.unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn who_sends_too_much_is_told_when_to_go_on_and_others_are_not_held_up() {
    let server = start(&["sends=20/s,10"]).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    assert_eq!(ann.welcome().limits.rates.sends.unwrap().burst, 10);
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room.to_string();
    let texts: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let results = join_all(texts.iter().map(|text| ann.client().send(&room, text))).await;
    let refused: Vec<u64> = results.iter().filter_map(|result| result.as_ref().err().map(retry_in_ms)).collect();
    assert!((20..=30).contains(&refused.len()) && refused.iter().all(|ms| *ms <= 1_000), "{refused:?}");
    bob.client().send(&room, "not held up").await.unwrap();
    step("over http the same rate holds, with Retry-After");
    let token = format!("Bearer {}", server.token("ann").await);
    let mut answers = Vec::new();
    for _ in 0..30 {
        let path = format!("/v1/rooms/{}/events", room.replace('=', "%3D"));
        answers
            .push(request("POST", server.url(), &path, &[("Authorization", &token)], r#"{"body":{}}"#).await.unwrap());
    }
    let limited = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(limited.head.to_lowercase().contains("retry-after: 1") && limited.body.contains("rate_limited"));
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn invitations_are_counted_by_the_users_named_and_lists_and_sign_ins_have_rates() {
    let server = start(&["invitations=1/m,12", "lists=1/m,2", "sign_ins=1/m,2"]).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let users: Vec<String> = (0..10).map(|n| format!("u{n}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let room = ann.client().create("lobby", &users).await.unwrap().room.to_string();
    assert!(retry_in_ms(&ann.client().invite(&room, &["v1", "v2", "v3"]).await.unwrap_err()) > 10_000);
    ann.client().invite(&room, &["v1"]).await.unwrap();
    for _ in 0..2 {
        ann.client().members(&room, None, 5).await.unwrap();
    }
    let refused = ann.client().request(json!({"op": "rooms", "limit": 5})).await.unwrap_err();
    retry_in_ms(&refused);
    step("the second sign-in is the last for a while");
    let token = server.token("ann").await;
    let (second, ..) = connect(server.url(), &token, "laptop", Options::default()).await.unwrap();
    let refused = connect(server.url(), &token, "tablet", Options::default()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::RateLimited), "{refused}");
    second.close().await;
    ann.finish().await;
}

/// Opens a WebSocket of a user who is signed in.
async fn raw(
    server: &Sendpi,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>> {
    let url = server.url().replace("http://", "ws://") + "/v1/ws";
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let hello = json!({"op": "hello", "token": server.token("ann").await});
    socket.send(Message::text(hello.to_string())).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap();
    assert!(welcome.to_text().unwrap().contains("welcome"));
    socket
}

#[tokio::test]
async fn who_floods_is_closed_and_harms_nobody_else() {
    let server = start(&[]).await;
    let bob = Recording::connect(&server, "bob", "phone").await;
    let room = bob.client().create("lobby", &[]).await.unwrap().room.to_string();
    let piece = |first: bool| {
        let opcode = OpCode::Data(if first { Data::Text } else { Data::Continue });
        Message::Frame(Frame::message(Vec::new(), opcode, false))
    };
    for flood in ["frames", "pings", "pieces"] {
        step(format!("a flood of {flood}"));
        let (mut writes, mut reads) = raw(&server).await.split();
        let message = |n: usize| match flood {
            "frames" => Message::text(r#"{"op":"ping"}"#),
            "pings" => Message::Ping(vec![1, 2, 3].into()),
            _ => piece(n == 0),
        };
        let flooding = async {
            for n in 0..3_000_000 {
                if writes.feed(message(n)).await.is_err() || (n % 500 == 0 && writes.flush().await.is_err()) {
                    break;
                }
            }
        };
        let closed = async {
            while let Some(Ok(message)) = reads.next().await {
                if let Message::Close(close) = message {
                    return close.map(|close| u16::from(close.code));
                }
            }
            None
        };
        let talking = async {
            for n in 0..20 {
                let text = n.to_string();
                within(Duration::from_secs(2), "a send of bob", bob.client().send(&room, &text)).await.unwrap();
            }
        };
        let ended = async { tokio::join!(flooding, closed, talking).1 };
        let code = within(Duration::from_secs(60), "the session is closed", ended).await;
        assert_eq!(code, Some(CloseCode::TooManyFrames.code()), "{flood}");
    }
    bob.finish().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections_also_behind_a_proxy() {
    let args = ["--rate", "connections=4", "--rate", "unsigned=2", "--trusted-proxy", "127.0.0.0/8"];
    let args = args.map(str::to_owned).to_vec();
    let server = Sendpi::start_with(SendpiSetup { rates: true, args, ..SendpiSetup::default() }).await;
    let url = server.url().replace("http://", "ws://") + "/v1/ws";
    let open = async |client: &str| {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest;
        let mut request = url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("X-Forwarded-For", client.parse().unwrap());
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
    };
    let token = server.token("ann").await;
    let mut open_sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = open("6.6.6.6, 1.2.3.4").await.unwrap();
        socket.send(Message::text(json!({"op": "hello", "token": token}).to_string())).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().to_text().unwrap().contains("welcome"));
        open_sockets.push(socket);
    }
    assert!(open("1.2.3.4").await.unwrap_err().to_string().contains("429"));
    step("another client of the same proxy has its own places, of which two need no sign-in");
    let (one, two) = (open("5.6.7.8").await.unwrap(), open("5.6.7.8").await.unwrap());
    assert!(open("5.6.7.8").await.unwrap_err().to_string().contains("429"));
    drop((one, two));
    until("the places are free again", async || Box::pin(open("5.6.7.8")).await.is_ok()).await;
    open_sockets.pop();
    until("a place is free", async || Box::pin(open("1.2.3.4")).await.is_ok()).await;
}

#[tokio::test]
async fn a_node_tells_whether_it_is_ready_and_what_it_does() {
    let mut nats = NatsServer::start().await;
    let args = vec!["--log-format".to_owned(), "json".to_owned()];
    let mut server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), args, ..SendpiSetup::default() }).await;
    server.until_logged(r#""message":"a node is up""#, 1).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room.to_string();
    ann.client().send(&room, "hello").await.unwrap();
    let status = async |path: &str| get(server.url(), path, &[]).await.unwrap().status;
    assert_eq!((status("/healthz").await, status("/readyz").await), (200, 200));
    let metrics = get(server.url(), "/metrics", &[]).await.unwrap().body;
    for line in [
        "# HELP sendpi_sessions Open sessions of this node, signed in or not.",
        "# TYPE sendpi_frames counter",
        "sendpi_sessions 1",
        "sendpi_events_total 2",
        "sendpi_owned_partitions 64",
        "sendpi_rounds_seconds_bucket{le=\"+Inf\"}",
        "sendpi_http_requests_total{method=\"GET\",status=\"200\"}",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert_eq!(metrics.lines().last(), Some("# EOF"));
    until("ann's connection and the one that asks are counted", async || {
        get(server.url(), "/metrics", &[]).await.unwrap().body.contains("sendpi_connections 2\n")
    })
    .await;
    step("who comes through a proxy gets no metrics");
    let forwarded = get(server.url(), "/metrics", &[("X-Forwarded-For", "1.2.3.4")]).await.unwrap();
    assert_eq!(forwarded.status, 403);
    step("without NATS it lives and is not ready");
    nats.kill9().await;
    until("it is not ready", async || status("/readyz").await == 503).await;
    let ready = get(server.url(), "/readyz", &[]).await.unwrap();
    assert_eq!((ready.body.as_str(), status("/healthz").await), ("there is no connection to NATS\n", 200));
    nats.start_again().await;
    until("it is ready again", async || status("/readyz").await == 200).await;
    ann.finish().await;
    let bad = Sendpi::run(&["dev", "--port", "0", "--data", "/nowhere", "--rate", "sends=often"]).await;
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(said.contains("sends must be off, or like 20/s,60"), "{said}");
}
