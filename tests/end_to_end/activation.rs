//! Activation: a channel that is activated finds everybody who is online, whenever they signed in.

use std::time::Duration;

use futures_util::StreamExt;
use sendpi_client::Options;
use sendpi_tests::{Recording, Sendpi, SendpiSetup, step};
use tokio::time::Instant;

/// H for these tests: a sign-in does not look at a room that has had no event for this long.
const HORIZON: Duration = Duration::from_secs(2);
/// How many races run at the same time.
const AT_ONCE: usize = 8;

fn with_horizon(setup: SendpiSetup) -> SendpiSetup {
    SendpiSetup { args: vec!["--horizon".into(), format!("{}ms", HORIZON.as_millis())], ..setup }
}

/// Lets `races` users sign in, each while a first message activates the channel of their room. Every user who has
/// signed in must get the second message live. Kills the mutant `BarrierOff`.
pub(crate) async fn sign_in_races(setup: SendpiSetup, races: usize) {
    let mut server = Sendpi::start_with(with_horizon(setup)).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    step("ann makes a room for each of the users");
    let mut rooms = Vec::new();
    for i in 0..races {
        let user = format!("u{i}");
        rooms.push((ann.client().create(&user, &[&user]).await.unwrap().room.to_string(), user));
    }
    ann.finish().await;
    let made = Instant::now();
    // No channel is active after a start, and once H has passed no sign-in looks at these rooms by itself.
    step("the server restarts and the horizon passes");
    server.terminate().await;
    server.start_again().await;
    tokio::time::sleep_until(made + HORIZON).await;

    let ann = Recording::connect(&server, "ann", "phone").await;
    step("each user signs in while ann's first message activates the room");
    let race = |(i, (room, user)): (usize, &(String, String))| {
        let (ann, server, room, user) = (&ann, &server, room.clone(), user.clone());
        async move {
            let token = server.token(&user).await;
            let options = Options { rooms: Some(0), ..Options::default() };
            let signing_in = async {
                tokio::time::sleep(Duration::from_micros((i as u64 * 137) % 4_000)).await;
                Recording::connect_with(server.url(), &token, &user, "laptop", options).await
            };
            let first = ann.client().send(&room, "first");
            let (first, user) = tokio::join!(first, signing_in);
            first.unwrap();
            ann.client().send(&room, "second").await.unwrap();
            user.until_text(&room, "second").await;
            user.finish().await;
        }
    };
    futures_util::stream::iter(rooms.iter().enumerate()).map(race).buffer_unordered(AT_ONCE).collect::<()>().await;
    ann.finish().await;
}

#[tokio::test]
async fn nobody_who_signs_in_while_a_channel_is_activated_is_missed() {
    sign_in_races(SendpiSetup::default(), 1_000).await;
}

/// Kills the mutant `PresenceReadOff`.
#[tokio::test]
async fn a_channel_that_was_evicted_is_activated_again() {
    let args = ["--idle-min", "300ms", "--idle-max", "1s"].map(String::from).to_vec();
    let heartbeat = Duration::from_millis(500);
    let mut server = Sendpi::start_with(SendpiSetup { args, heartbeat, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let room = ann.client().create("lobby", &["bob", "eve"]).await.unwrap().room;
    let room = room.as_str();
    for round in 1..=3 {
        step(format!("ann sends message {round} and the channel is evicted"));
        let sent = ann.client().send(room, &format!("{round}")).await.unwrap();
        bob.until_seq(room, sent.seq).await;
        server.until_logged("a channel is evicted", round).await;
    }
    step("bob reads the history of the evicted room");
    let history = bob.whole_history(room).await.unwrap();
    assert_eq!(history.len(), 4);
    // Eve was never online, and her sign-in still reports what the evicted room has.
    step("eve signs in");
    let eve = Recording::connect(&server, "eve", "phone").await;
    assert_eq!((eve.welcome().rooms[0].seq, eve.welcome().rooms[0].unread), (4, 3));
    for client in [ann, bob, eve] {
        client.finish().await;
    }
}

/// Kills the mutant `OrderRowsOff`.
#[tokio::test]
async fn typing_activates_a_channel_and_a_message_follows() {
    let mut server = Sendpi::start_with(with_horizon(SendpiSetup::default())).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob", "eve"]).await.unwrap().room;
    let room = room.as_str();
    ann.finish().await;
    let made = Instant::now();
    step("the server restarts and the horizon passes");
    server.terminate().await;
    server.start_again().await;
    tokio::time::sleep_until(made + HORIZON).await;

    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    step("ann types, which activates the channel");
    ann.client().typing(room).await.unwrap();
    bob.until_frame("typing", |frame| match frame {
        sendpi_client::ServerFrame::Event(event) if event.kind == "typing" => Some(()),
        _ => None,
    })
    .await;
    step("ann sends a message");
    let sent = ann.client().send(room, "hi").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    // The message needed an order row for each member, so eve's sign-in finds the active channel.
    step("eve signs in and ann sends another message");
    let (token, options) = (server.token("eve").await, Options { rooms: Some(0), ..Options::default() });
    let eve = Recording::connect_with(server.url(), &token, "eve", "phone", options).await;
    let sent = ann.client().send(room, "again").await.unwrap();
    eve.until_seq(room, sent.seq).await;
    for client in [ann, bob, eve] {
        client.finish().await;
    }
}
