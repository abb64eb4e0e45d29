//! Messages that are edited or deleted long after they were sent, or just before the owner ended.

use sendpi_channel::ChannelConfig;
use sendpi_model::{Content, Event, EventKind, Millis};
use sendpi_store::{EventRow, Row, Store};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::support::ChannelTier;
use crate::{room, rows, user};

/// Returns a page of one event as members see it.
async fn event_at(tier: &ChannelTier, seq: u64) -> Value {
    let page = tier.ask("bob", "r", &format!(r#"{{"op":"history","before":{},"limit":1}}"#, seq + 1)).await;
    page["events"][0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_long_before_the_tail_is_edited_and_deleted_by_those_who_may() {
    let tier = ChannelTier::start(ChannelConfig::default(), rows("r", 3_000, 3_000)).await;
    for (who, op, wanted) in [
        ("bob", r#"{"op":"edit","ref":7,"nonce":"1","body":{}}"#, "forbidden"),
        ("zoe", r#"{"op":"edit","ref":7,"nonce":"1","body":{}}"#, "no_such_room"),
        ("bob", r#"{"op":"delete","ref":7,"nonce":"2"}"#, "forbidden"),
        ("ann", r#"{"op":"edit","ref":3001,"nonce":"3","body":{}}"#, "no_such_event"),
    ] {
        assert_eq!(tier.ask(who, "r", op).await["code"], wanted, "{who}: {op}");
    }
    let edited = tier.ask("ann", "r", r#"{"op":"edit","ref":7,"nonce":"4","body":{"text":"x"}}"#).await;
    let event = event_at(&tier, 7).await;
    assert_eq!((&event["seq"], &event["body"]["text"], &event["edited"]), (&7.into(), &"x".into(), &edited["seq"]));
    assert_eq!(tier.ask("bob", "r", r#"{"op":"react","ref":8,"nonce":"5","emoji":"👍"}"#).await["op"], "ok");
    // Many at once, of which the first deletion counts.
    let mut asked = Vec::new();
    for n in 0..20 {
        let op = if n % 2 == 0 { r#""edit","body":{"text":"late"}"# } else { r#""delete""# };
        asked.push(tier.send("ann", "r", &format!(r#"{{"op":{op},"ref":7,"nonce":"m{n}"}}"#)).await);
    }
    for place in asked {
        let answer = tier.answer(place).await;
        assert!(answer["op"] == "ok" || answer["code"] == "no_such_event", "{answer}");
    }
    let event = event_at(&tier, 7).await;
    assert!(event["deleted"].is_u64() && event["body"] == serde_json::json!({}), "{event}");
    let page = tier.ask("bob", "r", r#"{"op":"history","limit":9}"#).await;
    assert!(!page.to_string().contains("late") && !page.to_string().contains(r#""x""#), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_whose_rows_a_crash_took_is_made_up_for_when_the_room_is_opened() {
    let mut stored = rows("r", 3_000, 3_000);
    let last =
        stored.iter().rev().find_map(|row| if let Row::Event(_, row) = row { Some(row.event.head) } else { None });
    let body = RawValue::from_string(r#"{"text":"secret"}"#.into()).unwrap();
    let ann = user("ann");
    let mut last = last.unwrap();
    for content in [
        Content::message(&body, None),
        Content::edit(7, &body),
        Content::edit(3_001, &body),
        Content::Deleted { target: 7 },
        Content::Deleted { target: 3_001 },
    ] {
        let event = Event::next(&room("r"), last, Millis::now(), &ann, None, &content);
        last = event.head;
        stored.push(Row::Event(room("r"), EventRow { epoch: 1, event, expires: None }));
    }
    let tier = ChannelTier::start(ChannelConfig::default(), stored).await;
    let page = tier.ask("bob", "r", r#"{"op":"history","limit":9}"#).await;
    assert!(!page.to_string().contains("secret"), "{page}");
    for (seq, by) in [(7, 3_004), (3_001, 3_005), (3_002, 3_004), (3_003, 3_005)] {
        let event = event_at(&tier, seq).await;
        let stored = tier.store.timeline(&room("r"), seq..=seq, 9, false).await.unwrap();
        let stored: Value = serde_json::from_slice(&stored[0].event.frame).unwrap();
        if seq <= 3_001 {
            assert_eq!(event, stored);
        }
        assert_eq!((&stored["deleted"], &stored["body"]), (&by.into(), &serde_json::json!({})), "{seq}");
    }
    let last = tier.store.timeline(&room("r"), 3_004..=3_005, 9, false).await.unwrap();
    assert!(last.iter().all(|row| row.event.kind == EventKind::Deleted));
}
