//! A device whose packets vanish: its socket stays open, and nothing on it arrives any more.

use std::time::Duration;

use sendpi_client::Options;
use sendpi_model::CloseCode;
use sendpi_tests::{NatsServer, Proxy, PushRecorder, Recording, Sendpi, SendpiSetup, step, within};

#[tokio::test]
async fn what_a_device_whose_packets_vanish_was_sent_is_on_the_next_device_or_pushed() {
    let nats = NatsServer::start().await;
    let heartbeat = Duration::from_secs(3);
    let setup = SendpiSetup { heartbeat, nats: Some(nats.url()), nodes: 2, ..SendpiSetup::default() };
    let server = Sendpi::start_with(setup).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let proxy = Proxy::start(server.url()).await;
    let phone = Recording::connect_with(proxy.url(), &token, "bob", "phone", Options::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    let before = ann.client().send(room, "before").await.unwrap();
    phone.until_seq(room, before.seq).await;

    step("the packets of bob's phone vanish, and ann sends");
    proxy.vanish();
    let lost = ann.client().send(room, "to a dead phone").await.unwrap();
    step("bob signs in on a tablet, on the same node, and on a laptop, on another one");
    let tablet = Recording::connect_with(server.node(0), &token, "bob", "tablet", Options::default()).await;
    let laptop = Recording::connect_with(server.node(1), &token, "bob", "laptop", Options::default()).await;
    for device in [&tablet, &laptop] {
        let listed = device.welcome().rooms.iter().find(|info| info.room.as_str() == room).unwrap();
        assert!(listed.seq >= lost.seq && listed.unread >= 1, "the welcome shows what the phone did not: {listed:?}");
    }
    let live = ann.client().send(room, "to the others").await.unwrap();
    tablet.until_seq(room, live.seq).await;
    laptop.until_seq(room, live.seq).await;

    step("the phone's session ends");
    // One heartbeat until the phone is asked, one until that counts as unanswered, and one for a busy machine. What
    // the phone says goes nowhere, but it hears the server again.
    proxy.recover_downwards();
    let closed = within(3 * heartbeat, "the phone is closed", phone.client().closed()).await;
    assert_eq!(closed.code, Some(CloseCode::NoSignOfLife.code()), "{closed:?}");

    step("bob puts the other devices away, and ann sends");
    tablet.finish().await;
    laptop.finish().await;
    let last = ann.client().send(room, "to nobody").await.unwrap();
    pushes.until(room, last.seq, "bob").await;
    ann.finish().await;
}

#[tokio::test]
async fn what_a_device_whose_packets_vanish_was_sent_is_pushed_before_the_next_device_signs_in() {
    let nats = NatsServer::start().await;
    let heartbeat = Duration::from_secs(1);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let proxy = Proxy::start(server.url()).await;
    let phone = Recording::connect_with(proxy.url(), &token, "bob", "phone", Options::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    let before = ann.client().send(room, "before").await.unwrap();
    phone.until_seq(room, before.seq).await;
    step("the packets of bob's phone vanish, and ann sends");
    proxy.vanish();
    let lost = ann.client().send(room, "to a dead phone").await.unwrap();
    pushes.until(room, lost.seq, "bob").await;
    step("bob signs in on a laptop");
    let laptop = Recording::connect(&server, "bob", "laptop").await;
    let live = ann.client().send(room, "to the laptop").await.unwrap();
    laptop.until_seq(room, live.seq).await;
    ann.finish().await;
    laptop.finish().await;
}
