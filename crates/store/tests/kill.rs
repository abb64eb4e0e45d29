//! Checks that every write that was reported as done is there after the writing process was killed.
//!
//! The test starts its own program again as the process that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use sendpi_model::{Access, Event, EventKind, Head, Millis, RoomId, RoomKind, UserId};
use sendpi_store::embedded::Embedded;
use sendpi_store::{EventRow, RoomRow, Row, Stamp, Store};

/// The environment variable that names the directory of the store to the process that will be killed.
const CHILD: &str = "SENDPI_STORE_KILL_TEST";
const ROOMS: usize = 16;
const ROUNDS: usize = 6;

fn room(n: usize) -> RoomId {
    RoomId::parse(&format!("r{n}")).expect("a valid id")
}

/// Returns an event and the room row with its head, for one write.
fn rows(room: &RoomId, seq: u64) -> Vec<Row> {
    let (from, head) = (UserId::parse("ann").expect("a valid id"), Head { seq, count: seq, at: Millis(seq) });
    let frame = Bytes::from(format!("{seq} {}", "x".repeat(seq as usize % 3000)));
    let event = Event { head, kind: EventKind::Message, from: from.clone(), nonce: None, frame };
    let row = RoomRow {
        room: room.clone(),
        stamp: Stamp::of(seq),
        name: String::new(),
        kind: RoomKind::Group,
        access: Access::Invite,
        creator: from,
        nonce: String::new(),
        members: 1,
        head,
        last: None,
        retention_days: None,
        deleted: false,
        listed: None,
    };
    vec![Row::Event(room.clone(), EventRow { epoch: 1, event, expires: None }), Row::Room(row)]
}

/// Writes to one room without end, continuing after what is stored, and prints each seq that is done.
async fn write_for_ever(store: Arc<Embedded>, n: usize) {
    let room = room(n);
    let mut seq = store.room(&room).await.expect("the room").map_or(0, |row| row.stamp.seq());
    loop {
        seq += 1;
        store.write(rows(&room, seq)).await.expect("the write is done");
        // One call prints the whole line, so that lines of different tasks do not mix.
        writeln!(std::io::stdout(), "done {n} {seq}").expect("the parent reads");
    }
}

#[test]
fn the_process_that_is_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(path).unwrap());
        let mut writers = tokio::task::JoinSet::new();
        (0..ROOMS).for_each(|n| drop(writers.spawn(write_for_ever(store.clone(), n))));
        writers.join_next().await.unwrap().unwrap();
    });
}

/// Runs the writer until `enough` writes are done, kills it, and returns the last seq that it reported for each room.
fn killed_after(enough: usize, path: &Path) -> BTreeMap<usize, u64> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the writer starts");
    let mut told = BTreeMap::new();
    let mut lines = 0;
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    // What the writer printed before it died stays in the pipe and counts.
    while output.read_line(&mut line).expect("text") > 0 {
        if line.ends_with('\n')
            && let Some((n, seq)) = line.trim().strip_prefix("done ").and_then(|rest| rest.split_once(' '))
        {
            told.insert(n.parse().expect("a room"), seq.parse().expect("a seq"));
            lines += 1;
            if lines == enough {
                child.kill().expect("it can be killed");
            }
        }
        line.clear();
    }
    assert!(!child.wait().expect("its end").success() && lines >= enough, "it ended on its own after {lines} writes");
    told
}

#[tokio::test]
async fn what_was_done_before_a_kill_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=ROUNDS {
        let told = killed_after(round * 250, dir.path());
        assert_eq!(told.len(), ROOMS);
        let store = Embedded::open(dir.path()).unwrap();
        for (n, seq) in told {
            let id = room(n);
            let head = store.room(&id).await.unwrap().unwrap().stamp.seq();
            assert!(head >= seq, "round {round}: seq {seq} of {id} was reported as done, but its head is {head}");
            let events = store.timeline(&id, 1..=u64::MAX, usize::MAX, false).await.unwrap();
            let written: Vec<_> = (1..=head)
                .flat_map(|seq| rows(&id, seq))
                .filter_map(|row| if let Row::Event(_, row) = row { Some(row) } else { None })
                .collect();
            // There must be nothing else either: an event and its head are in one write, which
            // is done completely or not at all.
            assert!(events == written, "round {round}: the timeline of {id} is not what was written");
        }
    }
}
