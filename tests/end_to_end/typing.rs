//! Typing is delivered and not stored.

use sendpi_client::ServerFrame;
use sendpi_tests::{Recording, Sendpi, step};

/// Kills the mutant `TypingCounted`.
#[tokio::test]
async fn typing_is_delivered_and_not_stored() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let before = ann.client().send(room, "hello").await.unwrap();
    bob.until_text(room, "hello").await;

    step("ann types and bob sees it");
    ann.client().typing(room).await.unwrap();
    let typing = bob
        .until_frame("typing", |frame| match frame {
            ServerFrame::Event(event) if event.kind == "typing" => Some(event.clone()),
            _ => None,
        })
        .await;
    assert_eq!((typing.room.as_str(), typing.from.as_str(), typing.seq), (room, "ann", None));

    step("ann sends what she typed");
    let after = ann.client().send(room, "done").await.unwrap();
    assert_eq!(after.seq, before.seq + 1);
    let history = bob.whole_history(room).await.unwrap();
    assert!(history.iter().all(|event| event.kind != "typing"));
    ann.finish().await;
    bob.finish().await;
}
