//! Several devices of one user, on one node and on others.

use sendpi_client::{Options, ServerFrame};
use sendpi_tests::{Recording, Sendpi, SendpiSetup, step};

async fn on(server: &Sendpi, node: usize, user: &str, device: &str) -> Recording {
    let token = server.token(user).await;
    Recording::connect_with(server.node(node), &token, user, device, Options::default()).await
}

/// Kills the mutant `OneDeviceOnly`.
#[tokio::test]
async fn every_device_gets_every_event_on_whatever_node_it_is() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let devices = [
        on(&server, 0, "ann", "phone").await,
        on(&server, 0, "ann", "laptop").await,
        on(&server, 1, "ann", "tablet").await,
    ];
    let bob = on(&server, 1, "bob", "phone").await;
    let room = bob.client().create("lobby", &["ann"]).await.unwrap().room;
    let room = room.as_str();
    step("bob and ann's devices send in turn");
    let mut last = 0;
    for i in 0..20 {
        let sender = if i % 2 == 0 { &bob } else { &devices[i % 3] };
        last = sender.client().send(room, &format!("{i}")).await.unwrap().seq;
    }
    step("every device gets every message");
    for device in devices.iter().chain([&bob]) {
        device.until_seq(room, last).await;
        assert_eq!(device.room(room).texts().len(), 20);
    }
    for device in devices.into_iter().chain([bob]) {
        device.finish().await;
    }
}

/// Kills the mutant `MarkersOff`.
#[tokio::test]
async fn what_is_read_on_one_device_is_read_on_the_others() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let (phone, tablet) = (on(&server, 0, "ann", "phone").await, on(&server, 1, "ann", "tablet").await);
    let bob = on(&server, 1, "bob", "phone").await;
    let room = bob.client().create("lobby", &["ann"]).await.unwrap().room;
    let room = room.as_str();
    step("bob sends three messages");
    bob.client().send(room, "one").await.unwrap();
    let two = bob.client().send(room, "two").await.unwrap();
    bob.client().send(room, "three").await.unwrap();
    step("ann reads two of them on her phone");
    phone.client().read(room, two.seq).await.unwrap();
    let marker = tablet
        .until_frame("a marker", |frame| match frame {
            ServerFrame::Marker(marker) if marker.room.as_str() == room => Some(marker.seq),
            _ => None,
        })
        .await;
    assert_eq!(marker, two.seq);
    // A later sign-in reads the marker from the store.
    step("ann signs in on a third device");
    let laptop = on(&server, 0, "ann", "laptop").await;
    let listed = laptop.client().rooms(None, 10).await.unwrap();
    assert_eq!((listed.rooms[0].marker.seq, listed.rooms[0].unread), (two.seq, 1));
    for device in [phone, tablet, bob, laptop] {
        device.finish().await;
    }
}

#[tokio::test]
async fn a_message_of_ones_own_is_read_on_all_devices() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let (phone, tablet) = (on(&server, 0, "ann", "phone").await, on(&server, 1, "ann", "tablet").await);
    let bob = on(&server, 1, "bob", "phone").await;
    let room = bob.client().create("lobby", &["ann"]).await.unwrap().room;
    bob.client().send(room.as_str(), "one").await.unwrap();
    step("ann answers on her phone and looks at the list on her tablet");
    let sent = phone.client().send(room.as_str(), "two").await.unwrap();
    bob.client().send(room.as_str(), "three").await.unwrap();
    let listed = tablet.client().rooms(None, 10).await.unwrap();
    assert_eq!((listed.rooms[0].marker.seq, listed.rooms[0].unread), (sent.seq, 1));
    for device in [phone, tablet, bob] {
        device.finish().await;
    }
}

/// Kills the mutant `LongMessagesCut`.
#[tokio::test]
async fn fifty_busy_rooms_of_one_user_arrive_whole_and_in_order() {
    let server = Sendpi::start().await;
    let (phone, laptop) = (on(&server, 0, "ann", "phone").await, on(&server, 0, "ann", "laptop").await);
    let bob = on(&server, 0, "bob", "phone").await;
    step("bob makes fifty rooms with ann");
    let mut rooms = Vec::new();
    for i in 0..50 {
        rooms.push(bob.client().create(&format!("room {i}"), &["ann"]).await.unwrap().room.to_string());
    }
    step("bob sends in all rooms at once");
    let bob_client = bob.client();
    let talking = rooms.iter().map(|room| async move {
        let mut last = 0;
        for i in 0..20 {
            last = bob_client.send(room, &format!("{i}")).await.unwrap().seq;
        }
        (room, last)
    });
    for (room, last) in futures_util::future::join_all(talking).await {
        for device in [&phone, &laptop] {
            device.until_seq(room, last).await;
        }
    }
    for device in [phone, laptop, bob] {
        device.finish().await;
    }
}
