use std::time::Duration;

use bytes::Bytes;
use sendpi_model::{Event, EventKind, Head, Millis, Nonce};
use tokio::time::Instant;

use super::sample::{Subject, event, event_row, places, put, room, start, user};
use crate::{EventRow, Row, Start, TIMELINE_BUCKET};

/// Checks that every field of an event is read as it was written: for every kind, one of a
/// later release among them, with a frame of more than 16 KiB, and
/// with and without a nonce.
pub async fn an_event_comes_back_as_it_was_written(store: Subject) {
    use EventKind::{Changed, Deleted, Edited, Joined, Later, Left, Message, Reaction, System};
    let kinds = [Message, System, Joined, Left, Changed, Edited, Deleted, Reaction, Later(99)];
    let rows: Vec<_> = (1u64..)
        .zip(kinds)
        .map(|(seq, kind)| EventRow {
            epoch: 1 << 40,
            event: Event {
                head: Head { seq, count: 1 << 50, at: Millis((1 << 53) - 1) },
                kind,
                from: user(&"é".repeat(64)),
                nonce: (seq % 2 == 0).then(|| Nonce::parse(&"n".repeat(64)).expect("a valid nonce")),
                frame: Bytes::from("\0\u{10ffff}x".repeat(if kind == Message { 3000 } else { 1 })),
            },
            expires: None,
        })
        .collect();
    let id = room("=d:ann:bob=2E");
    put(&store, rows.iter().map(|row| Row::Event(id.clone(), row.clone())).collect()).await;
    assert_eq!(store.timeline(&id, 0..=100, 100, false).await.expect("a page"), rows);
    assert_eq!(store.timeline(&id, 0..=100, 100, true).await.expect("a page"), rows);
}

/// Checks that a range of seqs includes both its ends, and that an empty range returns no rows.
pub async fn a_range_of_seqs_includes_both_ends(store: Subject) {
    put(&store, (1..=9).map(|seq| event("r", seq, 1)).collect()).await;
    let id = room("r");
    for newest in [false, true] {
        let page = async |seqs| places(&store.timeline(&id, seqs, 100, newest).await.expect("a page"));
        assert_eq!(page(3..=5).await, [(3, 1), (4, 1), (5, 1)]);
        assert_eq!(page(9..=9_999).await, [(9, 1)]);
        assert_eq!(page(0..=1).await, [(1, 1)]);
        assert_eq!(page(10..=20).await, []);
        #[expect(clippy::reversed_empty_ranges, reason = "a caller's arithmetic can come to this")]
        let empty = page(5..=4).await;
        assert_eq!(empty, []);
    }
}

/// Checks that a limit keeps the lowest rows, or the highest ones if the newest are requested, and
/// that both come oldest first.
pub async fn a_page_is_the_lowest_rows_or_the_newest_ones_oldest_first(store: Subject) {
    put(&store, (1..=100).map(|seq| event("r", seq, 1)).collect()).await;
    let id = room("r");
    let page = async |limit, newest| places(&store.timeline(&id, 11..=90, limit, newest).await.expect("a page"));
    assert_eq!(page(3, false).await, [(11, 1), (12, 1), (13, 1)]);
    assert_eq!(page(3, true).await, [(88, 1), (89, 1), (90, 1)]);
    assert_eq!(page(0, false).await, []);
    assert_eq!(page(0, true).await, []);
    assert_eq!(page(1000, true).await.len(), 80);
}

/// Checks that all rows of several epochs at one seq are read, ordered by epoch, and that a limit may cut between them.
pub async fn rows_that_do_not_count_are_read_too(store: Subject) {
    put(&store, vec![event("r", 2, 9), event("r", 2, 1), event("r", 1, 1)]).await;
    put(&store, vec![event("r", 2, 300), event("r", 3, 300), event("r", 3, 9)]).await;
    let id = room("r");
    let all = [(1, 1), (2, 1), (2, 9), (2, 300), (3, 9), (3, 300)];
    let page = async |limit, newest| places(&store.timeline(&id, 0..=9, limit, newest).await.expect("a page"));
    assert_eq!(page(100, false).await, all);
    assert_eq!(page(100, true).await, all);
    assert_eq!(page(3, false).await, all[..3]);
    assert_eq!(page(3, true).await, all[3..]);
}

/// Checks that a timeline is one sequence for its readers, however a store cuts it into pieces.
pub async fn a_timeline_crosses_every_border_in_order(store: Subject) {
    let borders = [8192, 16384, 65536, 1 << 32];
    let seqs: Vec<_> = borders.iter().flat_map(|border| border - 2..=border + 2).collect();
    for pair in seqs.chunks(5) {
        put(&store, pair.iter().map(|seq| event("r", *seq, 2)).collect()).await;
    }
    let id = room("r");
    for border in borders {
        for newest in [false, true] {
            let rows = store.timeline(&id, border - 2..=border + 2, 10, newest).await.expect("a page");
            let expected: Vec<_> = (border - 2..=border + 2).map(|seq| (seq, 2)).collect();
            assert_eq!(places(&rows), expected);
        }
    }
    let rows = store.timeline(&id, 8192..=16386, 4, true).await.expect("a page");
    assert_eq!(places(&rows), [(16383, 2), (16384, 2), (16385, 2), (16386, 2)]);
}

/// Checks that nonces are read with their places and senders, in the order of a timeline, and without the events that
/// have none.
pub async fn nonces_come_in_the_order_of_the_timeline(store: Subject) {
    let row = |seq, epoch, nonce: Option<&str>| EventRow {
        epoch,
        event: Event {
            head: Head { seq, count: seq, at: Millis(seq) },
            kind: EventKind::Message,
            from: user("ann"),
            nonce: nonce.map(|nonce| Nonce::parse(nonce).expect("a valid nonce")),
            frame: Bytes::from_static(b"{}"),
        },
        expires: None,
    };
    let rows =
        [row(1, 1, Some("a")), row(2, 1, None), row(3, 2, Some("b")), row(3, 1, Some("c")), row(4, 2, Some("d"))];
    put(&store, rows.iter().map(|row| Row::Event(room("r"), row.clone())).collect()).await;
    let nonces = async |seqs| store.nonces(&room("r"), seqs).await.expect("the nonces");
    let found = nonces(1..=3).await;
    let places: Vec<_> = found.iter().map(|row| (row.head.seq, row.epoch, row.nonce.as_str())).collect();
    assert_eq!(places, [(1, 1, "a"), (3, 1, "c"), (3, 2, "b")]);
    assert_eq!((&found[0].from, found[0].head), (&user("ann"), rows[0].event.head));
    assert_eq!(nonces(5..=9).await, []);
    #[expect(clippy::reversed_empty_ranges, reason = "a caller's arithmetic can come to this")]
    let empty = nonces(4..=3).await;
    assert_eq!(empty, []);
}

/// Checks that all starts of a room are returned in pages of any size, the highest epoch first.
pub async fn starts_come_by_epoch(store: Subject) {
    for epoch in [300, 1, 2, 70_000] {
        put(&store, vec![Row::Start(room("r"), start(epoch, epoch * 10))]).await;
    }
    put(&store, vec![Row::Start(room("other"), start(5, 1))]).await;
    let all = [start(70_000, 700_000), start(300, 3000), start(2, 20), start(1, 10)];
    for limit in [1, 2, 3, 4, 9] {
        let mut starts: Vec<Start> = Vec::new();
        loop {
            let below = starts.last().map(|start| start.epoch);
            let page = store.starts(&room("r"), below, limit).await.expect("a page");
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            starts.extend(page);
        }
        assert_eq!(starts, all, "in pages of {limit}");
    }
    // The first start continues none, and is read back that way.
    assert_eq!(all[3].continues, None);
    let chain = store.chain(&room("r")).await.expect("the chain");
    assert_eq!(chain.newest(), Some(all[0]));
}

/// Checks that an event is gone at its time, revised or not, with its nonce, and that those without a time stay. What
/// follows is read from either end, however many pieces of the timeline are gone.
pub async fn events_go_at_their_time(store: Subject) {
    let id = room("r");
    let soon = Millis::now().after(Duration::from_millis(1_500));
    let later = Millis::now().after(Duration::from_hours(1));
    let row = |seq, expires| EventRow { expires, ..event_row(seq, 1) };
    let border = 6 * TIMELINE_BUCKET;
    let (kept, last) = ([border + 5, border + 6], border + 6);
    let ends = |piece| [piece * TIMELINE_BUCKET + 1, (piece + 1) * TIMELINE_BUCKET - 1];
    let going: Vec<u64> = (0..6).flat_map(ends).collect();
    let mut rows: Vec<Row> = going.iter().map(|seq| Row::Event(id.clone(), row(*seq, Some(soon)))).collect();
    rows.push(Row::Event(id.clone(), row(kept[0], Some(later))));
    rows.push(Row::Event(id.clone(), row(kept[1], None)));
    put(&store, rows).await;
    put(&store, vec![Row::Revised(id.clone(), row(going[0], Some(soon)), last)]).await;
    let page = async |newest| {
        let rows = store.timeline(&id, 1..=last, 100, newest).await.expect("a page");
        rows.iter().map(|row| row.event.head.seq).collect::<Vec<_>>()
    };
    // A slow machine may be late for the first look.
    let early = page(false).await;
    assert!(Millis::now() >= soon || early == [&going[..], &kept].concat(), "{early:?}");
    let deadline = Instant::now() + Duration::from_secs(20);
    while page(false).await != kept {
        assert!(Instant::now() < deadline, "events stay after their time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(Millis::now() >= soon, "events went before their time");
    assert_eq!(page(true).await, kept);
    let nonces = store.nonces(&id, 1..=last).await.expect("the nonces");
    assert_eq!(nonces.iter().map(|row| row.head.seq).collect::<Vec<_>>(), kept);
}
