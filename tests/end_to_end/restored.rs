//! A NATS that is restored from an old copy, while the database goes on from where it was.

use std::collections::BTreeMap;

use sendpi_bus::lease::Leases;
use sendpi_model::Partition;
use sendpi_tests::{Keyspace, NatsServer, Recording, ServedNode, step, until};

use crate::faults::send_surely;

const RELAXED: &str = "durability = \"relaxed\"";

/// Returns the epochs of all partitions, once each is owned under a higher one than `above` says.
async fn epochs(nats: &NatsServer, above: &BTreeMap<Partition, u64>) -> BTreeMap<Partition, u64> {
    let bus = nats.connect("operator").await;
    let mut epochs = BTreeMap::new();
    until("all partitions to be owned under higher epochs", async || {
        let leases = Leases::new(&bus).all().await.unwrap_or_default();
        epochs = leases.iter().map(|(partition, lease)| (*partition, lease.epoch)).collect();
        let is_above = |(partition, epoch): (&Partition, &u64)| above.get(partition).is_none_or(|above| epoch > above);
        epochs.len() == 64 && leases.values().all(|lease| !lease.released) && epochs.iter().all(is_above)
    })
    .await;
    bus.close().await;
    epochs
}

#[tokio::test]
async fn epochs_rise_and_nothing_is_lost_when_nats_is_restored_from_an_old_copy() {
    let (mut nats, keyspace) = (NatsServer::start().await, Keyspace::make().await);
    let gateway = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "gateway"]).await;
    let mut first = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    let token = ServedNode::token("ann");
    let mut ann = Recording::connect_with(gateway.url(), &token, "ann", "phone", Default::default()).await;
    let room = ann.client().create("lobby", &["bob"]).await.unwrap().room.to_string();
    let mut last = send_surely(&mut ann, gateway.url(), &room, "before the copy", 1).await.seq;
    let copied = epochs(&nats, &BTreeMap::new()).await;
    let copy = nats.back_up().await;

    step("the copy grows old: two workers end, one after the other, and people talk");
    for text in ["after the copy", "after another take-over"] {
        first.kill9().await;
        first = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
        last = send_surely(&mut ann, gateway.url(), &room, text, last).await.seq;
    }
    let newest = epochs(&nats, &copied).await;

    step("NATS is restored, and the worker goes on under epochs above all that were");
    nats.restore(copy).await;
    last = send_surely(&mut ann, gateway.url(), &room, "after the restore", last).await.seq;
    epochs(&nats, &newest).await;

    step("so does the next one, and the timeline has everything");
    first.kill9().await;
    let _next = ServedNode::start(&nats, &keyspace, RELAXED, &["--role", "channel"]).await;
    last = send_surely(&mut ann, gateway.url(), &room, "at the end", last).await.seq;
    let history = ann.whole_history(&room).await.unwrap();
    let texts: Vec<&str> = history.iter().filter_map(|event| event.text()).collect();
    let wanted = ["before the copy", "after the copy", "after another take-over", "after the restore", "at the end"];
    assert_eq!((texts, history.last().unwrap().seq), (wanted.to_vec(), Some(last)));
    ann.finish().await;
}
