//! Partitions that are lost to another epoch while jobs are under way.

use std::time::Duration;

use sendpi_bus::lease::{ClaimOutcome, Lease, Leases};
use sendpi_bus::{RequestError, subject};
use sendpi_channel::ChannelConfig;
use sendpi_model::Partitions;
use sendpi_store::{Fence, Row, Store};
use sendpi_tests::until;
use tokio::time::timeout;

use crate::support::ChannelTier;
use crate::{neighbours, room, rows};

const HISTORY: &str = r#"{"op":"history","limit":20}"#;

fn send(nonce: &str) -> String {
    format!(r#"{{"op":"send","nonce":"{nonce}","body":{{}}}}"#)
}

/// Raises the fence of a room's partition, as another worker does that claims it, and lets the worker find out.
async fn lose(tier: &ChannelTier, id: &str) {
    let partition = Partitions::DEFAULT.of(&room(id));
    let fence = Fence { epoch: 100, claim: "another".into() };
    tier.store.write(vec![Row::Fence(partition, fence)]).await.unwrap();
    tier.send("ann", id, HISTORY).await;
    until("the flow to be refused", async || tier.refusals(partition) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_result_of_a_job_of_an_earlier_tenure_changes_nothing() {
    let (first, second) = neighbours();
    let tier = ChannelTier::start(ChannelConfig::default(), [rows(&first, 1, 1), rows(&second, 1, 1)].concat()).await;
    let partition = Partitions::DEFAULT.of(&room(&first));
    assert_eq!(tier.ask("ann", &first, &send("before")).await["seq"], 2);

    // A batch is on its way to the store while the partition is lost and claimed anew.
    tier.store.events.hold().await;
    let lost = tier.send("ann", &first, &send("lost")).await;
    until("the batch to be on its way", async || tier.store.events.held() == 1).await;
    lose(&tier, &second).await;
    tier.begin_flow_anew(partition);
    let mut kept = tier.send("ann", &first, &send("kept")).await;
    until("the next batch to be on its way", async || {
        if tier.refusals(partition) > 1 {
            // The partition is not claimed again yet.
            tier.begin_flow_anew(partition);
            kept = tier.send("ann", &first, &send("kept")).await;
        }
        tier.store.events.held() == 2
    })
    .await;

    // The first one finds a higher epoch, and ends no tenure but its own.
    tier.store.events.release();
    assert_eq!(tier.answer(kept).await["seq"], 3);
    assert!(!tier.is_answered(lost));
    assert_eq!(tier.ask("ann", &first, &send("after")).await["seq"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_lost_is_not_listened_to_and_has_no_audience() {
    let (first, second) = neighbours();
    let tier = ChannelTier::start(ChannelConfig::default(), [rows(&first, 1, 1), rows(&second, 1, 1)].concat()).await;
    assert_eq!(tier.ask("ann", &first, &send("before")).await["seq"], 2);
    tier.ask("ann", &first, r#"{"op":"attach","signin":1}"#).await;
    until("ann to be in the audience", async || !tier.added("ann").is_empty()).await;
    assert!(tier.removed("ann").is_empty());
    lose(&tier, &second).await;
    until("the audience to end", async || tier.removed("ann").len() == 1).await;
    nobody_listens(&tier, &first).await;
}

/// Waits until nobody listens for requests of a room. A partition that was lost is claimed again after a second.
async fn nobody_listens(tier: &ChannelTier, id: &str) {
    let to = subject::room(Partitions::DEFAULT.of(&room(id)));
    let nobody = async || {
        let asked = timeout(Duration::from_millis(20), tier.node.request(to.clone(), "{}".into())).await;
        matches!(asked, Ok(Err(RequestError::NoResponders)))
    };
    until("nobody to listen", nobody).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_lease_another_worker_took_is_lost_without_a_request() {
    let tier = ChannelTier::start(ChannelConfig::default(), rows("r", 1, 1)).await;
    let (partition, leases) = (Partitions::DEFAULT.of(&room("r")), Leases::new(&tier.node));
    assert_eq!(tier.ask("ann", "r", &send("before")).await["seq"], 2);
    let (own, revision) = leases.read(partition).await.unwrap();
    let own = own.unwrap();
    // It takes the lease, and ends before it raises the fence.
    let taken = Lease { owner: tier.node.node().clone(), claim: "another".into(), epoch: own.epoch + 1, ..own.clone() };
    let outcome = leases.claim(partition, &taken, revision).await.unwrap();
    assert!(matches!(outcome, ClaimOutcome::Won(_)), "{outcome:?}");
    nobody_listens(&tier, "r").await;
    until("the worker to claim it again", async || {
        let lease = leases.read(partition).await.unwrap().0.unwrap();
        lease.owner == own.owner && lease.epoch > taken.epoch
    })
    .await;
    tier.begin_flow_anew(partition);
    assert_eq!(tier.ask("ann", "r", &send("after")).await["seq"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_lost_fails_no_batch_of_another() {
    let (first, _) = neighbours();
    let partition = Partitions::DEFAULT.of(&room(&first));
    let other = (0..).map(|n| format!("o{n}")).find(|id| Partitions::DEFAULT.of(&room(id)) != partition).unwrap();
    let tier = ChannelTier::start(ChannelConfig::default(), [rows(&first, 1, 1), rows(&other, 1, 1)].concat()).await;
    for id in [&first, &other] {
        assert_eq!(tier.ask("ann", id, &send("before")).await["seq"], 2);
    }
    tier.store.events.hold().await;
    let sent = [tier.send("ann", &first, &send("n")).await, tier.send("ann", &other, &send("n")).await];
    until("the batches to be on their way", async || tier.store.events.held() > 0).await;
    let fence = Fence { epoch: 100, claim: "another".into() };
    tier.store.write(vec![Row::Fence(partition, fence)]).await.unwrap();
    tier.store.events.release();
    assert_eq!(tier.answer(sent[1]).await["seq"], 3);
    until("the other flow to be refused", async || tier.refusals(partition) > 0).await;
    assert!(!tier.is_answered(sent[0]));
}
