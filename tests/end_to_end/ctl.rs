//! What operators see and change of the workers.

use std::process::Output;

use futures_util::StreamExt;
use sendpi_bus::subject;
use sendpi_model::{NodeId, Partitions, RoomId, rendezvous};
use sendpi_tests::{ChatTerminal, Keyspace, NatsServer, Recording, Sendpi, ServedNode, sendpi_binary, step, until};
use serde_json::Value;

const RELAXED: &str = "durability = \"relaxed\"";

async fn ctl(nats: &NatsServer, args: &[&str]) -> Output {
    Sendpi::run(&[&["ctl", "--nats", &nats.url()], args].concat()).await
}

async fn json(nats: &NatsServer, args: &[&str]) -> Value {
    let output = ctl(nats, &[args, &["--json"]].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn text(nats: &NatsServer, args: &[&str]) -> String {
    let output = ctl(nats, args).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Returns how many partitions each worker owns, by its id.
async fn owned(nats: &NatsServer) -> Vec<(String, usize)> {
    let workers = json(nats, &["workers"]).await;
    let count = |worker: &Value| {
        let owned = worker["status"]["partitions"].as_array().map_or(0, Vec::len);
        (worker["node"].as_str().unwrap().to_owned(), owned)
    };
    workers.as_array().unwrap().iter().map(count).collect()
}

#[tokio::test]
async fn an_operator_sees_who_owns_what_and_drains_and_moves_it() {
    let (nats, keyspace) = (NatsServer::start().await, Keyspace::make().await);
    let gateway = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "gateway"]).await;
    let _first = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    let _second = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    let token = ServedNode::token("ann");
    let ann = Recording::connect_with(gateway.url(), &token, "ann", "phone", Default::default()).await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    ann.client().send(room, "hi").await.unwrap();
    let number = Partitions::DEFAULT.of(&RoomId::parse(room).unwrap()).0;
    let partition = number.to_string();

    step("both workers share the partitions, and the room is among those of its partition");
    until("each to have what it should", async || {
        let workers: Vec<NodeId> = owned(&nats).await.iter().map(|(node, _)| NodeId::parse(node).unwrap()).collect();
        let partitions = json(&nats, &["partitions"]).await;
        let is_rightful = |partition: &Value| {
            let key = partition["partition"].to_string();
            let rightful = rendezvous::highest(&key, workers.iter().map(|worker| (worker, 1)));
            rightful.is_some_and(|worker| partition["owner"] == worker.as_str())
        };
        workers.len() == 2 && partitions.as_array().unwrap().iter().all(is_rightful)
    })
    .await;
    let table = text(&nats, &["workers"]).await;
    assert!(table.starts_with("WORKER") && table.lines().count() == 3 && table.contains(" up "), "{table}");
    // A few move at one time, and while they do, they are not served.
    until("all partitions to be served", async || {
        let table = text(&nats, &["partitions"]).await;
        table.lines().count() == 65 && table.matches(" serving ").count() == 64
    })
    .await;
    let rooms = json(&nats, &["rooms", &partition]).await;
    let lobby = &rooms["rooms"][0];
    assert_eq!((&lobby["room"], &lobby["members"], &lobby["online"]), (&room.into(), &2.into(), &1.into()));
    assert!(text(&nats, &["rooms", &partition]).await.contains(room));

    step("the partition moves to the other worker, and back");
    let owner = async || {
        let partitions = json(&nats, &["partitions"]).await;
        let of_it = partitions.as_array().unwrap().iter().find(|p| p["partition"] == number);
        of_it.unwrap()["owner"].as_str().map(str::to_owned)
    };
    let before = owner().await.unwrap();
    let other = owned(&nats).await.into_iter().map(|(node, _)| node).find(|node| *node != before).unwrap();
    text(&nats, &["move", &partition, &other[..12]]).await;
    until("the other one to own it", async || owner().await.as_ref() == Some(&other)).await;
    ann.client().send(room, "there").await.unwrap();
    text(&nats, &["move", &partition, "--back"]).await;
    until("the first one to own it again", async || owner().await.as_ref() == Some(&before)).await;
    ann.client().send(room, "back").await.unwrap();

    step("somebody watches");
    let program = sendpi_binary();
    let line = format!("stty cols 120 rows 30; '{}' ctl --nats {} watch", program.display(), nats.url());
    let mut terminal = ChatTerminal::run(&line);
    terminal.enter("q").await;
    assert!(terminal.ended().await);
    // What it printed last may still be on its way.
    until("the screen to have been shown", async || terminal.count("looking at the fleet") > 0).await;

    step("one worker is drained, and takes part again");
    let shares = owned(&nats).await;
    text(&nats, &["drain", &before]).await;
    until("it to own nothing", async || owned(&nats).await.contains(&(before.clone(), 0))).await;
    assert!(text(&nats, &["workers"]).await.contains(" drained "));
    ann.client().send(room, "drained").await.unwrap();
    text(&nats, &["drain", &before, "--undo"]).await;
    until("both to have their shares again", async || owned(&nats).await == shares).await;
    ann.client().send(room, "again").await.unwrap();
    ann.finish().await;

    step("what cannot be done is said");
    for (args, why) in [
        (vec!["drain", "n"], "2 workers have an id that begins with n"),
        (vec!["drain", "x"], "0 workers"),
        (vec!["rooms", "64"], "nobody owns partition 64"),
        (vec!["rooms", "many"], "invalid"),
        (vec!["move", "3"], "required"),
    ] {
        let output = ctl(&nats, &args).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{args:?}: {said}");
    }

    step("nobody has an answer sent to a subject that is not an inbox");
    let bus = nats.connect("stranger").await;
    let mut elsewhere = bus.subscribe("sendpi.room.1.stolen".to_owned()).await.unwrap();
    let worker = subject::control_worker(&NodeId::parse(&before).unwrap());
    let status: bytes::Bytes = r#"{"v":1,"op":"status"}"#.into();
    bus.publish_with_reply(worker.clone(), "sendpi.room.1.stolen".to_owned(), status.clone()).await.unwrap();
    // The worker answers in the order in which it is asked.
    assert!(bus.request(worker, status).await.unwrap().payload().starts_with(b"{\"node\""));
    assert!(futures_util::FutureExt::now_or_never(elsewhere.next()).is_none());
}
