//! Delivery: each durable event reaches each member, live or as a push.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use sendpi_bus::push_stream::PushJob;
use sendpi_client::Options;
use sendpi_model::faults::BusFault;
use sendpi_model::{RoomId, UserId};
use sendpi_tests::{
    NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, limit_push_stream, put_push_job, step, within,
};

/// Loses a link message on the bus, and then another one, the last of a quiet room. Kills the mutant `LinkAnswersOff`.
pub(crate) async fn lost_link_messages(setup: SendpiSetup) {
    let server = Sendpi::start_with(setup).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    let sent = ann.client().send(room, "before").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    for text in ["lost", "lost again"] {
        step(format!("ann sends {text:?} and its link message is lost"));
        server.play(BusFault::LoseLinkMessage);
        // A link resends after a second. Much later the node would be given up and its users would be attached again,
        // which is another test. The answer is in the message that is lost, so it comes late too.
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

/// A device dies without a word, and the events that it has not confirmed are pushed. Kills the mutant `BounceOff`.
pub(crate) async fn silent_device(setup: SendpiSetup) {
    let nats = NatsServer::start().await;
    let heartbeat = Duration::from_secs(1);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, nats: Some(nats.url()), ..setup }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let silent = Options { pong: false, ..Options::default() };
    let bob = Recording::connect_with(server.url(), &server.token("bob").await, "bob", "laptop", silent).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    step("ann sends to bob, whose device answers no heartbeat");
    let sent = ann.client().send(room.as_str(), "anybody there?").await.unwrap();
    bob.until_seq(room.as_str(), sent.seq).await;
    step("bob's session ends and the message is pushed");
    pushes.until(room.as_str(), sent.seq, "bob").await;
    assert!(pushes.seen().iter().all(|(_, _, user)| user == "bob"), "{:?}", pushes.seen());
    ann.finish().await;
}

#[tokio::test]
async fn what_a_device_that_died_without_a_word_was_sent_is_pushed() {
    silent_device(SendpiSetup::default()).await;
}

/// Sends `count` messages, many at a time. Returns the seq of the last one.
async fn send_many(from: &Recording, room: &str, count: usize) -> u64 {
    let texts: Vec<String> = (0..count).map(|n| format!("message {n}")).collect();
    let sends = texts.iter().map(|text| from.client().send(room, text));
    let sent = futures_util::stream::iter(sends).buffer_unordered(50).try_collect::<Vec<_>>().await.unwrap();
    sent.iter().map(|sent| sent.seq).max().unwrap()
}

/// What a session's end costs follows its rooms, not what was under way in them.
#[tokio::test]
async fn a_device_that_dies_leaves_one_push_for_a_room_however_much_was_under_way() {
    let nats = NatsServer::start().await;
    let heartbeat = Duration::from_secs(4);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let silent = Options { pong: false, ..Options::default() };
    let bob = Recording::connect_with(server.url(), &server.token("bob").await, "bob", "laptop", silent).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    step("ann sends more than the room keeps in memory, and bob's device answers no heartbeat");
    let last = send_many(&ann, room.as_str(), 1_500).await;
    bob.until_seq(room.as_str(), last).await;
    assert!(pushes.jobs().is_empty(), "{:?}", pushes.jobs());
    step("bob's session ends");
    pushes.until(room.as_str(), last, "bob").await;
    let jobs: Vec<_> = pushes.jobs().iter().map(|job| (job.first, job.last, job.count)).collect();
    assert_eq!(jobs, [(2, last, 1_500)]);
    ann.finish().await;
}

/// Messages to somebody who is offline are pushed at most once a second, and each of them once, whether Sendpi is
/// started again in between or not.
#[tokio::test]
async fn many_messages_are_few_pushes_and_a_restart_pushes_none_of_them_again() {
    let nats = NatsServer::start().await;
    let args = ["--bounce-after", "1s"].map(String::from).to_vec();
    let mut server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), args, ..SendpiSetup::default() }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    step("ann sends to bob, who is offline");
    let last = send_many(&ann, room.as_str(), 500).await;
    pushes.until(room.as_str(), last, "bob").await;
    for (n, killed) in [(1, false), (2, true)] {
        step(format!("Sendpi is started again, killed: {killed}"));
        if killed {
            // What was pushed is written down a moment later.
            server.until_logged("wrote down what was pushed", 1).await;
            server.kill9().await;
        } else {
            server.terminate().await;
        }
        server.start_again().await;
        ann.come_back(server.url()).await;
        if killed {
            server.until_logged("who did not come back are bounced", 1).await;
        }
        let next = ann.client().send(room.as_str(), "after the restart").await.unwrap().seq;
        pushes.until(room.as_str(), next, "bob").await;
        let jobs = pushes.jobs();
        assert_eq!(jobs.iter().map(|job| job.count).sum::<u64>(), 500 + n, "{jobs:?}");
    }
    assert!(pushes.jobs().len() < 10, "{:?}", pushes.jobs());
    ann.finish().await;
}

/// The push stream refuses what it has no room for. Nothing of it is lost, and rooms go on.
#[tokio::test]
async fn a_push_stream_that_is_full_loses_nothing() {
    let nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    limit_push_stream(&nats, 1).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let mut rooms = Vec::new();
    step("ann sends in three rooms to bob, who is offline, and the stream has room for one job");
    for name in ["first", "second", "third"] {
        let room = ann.client().create(name, &["bob"]).await.unwrap().room.to_string();
        rooms.push((send_many(&ann, &room, 100).await, room));
    }
    step("a push worker comes");
    let mut pushes = PushRecorder::start(&nats).await;
    for (last, room) in &rooms {
        pushes.until(room, *last, "bob").await;
        let jobs = pushes.jobs();
        let count: u64 = jobs.iter().filter(|job| job.room.as_str() == room).map(|job| job.count).sum();
        assert_eq!(count, 100, "{jobs:?}");
    }
    ann.finish().await;
}

/// A job of unknown outcome is published again.
#[tokio::test]
async fn a_push_job_that_is_published_twice_is_kept_once() {
    let nats = NatsServer::start().await;
    let _server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let (room, users) = (RoomId::parse("r").unwrap(), vec![UserId::parse("bob").unwrap()]);
    let job = PushJob { v: 2, room, first: 1, last: 3, count: 3, users, newest: "{}".into() };
    for job in [&job, &job, &PushJob { last: 4, ..job.clone() }] {
        put_push_job(&nats, job).await;
    }
    let mut pushes = PushRecorder::start(&nats).await;
    pushes.until("r", 4, "bob").await;
    assert_eq!(pushes.jobs().iter().map(|job| job.last).collect::<Vec<_>>(), [3, 4]);
}

/// Waits until the room's owner counts a member as offline.
async fn until_offline(asking: &Recording, room: &str, user: &str) {
    let gone = async {
        loop {
            let page = asking.client().members(room, None, 100).await.unwrap();
            let member = page.members.iter().find(|member| member.user.as_str() == user).unwrap();
            if !member.online {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(Duration::from_secs(20), &format!("{user} is offline"), gone).await;
}

/// Kills the mutants `PushOff` and `PushEverybody`.
#[tokio::test]
async fn who_is_offline_is_pushed_and_who_is_online_is_not() {
    let nats = NatsServer::start().await;
    // A short heartbeat confirms what was delivered, so that nothing of it is bounced when its receiver leaves.
    let heartbeat = Duration::from_secs(1);
    let server = Sendpi::start_with(SendpiSetup { heartbeat, nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let cleo = Recording::connect(&server, "cleo", "tablet").await;
    let room = ann.client().create("lobby", &["bob", "cleo", "eve"]).await.unwrap().room;
    let room = room.as_str();
    step("ann sends while bob and cleo are online and eve is offline");
    let first = ann.client().send(room, "one").await.unwrap();
    pushes.until(room, first.seq, "eve").await;
    bob.until_seq(room, first.seq).await;
    cleo.until_seq(room, first.seq).await;
    step("bob leaves and ann sends once more");
    bob.finish().await;
    until_offline(&ann, room, "bob").await;
    // This is no bounce: no node has the event for bob.
    let last = ann.client().send(room, "two").await.unwrap();
    pushes.until(room, last.seq, "bob").await;
    pushes.until(room, last.seq, "eve").await;
    cleo.until_seq(room, last.seq).await;
    let online: Vec<_> = pushes.seen().into_iter().filter(|(.., user)| user == "ann" || user == "cleo").collect();
    assert!(online.is_empty(), "{online:?}");
    for user in [ann, cleo] {
        user.finish().await;
    }
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
    step("the nodes fall silent and are given up");
    server.play(BusFault::MuteNodes);
    server.until_logged("a node is silent", 1).await;
    step("ann sends while both nodes are silent");
    for i in 0..5 {
        // Ann's own node is silent too. The outcome of a request may be unknown if its answer was on a link that is
        // given up.
        let options = sendpi_client::SendOptions::nonce(format!("m{i}"));
        let sent = ann.client().send_with(room, serde_json::json!({"text": format!("{i}")}), options).await;
        assert!(sent.is_ok() || sent.as_ref().is_err_and(sendpi_client::ClientError::is_unknown), "{sent:?}");
    }
    step("the nodes answer again and ann sends");
    server.all_well();
    let sent = ann.client().send(room, "after").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    assert_eq!(bob.room(room).texts().last(), Some(&"after"));
    // The node did not have to cut its link itself, which would also help, but later.
    assert_eq!(server.logged("the link of a worker is cut"), 0);
    ann.finish().await;
    bob.finish().await;
}
