//! Tests of read markers, on one node and on two.

use super::*;

const LAPTOP: &str = r#"{"op":"hello","device":"laptop"}"#;
/// Markers are written only when a user leaves.
const NEVER: Duration = Duration::from_secs(3_600);

/// A world with a second node, a room with 20 events, and ann's phone on the first node.
async fn two_nodes(markers_every: Duration) -> (World, UserTier, SocketlessClient) {
    let config = SessionConfig { markers_every, ..SessionConfig::default() };
    let world = World::with(config.clone()).await;
    let bus = world.nats.connect("n2").await;
    let other = node(&bus, &world.store, config, &world.stop).await;
    world.store.active("ann", "r");
    world.owner.happen("r", 20);
    let (phone, _) = SocketlessClient::sign_in(&world.handle, "ann").await;
    (world, other, phone)
}

async fn laptop(node: &UserTier) -> (SocketlessClient, serde_json::Value) {
    let laptop = SocketlessClient::connect(node, "ann");
    laptop.hello(LAPTOP).await.unwrap();
    let welcome = laptop.next().await;
    assert_eq!(welcome["op"], "welcome");
    (laptop, welcome)
}

fn read(seq: u64) -> String {
    format!(r#"{{"op":"read","id":1,"room":"r","seq":{seq}}}"#)
}

/// Waits for the next frame, and returns its op and seq.
async fn op_and_seq(client: &SocketlessClient) -> (String, u64) {
    let frame = client.next().await;
    (frame["op"].as_str().unwrap().to_owned(), frame["seq"].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_marker_reaches_the_users_other_devices_and_the_store() {
    let (world, other, phone) = two_nodes(Duration::from_millis(50)).await;
    let (laptop, _) = laptop(&other).await;
    phone.say(&read(2));
    assert_eq!(op_and_seq(&phone).await, ("ok".to_owned(), 2));
    let marker = laptop.next().await;
    assert_eq!((&marker["op"], &marker["room"], &marker["seq"]), (&"marker".into(), &"r".into(), &2.into()));
    until("the row", async || !world.store.written.lock().unwrap().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_read_moves_no_marker_and_is_answered_with_where_it_is() {
    let (_world, other, phone) = two_nodes(NEVER).await;
    let (laptop, _) = laptop(&other).await;
    phone.say(&read(18));
    assert_eq!(op_and_seq(&phone).await, ("ok".to_owned(), 18));
    assert_eq!(op_and_seq(&laptop).await, ("marker".to_owned(), 18));
    laptop.say(&read(14));
    assert_eq!(op_and_seq(&laptop).await, ("ok".to_owned(), 18));
    laptop.say(&read(19));
    assert_eq!(op_and_seq(&laptop).await, ("ok".to_owned(), 19));
    assert_eq!(op_and_seq(&phone).await, ("marker".to_owned(), 19));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_is_listed_while_its_row_is_being_written() {
    let (world, _, phone) = two_nodes(Duration::from_millis(50)).await;
    let gate = world.store.gate.lock().await;
    phone.say(&read(7));
    assert_eq!(op_and_seq(&phone).await, ("ok".to_owned(), 7));
    until("the write to begin", async || world.store.begun.load(Ordering::Relaxed) > 0).await;
    phone.say(r#"{"op":"rooms","id":2}"#);
    let rooms = phone.next().await;
    assert_eq!((&rooms["op"], &rooms["rooms"][0]["marker"]["seq"]), (&"rooms".into(), &7.into()));
    drop(gate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_signs_in_hears_of_a_marker_that_another_node_has_not_written_yet() {
    let (_world, other, phone) = two_nodes(NEVER).await;
    phone.say(&read(5));
    assert_eq!(op_and_seq(&phone).await, ("ok".to_owned(), 5));
    let (laptop, welcome) = laptop(&other).await;
    if welcome["rooms"][0]["marker"]["seq"] != 5 {
        assert_eq!(op_and_seq(&laptop).await, ("marker".to_owned(), 5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_to_another_node_hears_of_what_was_read_on_the_first() {
    let (world, other, phone) = two_nodes(NEVER).await;
    phone.say(&read(5));
    assert_eq!(op_and_seq(&phone).await, ("ok".to_owned(), 5));
    let gate = world.store.gate.lock().await;
    drop(phone);
    until("the marker's write", async || world.store.begun.load(Ordering::Relaxed) > 0).await;
    until("ann to be offline", async || !world.is_online("ann").await).await;
    let (laptop, welcome) = laptop(&other).await;
    assert_eq!(welcome["rooms"][0]["marker"]["seq"], 0, "presence does not name the first node any more");
    drop(gate);
    assert_eq!(op_and_seq(&laptop).await, ("marker".to_owned(), 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_tells_the_markers_of_its_rooms() {
    let (world, _, phone) = two_nodes(Duration::from_millis(50)).await;
    phone.say(&read(5));
    assert_eq!(op_and_seq(&phone).await, ("ok".to_owned(), 5));
    until("the row", async || !world.store.written.lock().unwrap().is_empty()).await;
    phone.say(r#"{"op":"resume","id":2,"rooms":{"r":20,"closed":1}}"#);
    assert_eq!(op_and_seq(&phone).await, ("marker".to_owned(), 5));
    assert_eq!(phone.next().await["op"], "resumed");
}
