//! A full disk: nothing acknowledged is lost, and once there is space again all goes on by itself.
//!
//! Only the store is on the disk that is full. JetStream, on a full disk of its own, turns itself off until its server
//! is started again, which is not what these tests are about.

use std::time::Duration;

use sendpi_client::ServerFrame;
use sendpi_tests::{Messages, Recording, Sendpi, SendpiSetup, SmallDisk, step};

async fn start() -> Sendpi {
    Sendpi::start_with(SendpiSetup { store_mib: Some(48), ..SendpiSetup::default() }).await
}

async fn until_typing(of: &str, at: &Recording) {
    let typing = |frame: &ServerFrame| match frame {
        ServerFrame::Event(event) if event.kind == "typing" && event.from.as_str() == of => Some(()),
        _ => None,
    };
    at.until_frame(&format!("that {of} is typing"), typing).await;
}

#[tokio::test]
async fn what_was_acknowledged_before_the_disk_was_full_survives_a_kill() {
    let mut server = start().await;
    let mut ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let mut messages = Messages::default();
    messages.send(&ann, room).await.unwrap();

    step("the disk is full and ann sends until it is noticed");
    server.store_disk().fill();
    let error = messages.until_refused(&ann, room).await;
    assert!(error.is_unknown(), "{error}");
    server.kill9().await;
    server.store_disk().free();
    server.start_again().await;

    step("everybody comes back");
    ann.come_back(server.url()).await;
    bob.come_back(server.url()).await;
    messages.until_acknowledged(&ann, room).await;
    messages.check(&bob, room).await;
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn once_a_full_disk_has_space_again_all_goes_on_without_a_restart() {
    let server = start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob", "cleo"]).await.unwrap();
    let room = info.room.as_str();
    let mut messages = Messages::default();
    messages.send(&ann, room).await.unwrap();
    bob.until_seq(room, messages.acknowledged[0].1).await;

    step("the disk is full and ann sends until it is noticed");
    server.store_disk().fill();
    let error = messages.until_refused(&ann, room).await;
    assert!(error.is_unknown(), "{error}");

    step("sends are refused, but typing goes on and the sessions stay");
    let refused = tokio::time::timeout(Duration::from_secs(5), messages.send(&bob, room)).await;
    assert!(matches!(&refused, Ok(Err(error)) if error.is_unknown()), "{refused:?}");
    ann.client().typing(room).await.unwrap();
    until_typing("ann", &bob).await;
    ann.client().ping().await.unwrap();
    bob.client().ping().await.unwrap();

    step("there is space again, and everything goes on");
    server.store_disk().free();
    messages.until_acknowledged(&ann, room).await;
    bob.until_seq(room, messages.acknowledged.last().unwrap().1).await;
    messages.check(&bob, room).await;
    bob.client().typing(room).await.unwrap();
    until_typing("bob", &ann).await;

    step("bob reconnects and cleo signs in for the first time");
    bob.come_back(server.url()).await;
    messages.until_acknowledged(&bob, room).await;
    let cleo = Recording::connect(&server, "cleo", "tablet").await;
    messages.until_acknowledged(&cleo, room).await;
    bob.until_seq(room, messages.acknowledged.last().unwrap().1).await;
    for user in [ann, bob, cleo] {
        messages.check(&user, room).await;
        user.client().ping().await.unwrap();
        user.finish().await;
    }
    // What was under way when the disk was full is unknown, so the worker began again under higher epochs.
    assert_eq!(server.logged("all partitions are claimed anew"), 1);
}

#[tokio::test]
async fn a_disk_without_enough_space_is_named_with_what_is_needed_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 100);
    let data = disk.path().join("sendpi");
    let args = ["dev", "--port", "0", "--data", data.to_str().unwrap()];
    step("NATS would reserve more than there is");
    let output = Sendpi::run(&args).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("has 100 MiB free, and 1723 MiB are needed") && said.contains("--data"), "{said}");

    step("the disk is full");
    disk.fill();
    let output = Sendpi::run(&args).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("has 0 MiB free, and 16 MiB are needed for the store"), "{said}");
}
