//! A wall clock that jumps: nothing is lost or doubled, and nobody is locked out.

use std::time::Duration;

use sendpi_model::faults::FailPoint;
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, step};

use crate::faults::send_surely;

const DAY: u64 = 24 * 60 * 60;

/// The clock is a day ahead for some seconds, and is then set back. The process ends several times, with an event in
/// the store that nobody was sent. Kills the mutant `FutureRoomsOff`.
#[tokio::test]
async fn a_clock_that_was_a_day_ahead_for_a_while_costs_nothing() {
    let nats = NatsServer::start().await;
    // What is sent is confirmed, and so settled, every second.
    let heartbeat = Duration::from_secs(1);
    let setup = SendpiSetup { nats: Some(nats.url()), own_clock: true, heartbeat, ..SendpiSetup::default() };
    let mut server = Sendpi::start_with(setup).await;
    let url = server.url().to_owned();
    let mut pushes = PushRecorder::start(&nats).await;
    let mut tokens = Vec::new();
    for user in ["ann", "bob", "cleo", "dan"] {
        tokens.push(server.short_token(user, 10 * DAY).await);
    }
    let sign_in = async |index: usize, user: &str| {
        Recording::connect_with(&url, &tokens[index], user, "phone", Default::default()).await
    };
    let mut ann = sign_in(0, "ann").await;
    let mut bob = sign_in(1, "bob").await;
    // Eve never comes.
    let info = ann.client().create("lobby", &["bob", "cleo", "dan", "eve"]).await.unwrap();
    let (room, mut known) = (info.room.as_str(), info.seq);
    let mut texts = Vec::new();
    macro_rules! send {
        ($text:expr) => {
            step(format!("ann sends {:?}", $text));
            texts.push($text.to_owned());
            known = send_surely(&mut ann, &url, room, $text, known).await.seq;
            bob.until_seq(room, known).await;
            pushes.until(room, known, "eve").await;
        };
    }
    macro_rules! send_and_crash {
        ($text:expr, $ahead:expr) => {
            step(format!("ann sends {:?}, and the process ends before it is dispatched", $text));
            server.fail_at(FailPoint::AfterFence);
            let options = sendpi_client::SendOptions::nonce($text);
            let sent = ann.client().send_with(room, serde_json::json!({"text": $text}), options).await;
            assert!(sent.is_err(), "{sent:?}");
            server.ended().await;
            server.set_clock($ahead);
            server.start_again().await;
            known += 1;
            texts.push($text.to_owned());
            step(format!("eve is pushed {:?}", $text));
            pushes.until(room, known, "eve").await;
            for client in [&mut ann, &mut bob] {
                client.come_back(&url).await;
                client.until_text(room, $text).await;
            }
        };
    }
    send!("before");

    server.set_clock(DAY);
    send!("ahead");
    step("cleo signs in while the clock is ahead");
    let cleo = sign_in(2, "cleo").await;
    assert!(cleo.welcome().rooms.iter().any(|info| info.room.as_str() == room));
    send!("ahead, to cleo");
    cleo.until_seq(room, known).await;
    // Two periods in which what is settled is written, so that the record has a time of tomorrow.
    tokio::time::sleep(2 * sendpi_model::timing::SETTLE_EVERY).await;

    server.set_clock(0);
    send!("set back");
    cleo.until_seq(room, known).await;
    step("dan signs in after the clock was set back");
    let mut dan = sign_in(3, "dan").await;
    assert!(dan.welcome().rooms.iter().any(|info| info.room.as_str() == room));
    send!("set back, to dan");
    dan.until_seq(room, known).await;
    send_and_crash!("lost by the first", 0);
    send_and_crash!("lost by the second", 0);
    send_and_crash!("lost while ahead", DAY);
    send_and_crash!("lost before it is set back", 0);
    send!("after");

    step("everybody has everything");
    dan.come_back(&url).await;
    dan.until_seq(room, known).await;
    assert_eq!(bob.room(room).texts(), texts);
    let stored = ann.whole_history(room).await.unwrap();
    assert_eq!(stored.iter().filter_map(|event| event.text()).collect::<Vec<_>>(), texts);
    assert!(stored.is_sorted_by_key(|event| event.at), "a time of the room falls");
    let listed = dan.client().rooms(None, 10).await.unwrap();
    assert!(listed.rooms.iter().any(|info| info.room.as_str() == room));
    drop(cleo);
    for client in [ann, bob, dan] {
        client.finish().await;
    }
}
