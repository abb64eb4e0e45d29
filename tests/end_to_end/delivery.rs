//! Delivery: each durable event reaches each member, live or as a push.

use std::time::Duration;

use sendpi_client::Options;
use sendpi_model::faults::BusFault;
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, within};

/// A link message is lost on the bus, then another one, the last of a quiet room. Kills the mutant `LinkAnswersOff`.
pub(crate) async fn lost_link_messages(setup: SendpiSetup) {
    let server = Sendpi::start_with(setup).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    let sent = ann.client().send(room, "before").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    for text in ["lost", "lost again"] {
        server.play(BusFault::LoseLinkMessage);
        // A link sends again after a second. Much later it would be given up, and its users signed in anew: that is another test. The
        // answer is in the message that is lost, so it comes late as well.
        let sending = within(Duration::from_millis(2_500), "a lost message comes again", ann.client().send(room, text));
        let sent = sending.await.unwrap();
        bob.until_seq(room, sent.seq).await;
    }
    assert_eq!(bob.room(room).texts(), ["before", "lost", "lost again"]);
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn a_link_message_that_is_lost_comes_again_even_the_last_of_a_quiet_room() {
    lost_link_messages(SendpiSetup::default()).await;
}

/// A device dies without a word: what it was sent since its last heartbeat becomes a push. Kills the mutant `BounceOff`.
pub(crate) async fn silent_device(setup: SendpiSetup) {
    let nats = NatsServer::start().await;
    let heartbeat = Duration::from_secs(1);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, nats: Some(nats.url()), ..setup }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let silent = Options { pong: false, ..Options::default() };
    let bob = Recording::connect_with(server.url(), &server.token("bob").await, "bob", "laptop", silent).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let sent = ann.client().send(room.as_str(), "anybody there?").await.unwrap();
    bob.until_seq(room.as_str(), sent.seq).await;
    pushes.until(room.as_str(), sent.seq, "bob").await;
    assert!(pushes.seen().iter().all(|(_, _, user)| user == "bob"), "{:?}", pushes.seen());
    ann.finish().await;
}

#[tokio::test]
async fn what_a_device_that_died_without_a_word_was_sent_is_pushed() {
    silent_device(SendpiSetup::default()).await;
}

/// Kills the mutant `PushOff`.
#[tokio::test]
async fn who_is_offline_is_pushed_and_who_is_online_is_not() {
    let nats = NatsServer::start().await;
    let heartbeat = Duration::from_secs(1);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let room = ann.client().create("lobby", &["bob", "eve"]).await.unwrap().room;
    let room = room.as_str();
    let first = ann.client().send(room, "one").await.unwrap();
    pushes.until(room, first.seq, "eve").await;
    // Bob answers for what he got, and leaves: from then on he is offline.
    bob.until_seq(room, first.seq).await;
    bob.client().ping().await.unwrap();
    bob.finish().await;
    let mut sent = first;
    while !pushes.seen().iter().any(|(_, _, user)| user == "bob") {
        sent = ann.client().send(room, "more").await.unwrap();
        pushes.until(room, sent.seq, "eve").await;
    }
    pushes.until(room, sent.seq, "bob").await;
    assert!(pushes.seen().iter().all(|(_, _, user)| user != "ann"), "{:?}", pushes.seen());
    ann.finish().await;
}

/// Kills the mutant `OfferOff`.
#[tokio::test]
async fn a_node_that_was_given_up_is_offered_a_new_link_and_its_users_miss_nothing() {
    let mut server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let bob = Recording::connect_with(server.node(1), &token, "bob", "laptop", Options::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    ann.client().send(room, "before").await.unwrap();
    server.play(BusFault::MuteNodes);
    server.until_logged("a node is silent", 1).await;
    for i in 0..5 {
        // Ann's own node is silent too: what is answered on a link that is given up is sent again.
        let options = sendpi_client::SendOptions::nonce(format!("m{i}"));
        let sent = ann.client().send_with(room, serde_json::json!({"text": format!("{i}")}), options).await;
        assert!(sent.is_ok() || sent.as_ref().is_err_and(sendpi_client::ClientError::is_unknown), "{sent:?}");
    }
    server.all_well();
    let sent = ann.client().send(room, "after").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    assert_eq!(bob.room(room).texts().last(), Some(&"after"));
    // It did not take its own node's notice that nothing comes any more, which would heal this as well, but later.
    assert_eq!(server.logged("the link of a worker is cut"), 0);
    ann.finish().await;
    bob.finish().await;
}
