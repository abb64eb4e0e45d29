//! Processes that are frozen for a while, as a paused virtual machine is: sessions stay open, and nothing is lost.

use std::time::Duration;

use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, step};

use crate::faults::send_surely;

/// What is frozen.
#[derive(Clone, Copy)]
enum Frozen {
    Sendpi,
    Nats,
}

/// The lines that say that a link was cut or a node given up.
const CUTS: [&str; 5] = [
    "a node is silent",
    "nobody listens there any more",
    "the link of a worker is cut",
    "the link of a worker began a new incarnation",
    "cutting all links",
];

/// Freezes a process for some seconds while two users on two nodes talk. They and a user who comes later get every
/// message, once and in order, and stay on their connections. Returns how many links were cut for it. Kills the mutant
/// `HearingOff`.
async fn freeze(what: Frozen, seconds: u64) -> usize {
    let nats = NatsServer::start().await;
    // Heartbeats are frequent, so that some are under way when the process is frozen.
    let heartbeat = Duration::from_secs(3);
    let setup = SendpiSetup { nodes: 2, heartbeat, nats: Some(nats.url()), ..SendpiSetup::default() };
    let server = Sendpi::start_with(setup).await;
    let signal = |signal: &str| match what {
        Frozen::Sendpi => server.signal(signal),
        Frozen::Nats => nats.signal(signal),
    };
    let pushes = PushRecorder::start(&nats).await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let bob = Recording::connect_with(server.node(1), &token, "bob", "laptop", Default::default()).await;
    let cleos_token = server.token("cleo").await;
    let info = ann.client().create("lobby", &["bob", "cleo"]).await.unwrap();
    let (room, mut known) = (info.room.as_str(), info.seq);
    // Cleo is pushed what comes before she signs in, and only she.
    let mut texts = Vec::new();
    for i in 0..5 {
        texts.push(format!("before {i}"));
        known = ann.client().send(room, &texts[i]).await.unwrap().seq;
    }
    bob.until_seq(room, known).await;

    let sessions = [ann.welcome().session.clone(), bob.welcome().session.clone()];
    step("it is frozen, and ann sends meanwhile");
    signal("STOP");
    let thaw = async {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        step("it goes on");
        signal("CONT");
    };
    texts.push("meanwhile".to_owned());
    let (sent, ()) = tokio::join!(send_surely(&mut ann, server.url(), room, "meanwhile", known), thaw);
    known = sent.seq;
    for i in 0..5 {
        step(format!("ann sends after it, {i}"));
        texts.push(format!("after {i}"));
        known = send_surely(&mut ann, server.url(), room, &texts[6 + i], known).await.seq;
    }
    step("bob gets everything");
    bob.until_seq(room, known).await;
    assert_eq!(bob.room(room).texts(), texts);
    step("both are on their first connection");
    for client in [&ann, &bob] {
        client.client().ping().await.unwrap();
    }
    assert_eq!([ann.welcome().session.clone(), bob.welcome().session.clone()], sessions);
    step("cleo signs in and gets what comes next");
    let mut cleo = Recording::connect_with(server.node(1), &cleos_token, "cleo", "phone", Default::default()).await;
    known = send_surely(&mut ann, server.url(), room, "hello cleo", known).await.seq;
    cleo.until_seq(room, known).await;
    bob.until_seq(room, known).await;
    known = send_surely(&mut cleo, server.node(1), room, "hello ann", known).await.seq;
    ann.until_seq(room, known).await;
    assert_eq!(ann.whole_history(room).await.unwrap().len() as u64, known);
    let cuts = CUTS.iter().map(|line| server.logged(line)).sum();
    if cuts == 0 {
        assert!(pushes.seen().iter().all(|(_, _, user)| user == "cleo"), "{:?}", pushes.seen());
    }
    for client in [ann, bob, cleo] {
        client.finish().await;
    }
    cuts
}

#[tokio::test]
async fn a_process_that_was_frozen_for_4_seconds_goes_on_and_cuts_nothing() {
    assert_eq!(freeze(Frozen::Sendpi, 4).await, 0);
}

#[tokio::test]
async fn a_process_that_was_frozen_for_11_seconds_goes_on_and_cuts_nothing() {
    assert_eq!(freeze(Frozen::Sendpi, 11).await, 0);
}

/// The node keys expire meanwhile, so the links are cut.
#[tokio::test]
async fn a_process_that_was_frozen_for_longer_than_its_key_lives_goes_on() {
    freeze(Frozen::Sendpi, 17).await;
}

#[tokio::test]
async fn a_nats_that_was_frozen_for_4_seconds_costs_no_link() {
    assert_eq!(freeze(Frozen::Nats, 4).await, 0);
}

#[tokio::test]
async fn a_nats_that_was_frozen_for_11_seconds_costs_no_link() {
    assert_eq!(freeze(Frozen::Nats, 11).await, 0);
}

/// The node keys expire meanwhile, so the links are cut.
#[tokio::test]
async fn a_nats_that_was_frozen_for_longer_than_keys_live_costs_no_session() {
    freeze(Frozen::Nats, 17).await;
}
