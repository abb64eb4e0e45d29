//! Coming back: what was missed is replayed, and nothing comes twice.

use std::collections::BTreeMap;
use std::time::Duration;

use sendpi_client::{Options, ServerFrame, connect};
use sendpi_tests::{Recording, Sendpi, step, within};

/// Checks that the server itself replayed what a client missed in a room. Otherwise the recorder reads it as history.
pub(crate) async fn assert_replayed(client: &Recording, room: &str) {
    let rooms = client.until_resumed().await;
    let (_, resumed) = rooms.iter().find(|(id, _)| id.as_str() == room).unwrap();
    assert!(!resumed.truncated && !resumed.gone, "{resumed:?}");
}

/// Kills the mutants `ReplayOff` and `ReplayTruncated`.
#[tokio::test]
async fn who_was_offline_gets_what_was_missed_on_resume() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    ann.client().send(room, "before").await.unwrap();
    bob.until_text(room, "before").await;

    step("bob leaves and ann sends");
    bob.client().close().await;
    for i in 0..30 {
        ann.client().send(room, &format!("missed {i}")).await.unwrap();
    }
    step("bob comes back and resumes");
    bob.reconnect(server.url()).await.unwrap();
    assert_replayed(&bob, room).await;
    let last = ann.client().send(room, "after").await.unwrap();

    bob.until_seq(room, last.seq).await;
    let mut texts = vec!["before".to_owned()];
    texts.extend((0..30).map(|i| format!("missed {i}")));
    texts.push("after".to_owned());
    assert_eq!(bob.room(room).texts(), texts);
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `HoldOff`.
#[tokio::test]
async fn messages_sent_while_a_client_resumes_come_once_and_in_order() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let mut bob = Recording::connect(&server, "bob", "laptop").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();

    step("ann sends while bob comes and goes");
    let talking = async {
        for i in 0..200 {
            ann.client().send(room, &format!("{i}")).await.unwrap();
        }
    };
    let coming_and_going = async {
        for _ in 0..5 {
            bob.until_event(room, "a message", |event| event.text().is_some()).await;
            bob.reconnect(server.url()).await.unwrap();
        }
    };
    tokio::join!(talking, coming_and_going);

    step("bob gets the last message");
    bob.until_text(room, "199").await;
    assert_eq!(bob.room(room).texts(), (0..200).map(|i| i.to_string()).collect::<Vec<_>>());
    ann.finish().await;
    bob.finish().await;
}

/// Kills the mutant `MarkersOff`.
#[tokio::test]
async fn a_list_of_rooms_tells_what_is_unread() {
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    let info = ann.client().create("lobby", &["bob"]).await.unwrap();
    let room = info.room.as_str();
    let sent = ann.client().send(room, "one").await.unwrap();
    ann.client().send(room, "two").await.unwrap();

    step("bob signs in and sees what is unread");
    let bob = Recording::connect(&server, "bob", "laptop").await;
    let listed = &bob.welcome().rooms;
    assert_eq!((listed.len(), listed[0].room.as_str(), listed[0].unread), (1, room, 2));
    let text = listed[0].last.as_ref().and_then(|last| last.text.as_deref());
    assert_eq!(text, Some("two"));

    step("bob reads the first message");
    bob.client().read(room, sent.seq).await.unwrap();
    let page = bob.client().rooms(None, 10).await.unwrap();
    assert_eq!((page.rooms[0].unread, page.rooms[0].marker.seq), (1, sent.seq));
    ann.finish().await;
    bob.finish().await;
}

#[tokio::test]
async fn twenty_five_rooms_are_resumed_while_others_talk_and_then_fifteen_more() {
    const FIRST: usize = 25;
    let server = Sendpi::start().await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    step("ann makes forty rooms with bob, who is away, and sends in each");
    let mut seen = BTreeMap::new();
    for i in 0..40 {
        let info = ann.client().create(&format!("room {i}"), &["bob"]).await.unwrap();
        for n in 0..5 {
            ann.client().send(info.room.as_str(), &format!("missed {n}")).await.unwrap();
        }
        seen.insert(info.room.to_string(), info.seq);
    }
    let first: BTreeMap<String, u64> = seen.clone().into_iter().take(FIRST).collect();
    let more: BTreeMap<String, u64> = seen.clone().into_iter().skip(FIRST).collect();

    step("bob resumes twenty-five rooms while ann talks there, and then the others");
    let options = Options { resume: first.clone(), ..Options::default() };
    let (bob, mut frames, _) = connect(server.url(), &server.token("bob").await, "laptop", options).await.unwrap();
    let talking = async {
        for n in 0..20 {
            for room in first.keys() {
                ann.client().send(room, &format!("live {n}")).await.unwrap();
            }
        }
    };
    let (resumed, ()) = tokio::join!(bob.resume(&more), talking);
    assert_eq!(resumed.unwrap().rooms.len(), more.len());
    let mut last = BTreeMap::new();
    for room in seen.keys() {
        last.insert(room.clone(), ann.client().send(room, "last").await.unwrap().seq);
    }

    step("bob gets every event once and in order");
    let mut got: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let all = async {
        while !last.iter().all(|(room, seq)| got.get(room).and_then(|seqs| seqs.last()) == Some(seq)) {
            let frame = frames.next().await.expect("bob is connected").unwrap();
            if let ServerFrame::Event(event) = frame {
                got.entry(event.room.to_string()).or_default().extend(event.seq);
            }
        }
    };
    within(Duration::from_secs(20), "the last event of each room", all).await;
    for (room, seen) in seen {
        assert_eq!(got[&room], (seen + 1..=last[&room]).collect::<Vec<_>>(), "{room}");
    }
    ann.finish().await;
}
