//! A crash between any two steps: L1 and L2 still get the event, and no further event is needed for that.

use sendpi_client::SendOptions;
use sendpi_model::faults::FailPoint;
use sendpi_tests::{NatsServer, PushRecorder, Recording, Sendpi, SendpiSetup, step};
use serde_json::json;

/// Sends a message during which the process ends at `point`, starts it again, and checks that two users get the
/// message: bob, who was online, and eve, who was not. Kills the mutant `RedispatchOff`. With [`FailPoint::AfterPush`]
/// nothing is left to dispatch to eve, and it kills `NonceOff` instead.
pub(crate) async fn crash_at(setup: SendpiSetup, point: FailPoint) {
    let nats = NatsServer::start().await;
    let args = ["--bounce-after", "1s"].map(String::from).to_vec();
    let mut server = Sendpi::start_with(SendpiSetup { nats: Some(nats.url()), args, ..setup }).await;
    let mut pushes = PushRecorder::start(&nats).await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    step("ann sends a first message and invites eve, who is offline");
    let known = ann.client().send(room, "before").await.unwrap().seq;
    bob.until_seq(room, known).await;
    // Eve is the first user who needs a push, so no earlier push job reaches the fail point.
    ann.client().invite(room, &["eve"]).await.unwrap();
    let known = known + 1;
    bob.until_seq(room, known).await;

    step(format!("ann sends and the process ends at {point:?}"));
    server.fail_at(point);
    let sent = ann.client().send_with(room, json!({"text": "crash"}), SendOptions::nonce("crash")).await;
    assert!(sent.is_err() || !matches!(point, FailPoint::AfterStore | FailPoint::AfterFence), "{sent:?}");
    server.ended().await;
    server.start_again().await;

    // Nobody sends anything here. The next owner dispatches by itself what was left.
    step("the process has started again and eve is pushed");
    pushes.until(room, known + 1, "eve").await;
    step("bob comes back");
    bob.come_back(server.url()).await;
    bob.until_text(room, "crash").await;
    // The sender learns that the message was stored, and it was stored only once.
    step("ann comes back and retries");
    ann.come_back(server.url()).await;
    let retry = SendOptions { retry: Some(known), ..SendOptions::nonce("crash") };
    let again = ann.client().send_with(room, json!({"text": "crash"}), retry).await.unwrap();
    assert_eq!((again.seq, again.repeat), (known + 1, true));
    let history = ann.whole_history(room).await.unwrap();
    assert_eq!(history.len() as u64, known + 1);
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn after_the_store() {
    crash_at(SendpiSetup::default(), FailPoint::AfterStore).await;
}

#[tokio::test]
async fn after_the_fence() {
    crash_at(SendpiSetup::default(), FailPoint::AfterFence).await;
}

#[tokio::test]
async fn after_dispatch() {
    crash_at(SendpiSetup::default(), FailPoint::AfterDispatch).await;
}

#[tokio::test]
async fn after_the_answer() {
    crash_at(SendpiSetup::default(), FailPoint::AfterAnswer).await;
}

#[tokio::test]
async fn after_the_push_job() {
    crash_at(SendpiSetup::default(), FailPoint::AfterPush).await;
}
