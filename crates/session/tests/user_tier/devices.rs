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

/// The twenty-first session of a user ends the one that has been silent longest, on whatever node it is. Returns which
/// of the first 20 sessions were closed, of which `here` are on the first node, once the twenty-first has signed in on
/// the second. `silent` says nothing more after its sign-in.
async fn closed_by_the_twenty_first(here: usize, silent: usize) -> Vec<usize> {
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
    for (device, client) in clients.iter().enumerate().filter(|(device, _)| *device != silent) {
        client.say(&format!(r#"{{"op":"ping","id":{device}}}"#));
    }
    let last = sign_in(&other, 20).await;
    let codes = codes_once_one_is_closed(&clients).await;
    assert!(codes.iter().flatten().all(|code| *code == 4106), "{codes:?}");
    // Nobody else is closed by the further sign-in of a device that is there already.
    let again = sign_in(&world.handle, 20).await;
    until("the older session of the device to end", async || last.close_code() == Some(4105)).await;
    let further = clients.iter().map(SocketlessClient::close_code);
    let closed = codes.into_iter().zip(further).map(|(first, further)| first.or(further)).enumerate();
    drop(again);
    closed.filter_map(|(device, code)| code.map(|_| device)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_twenty_first_session_ends_the_one_that_has_been_silent_longest_on_whatever_node() {
    assert_eq!(closed_by_the_twenty_first(12, 5).await, [5], "on the other node");
    assert_eq!(closed_by_the_twenty_first(12, 15).await, [15], "on the same node");
}
