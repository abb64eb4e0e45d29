//! Tests of the devices of one user, on one node and on two.

use super::*;

const HELLO: &str = r#"{"op":"hello","device":"phone"}"#;

/// Waits until one of the clients is closed. Returns the close codes of all.
async fn codes_once_one_is_closed(clients: &[SocketlessClient]) -> Vec<Option<u16>> {
    let mut codes = vec![None; clients.len()];
    until("one session to end", async || {
        codes.iter_mut().zip(clients).for_each(|(code, client)| *code = code.or(client.close_code()));
        codes.iter().any(Option::is_some)
    })
    .await;
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_device_that_signs_in_on_two_nodes_at_once_exactly_one_session_remains() {
    let world = World::new().await;
    let bus = world.nats.connect("n2").await;
    let other = node(&bus, &world.store, SessionConfig::default(), &world.stop).await;
    for n in 0..20 {
        let user = format!("ann{n}");
        let clients = [SocketlessClient::connect(&world.handle, &user), SocketlessClient::connect(&other, &user)];
        let (here, there) = tokio::join!(clients[0].hello(HELLO), clients[1].hello(HELLO));
        here.and(there).unwrap();
        let mut codes = codes_once_one_is_closed(&clients).await;
        codes.sort();
        assert_eq!(codes, [None, Some(4105)], "try {n}");
        // The one that remains is told to go by nobody, however often it is looked at again.
        let third = SocketlessClient::connect(&world.handle, &user);
        third.hello(r#"{"op":"hello","device":"laptop"}"#).await.unwrap();
        assert!(clients.iter().all(|client| client.close_code().is_none()));
    }
}

/// Signs 20 devices of a user in, of which `here` are on the first node. All but two go on talking. Then two more
/// sign in on the second node. Returns which of the 20 were closed.
async fn closed_by_further_ones(here: usize, silent: [usize; 2]) -> Vec<usize> {
    let world = World::new().await;
    let bus = world.nats.connect("n2").await;
    let other = node(&bus, &world.store, SessionConfig::default(), &world.stop).await;
    let sign_in = async |tier: &UserTier, device: usize| {
        let client = SocketlessClient::connect(tier, "ann");
        client.hello(&format!(r#"{{"op":"hello","device":"d{device}"}}"#)).await.unwrap();
        client
    };
    let mut clients = Vec::new();
    for device in 0..20 {
        clients.push(sign_in(if device < here { &world.handle } else { &other }, device).await);
    }
    let talk = |clients: &[SocketlessClient]| {
        for (device, client) in clients.iter().enumerate().filter(|(device, _)| !silent.contains(device)) {
            client.say(&format!(r#"{{"op":"ping","id":{device}}}"#));
        }
    };
    let began = Instant::now();
    until("two to have been silent for a while", async || began.elapsed() > Duration::from_millis(500)).await;
    let mut codes = vec![None; clients.len()];
    let mut later = Vec::new();
    for wanted in 1..=2 {
        talk(&clients);
        later.push(sign_in(&other, 19 + wanted).await);
        until("one session to end", async || {
            codes.iter_mut().zip(&clients).for_each(|(code, client)| *code = code.or(client.close_code()));
            codes.iter().flatten().count() == wanted
        })
        .await;
    }
    assert!(codes.iter().flatten().all(|code| *code == 4106), "{codes:?}");
    assert!(later.iter().all(|client| client.close_code().is_none()));
    (0..20).filter(|device| codes[*device].is_some()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_twenty_first_session_ends_the_one_that_has_been_silent_longest_on_whatever_node() {
    assert_eq!(closed_by_further_ones(12, [5, 15]).await, [5, 15]);
}
