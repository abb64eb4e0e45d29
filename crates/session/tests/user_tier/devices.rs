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
