//! Large loads: a reader that is far too slow, and a user with thousands of rooms.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use sendpi_client::{Options, Range};
use sendpi_model::CloseCode;
use sendpi_tests::{Recording, Sendpi, step, within};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

/// Kills the mutant `OutboxUnbounded`.
#[tokio::test]
async fn a_reader_that_is_too_slow_is_closed_while_the_others_go_on() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let cleo = Recording::connect(&server, "cleo", "phone").await;
    let slow = Options { receive_buffer: Some(4096), queue: 1, ..Options::default() };
    let (bob, mut frames, _) =
        sendpi_client::connect(server.url(), &server.token("bob").await, "laptop", slow).await.unwrap();
    let dan = one_byte_a_second(server.url(), &server.token("dan").await).await;
    let room = ann.client().create("lobby", &["bob", "cleo", "dan"]).await.unwrap().room;
    let room = room.as_str();
    bob.stop_reading().await.unwrap();

    step("ann sends 100 MB while bob reads nothing and dan one byte a second");
    let text = "x".repeat(15_900);
    let count = 100_000_000 / text.len();
    let sends = futures_util::stream::iter(0..count)
        .map(|_| ann.client().send_with(room, json!({"text": text}), Default::default()));
    let last = sends.buffered(32).map(|sent| sent.unwrap().seq).fold(0, |a, b| async move { a.max(b) }).await;
    cleo.until_seq(room, last).await;

    step("bob reads again and finds his connection closed");
    bob.start_reading().await.unwrap();
    let end = async {
        while frames.next().await.is_some() {}
        bob.closed().await
    };
    let closed = within(Duration::from_secs(30), "the server closes", end).await;
    assert_eq!(closed.code, Some(CloseCode::TooSlow.code()), "{closed:?}");
    // Dan may never get to the close frame. The list of members shows that the server has given him up.
    step("dan counts as offline");
    within(Duration::from_secs(30), "the server gives up the slowest reader", async {
        while ann
            .client()
            .members(room, None, 10)
            .await
            .unwrap()
            .members
            .iter()
            .any(|m| m.user.as_str() == "dan" && m.online)
        {}
    })
    .await;
    dan.abort();
    // Bob is too far behind for a replay, and is told so.
    step("bob comes back and resumes");
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let resumed = bob.client().resume(&[(room.to_owned(), 1)].into()).await.unwrap();
    let state = resumed.rooms.values().next().unwrap();
    assert_eq!((state.seq, state.truncated), (Some(last), true));
    let page = bob.history(room, Range::Newest, 10).await.unwrap();
    assert_eq!(page.events.last().and_then(|event| event.seq), Some(last));
    for client in [ann, bob, cleo] {
        client.finish().await;
    }
}

/// Signs in, and then reads one byte a second until the returned task is aborted or the connection ends.
async fn one_byte_a_second(url: &str, token: &str) -> tokio::task::JoinHandle<()> {
    let address = url.trim_start_matches("http://");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/v1/ws"), stream).await.unwrap();
    let hello = json!({"op": "hello", "device": "slow", "token": token}).to_string();
    socket.send(Message::text(hello)).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(welcome.contains("welcome"), "{welcome}");
    tokio::spawn(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        while socket.get_mut().read_u8().await.is_ok() {
            seconds.tick().await;
        }
    })
}

/// Kills the mutant `PageRepeats`.
#[tokio::test]
async fn a_user_with_ten_thousand_rooms_signs_in_and_lists_each_once() {
    const ROOMS: usize = 10_000;
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    step("ann makes ten thousand rooms with bob");
    let makes = futures_util::stream::iter(0..ROOMS).map(|i| {
        let name = format!("room {i}");
        let ann = &ann;
        async move { ann.client().create(&name, &["bob"]).await }
    });
    let made: Vec<_> = makes.buffer_unordered(60).collect().await;
    assert!(made.iter().all(Result::is_ok), "{:?}", made.iter().find(|made| made.is_err()));

    step("bob signs in and lists his rooms");
    let bob = Recording::connect(&server, "bob", "laptop").await;
    assert_eq!(bob.welcome().rooms.len(), 50);
    let mut listed: Vec<String> = bob.welcome().rooms.iter().map(|info| info.room.to_string()).collect();
    let mut cursor = bob.welcome().next.clone();
    while let Some(next) = cursor {
        let page = bob.client().rooms(Some(&next), 200).await.unwrap();
        listed.extend(page.rooms.iter().map(|info| info.room.to_string()));
        cursor = page.next;
    }
    let count = listed.len();
    listed.sort();
    listed.dedup();
    assert_eq!((count, listed.len()), (ROOMS, ROOMS));
    // Bob is in L1 even of the rooms far down the list.
    step("ann sends in a room far down the list");
    let last = made.into_iter().next_back().unwrap().unwrap().room;
    let sent = ann.client().send(last.as_str(), "hi").await.unwrap();
    bob.until_seq(last.as_str(), sent.seq).await;
    ann.finish().await;
    bob.finish().await;
}
