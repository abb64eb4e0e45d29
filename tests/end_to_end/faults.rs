//! Processes that die: nothing acknowledged is lost, and nothing that is retried comes twice.

use std::collections::BTreeMap;
use std::time::Duration;

use sendpi_client::{Options, SendOptions, Sent};
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, step};
use serde_json::json;

use crate::resume::assert_replayed;

/// Sends a message until it is acknowledged, over as many connections as that takes. `known` is the seq of the room
/// before the first try.
pub(crate) async fn send_surely(from: &mut Recording, url: &str, room: &str, text: &str, known: u64) -> Sent {
    let mut retry = None;
    loop {
        let options = SendOptions { retry, ..SendOptions::nonce(text) };
        match from.client().send_with(room, json!({"text": text}), options).await {
            Ok(sent) => return sent,
            Err(error) if error.is_unknown() => retry = Some(known),
            Err(error) => panic!("{text}: {error}"),
        }
        if from.client().ping().await.is_err() {
            from.come_back(url).await;
        }
    }
}

/// Kills the mutant `OneNodeOnly`.
#[tokio::test]
async fn users_on_different_nodes_talk_to_each_other() {
    let server = Sendpi::start_with(SendpiSetup { nodes: 3, ..SendpiSetup::default() }).await;
    let mut users = Vec::new();
    for (index, user) in ["ann", "bob", "cleo"].into_iter().enumerate() {
        let token = server.token(user).await;
        users.push(Recording::connect_with(server.node(index), &token, user, "phone", Default::default()).await);
    }
    let room = users[0].client().create("lobby", &["bob", "cleo"]).await.unwrap().room;
    step("ann, bob and cleo send in turn");
    for i in 0..15 {
        users[i % 3].client().send(room.as_str(), &format!("{i}")).await.unwrap();
    }
    step("everybody gets everything in order");
    for user in users {
        user.until_text(room.as_str(), "14").await;
        assert_eq!(user.room(room.as_str()).texts(), (0..15).map(|i| i.to_string()).collect::<Vec<_>>());
        user.finish().await;
    }
}

/// Kills the mutants `ReplayOff` and `ReplayTruncated`.
#[tokio::test]
async fn who_was_on_a_node_that_died_resumes_on_another() {
    let mut server = Sendpi::start_with(SendpiSetup { nodes: 2, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let token = server.token("bob").await;
    let mut bob = Recording::connect_with(server.node(1), &token, "bob", "laptop", Default::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    ann.client().send(room, "before").await.unwrap();
    bob.until_text(room, "before").await;

    step("bob's node is killed");
    server.kill_node(1).await;
    step("ann sends while bob is away");
    for i in 0..10 {
        ann.client().send(room, &format!("meanwhile {i}")).await.unwrap();
    }
    step("bob comes back on the other node");
    bob.come_back(server.node(0)).await;
    assert_replayed(&bob, room).await;
    bob.until_text(room, "meanwhile 9").await;
    step("ann sends to bob on his new node");
    let last = ann.client().send(room, "after").await.unwrap();
    bob.until_seq(room, last.seq).await;
    assert_eq!(bob.room(room).texts().len(), 12);
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `DeadNodeBounceOff`.
#[tokio::test]
async fn what_a_node_that_died_had_not_settled_is_pushed_to_who_does_not_come_back() {
    let nats = NatsServer::start().await;
    let args = ["--bounce-after", "1s"].map(String::from).to_vec();
    let mut server =
        Sendpi::start_with(SendpiSetup { nodes: 2, nats: Some(nats.url()), args, ..SendpiSetup::default() }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    // Bob confirms nothing, so the events that he gets are not settled.
    let options = Options { pong: false, ..Options::default() };
    let bob = Recording::connect_with(server.node(1), &server.token("bob").await, "bob", "laptop", options).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room;
    let room = room.as_str();
    step("ann sends and bob confirms nothing");
    for _ in 0..99 {
        ann.client().send(room, "are you there?").await.unwrap();
    }
    let sent = ann.client().send(room, "are you there?").await.unwrap();
    bob.until_seq(room, sent.seq).await;
    assert!(pushes.seen().is_empty(), "{:?}", pushes.seen());

    step("bob's node is killed and the message is pushed");
    server.kill_node(1).await;
    pushes.until(room, sent.seq, "bob").await;
    let jobs: Vec<_> = pushes.jobs().iter().map(|job| (job.first, job.last, job.count, job.users.len())).collect();
    assert_eq!(jobs, [(2, sent.seq, 100, 1)], "one push for each room and user");
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `AnswerBeforeStore`.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_what_is_retried_comes_once() {
    let mut server = Sendpi::start().await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let mut texts = Vec::new();
    let mut known = info.seq;
    for round in 0..3 {
        step(format!("ann sends, round {round}"));
        for i in 0..20 {
            let text = format!("{round}.{i}");
            known = send_surely(&mut ann, server.url(), room, &text, known).await.seq;
            texts.push(text);
        }
        step(format!("the server is killed and bob comes back, round {round}"));
        if round == 1 {
            server.kill9_all().await;
        } else {
            server.kill9().await;
        }
        server.start_again().await;
        bob.come_back(server.url()).await;
    }
    step("ann comes back and bob reads the history");
    ann.come_back(server.url()).await;

    let history = bob.whole_history(room).await.unwrap();
    let stored: Vec<_> = history.iter().filter_map(|event| event.text()).collect();
    assert_eq!(stored, texts);
    ann.finish().await;
    bob.finish().await;
}

/// What was sent meanwhile is stored without another try of the client. Kills the mutant `FlowResendOff`.
#[tokio::test]
async fn sessions_stay_open_while_nats_restarts() {
    let mut nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    ann.client().send(room, "before").await.unwrap();

    step("nats is killed");
    nats.kill9().await;
    step("ann sends while nats restarts");
    let restart = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        nats.start_again().await;
    };
    let (sent, ()) = tokio::join!(ann.client().send(room, "meanwhile"), restart);
    let sent = sent.unwrap();
    step("bob gets what was sent meanwhile");
    bob.until_seq(room, sent.seq).await;
    assert_eq!(bob.room(room).texts(), ["before", "meanwhile"]);
    ann.finish().await;
    bob.finish().await;
}

/// Kills Sendpi and its NATS while several clients send as fast as they are answered, and checks that nothing that was
/// acknowledged is missing or came twice. Kills the mutant `AnswerBeforeStore`.
#[tokio::test]
async fn a_kill_in_mid_load_loses_nothing_acknowledged() {
    let mut server = Sendpi::start().await;
    let url = server.url().to_owned();
    let senders = senders(&server).await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = senders[0].client().create("lobby", &["bob", SENDERS[1], SENDERS[2]]).await.unwrap();
    let room = info.room.as_str();
    step("the senders send");
    let watching = Watching::new();
    let killing = async {
        watching.until(60).await;
        step("sendpi and nats are killed and start again");
        server.kill9_all().await;
        server.start_again().await;
        step("bob and the senders come back");
        bob.come_back(&url).await;
    };
    let ((), acknowledged) = tokio::join!(killing, talk(senders, &url, room, info.seq, &watching));

    step("bob gets everything that was acknowledged");
    bob.until_seq(room, acknowledged.len() as u64 + info.seq).await;
    check_history(&bob, room, acknowledged).await;
    bob.finish().await;
}

/// The same while only NATS is killed and started again. Sessions stay open. Kills the mutant `FlowResendOff`.
#[tokio::test]
async fn nats_killed_in_mid_load_loses_nothing() {
    let mut nats = NatsServer::start().await;
    let server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), ..SendpiSetup::default() }).await;
    let senders = senders(&server).await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let info = senders[0].client().create("lobby", &["bob", SENDERS[1], SENDERS[2]]).await.unwrap();
    let room = info.room.as_str();
    step("the senders send");
    let watching = Watching::new();
    let killing = async {
        watching.until(60).await;
        step("nats is killed and starts again");
        nats.kill9().await;
        nats.start_again().await;
        step("the senders go on");
    };
    let ((), acknowledged) = tokio::join!(killing, talk(senders, server.url(), room, info.seq, &watching));

    step("bob gets everything that was acknowledged");
    bob.until_seq(room, acknowledged.len() as u64 + info.seq).await;
    check_history(&bob, room, acknowledged).await;
    bob.finish().await;
}

const SENDERS: [&str; 3] = ["ann", "cleo", "dan"];
/// The number of messages of each sender.
const MESSAGES: usize = 60;

async fn senders(server: &Sendpi) -> Vec<Recording> {
    let connecting = SENDERS.iter().map(|user| Recording::connect(server, user, "phone"));
    futures_util::future::join_all(connecting).await
}

/// The number of messages that were acknowledged so far.
struct Watching(tokio::sync::watch::Sender<usize>);

impl Watching {
    fn new() -> Self {
        Self(tokio::sync::watch::Sender::new(0))
    }

    async fn until(&self, count: usize) {
        self.0.subscribe().wait_for(|seen| *seen >= count).await.unwrap();
    }
}

/// Lets all senders send, each as fast as it is answered, and returns the seqs and texts of what was acknowledged.
async fn talk(
    senders: Vec<Recording>,
    url: &str,
    room: &str,
    known: u64,
    watching: &Watching,
) -> BTreeMap<u64, String> {
    let talking = senders.into_iter().map(|mut sender| async move {
        let (mut known, mut acknowledged) = (known, BTreeMap::new());
        for i in 0..MESSAGES {
            let text = format!("{} {i}", sender.user());
            known = send_surely(&mut sender, url, room, &text, known).await.seq;
            acknowledged.insert(known, text);
            watching.0.send_modify(|count| *count += 1);
        }
        sender.finish().await;
        acknowledged
    });
    let all = futures_util::future::join_all(talking).await;
    all.into_iter().flatten().collect()
}

/// Checks that the timeline holds the acknowledged messages, each at its seq, and no other ones.
async fn check_history(reader: &Recording, room: &str, acknowledged: BTreeMap<u64, String>) {
    assert_eq!(acknowledged.len(), SENDERS.len() * MESSAGES);
    let history = reader.whole_history(room).await.unwrap();
    let messages = history.iter().filter_map(|event| Some((event.seq?, event.text()?.to_owned())));
    assert_eq!(messages.collect::<BTreeMap<_, _>>(), acknowledged);
}
