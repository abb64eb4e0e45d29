//! Measures how many events per second the embedded store makes durable, and how long the read of a page takes. Run
//! it with `cargo bench -p sendpi-store`.
//!
//! Set `TMPDIR` to measure another disk.

mod support;

use std::error::Error;
use std::time::Duration;

use sendpi_model::{Mark, Millis, Notify, Partition, Role, RoomId, UserId};
use sendpi_store::embedded::Embedded;
use sendpi_store::{Fence, MemberRow, RoomOfUser, Row, Stamp, Store};
use tokio::time::Instant;

use crate::support::BenchTimelines;

const SPAN: Duration = Duration::from_secs(3);

async fn write(store: &Embedded, timelines: &mut BenchTimelines, size: usize) -> Result<(), Box<dyn Error>> {
    let (start, mut events) = (Instant::now(), 0);
    while start.elapsed() < SPAN {
        store.write(timelines.batch(size)).await?;
        events += size;
    }
    let (rate, batches) = (events as f64 / start.elapsed().as_secs_f64(), events / size);
    println!(
        "batches of {size:>4}: {rate:>9.0} events/s ({:.0} µs a batch)",
        1e6 * SPAN.as_secs_f64() / batches as f64
    );
    Ok(())
}

/// Measures many callers that write one event at a time, which shows the effect of group commit.
async fn write_from_many(store: &Embedded, callers: usize) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..callers {
        let store = store.clone();
        let mut timelines = BenchTimelines::new(&format!("caller-{n}"), 1)?;
        tasks.spawn(async move {
            let mut events = 0u64;
            while start.elapsed() < SPAN {
                if store.write(timelines.batch(1)).await.is_err() {
                    break;
                }
                events += 1;
            }
            events
        });
    }
    let mut events = 0;
    while let Some(done) = tasks.join_next().await {
        events += done?;
    }
    println!("{callers:>4} callers, one event each: {:>9.0} events/s", events as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

async fn read(store: &Embedded, timelines: &BenchTimelines) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    let mut n = 1u64;
    for _ in 0..20_000 {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (room, _) = &timelines.rooms[(n >> 33) as usize % timelines.rooms.len()];
        let start = Instant::now();
        let rows = store.timeline(room, 0..=u64::MAX, 50, true).await?;
        times.push(start.elapsed());
        assert_eq!(rows.len(), 50);
    }
    times.sort();
    println!("newest 50 of a random room: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    let start = Instant::now();
    for _ in 0..1_000_000 {
        store.fences(Partition(1), 1).await?;
    }
    println!("a fence: {:?}", start.elapsed() / 1_000_000);
    Ok(())
}

fn member(n: u64, role: Option<Role>) -> Result<Row, Box<dyn Error>> {
    let (room, user) = (RoomId::parse("many")?, UserId::parse(&format!("user-{n:06}"))?);
    let (joined, joined_at, notify) = (Mark { seq: 1, count: 0 }, Millis(1), Notify::All);
    Ok(Row::Member(MemberRow {
        room,
        user,
        stamp: Stamp::of(n),
        role,
        joined,
        joined_at,
        notify,
        muted_until: None,
        banned: false,
    }))
}

fn room_of_user(n: u64) -> Result<Row, Box<dyn Error>> {
    let (user, room) = (UserId::parse("busy")?, RoomId::parse(&format!("room-{n}"))?);
    let (joined, role) = (Mark { seq: 1, count: 0 }, Some(Role::Member));
    Ok(Row::RoomOfUser(RoomOfUser { user, room, stamp: Stamp::of(n), role, joined, active_at: Millis(1) }))
}

/// Measures the reads that grow with the number of members, former members, and rooms. They run on the caller's thread.
async fn read_lists(store: &Embedded) -> Result<(), Box<dyn Error>> {
    let (room, busy) = (RoomId::parse("many")?, UserId::parse("busy")?);
    store.write((0..1000).map(|n| member(n, Some(Role::Member))).collect::<Result<_, _>>()?).await?;
    store.write((0..10_000).map(room_of_user).collect::<Result<_, _>>()?).await?;
    let start = Instant::now();
    assert_eq!(store.all_members(&room).await?.len(), 1000);
    println!("1,000 members: {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(store.rooms_of_user(&busy, None, 10_001).await?.len(), 10_000);
    println!("10,000 rooms of a user: {:?}", start.elapsed());
    store.write((1000..100_000).map(|n| member(n, None)).collect::<Result<_, _>>()?).await?;
    let start = Instant::now();
    assert_eq!(store.all_members(&room).await?.len(), 1000);
    println!("1,000 members beside 99,000 who left: {:?}", start.elapsed());
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = Embedded::open(dir.path())?;
    store.write(vec![Row::Fence(Partition(1), Fence { epoch: 1, claim: "a random claim id".into() })]).await?;
    let mut timelines = BenchTimelines::new("room", 1000)?;
    for size in [1, 10, 100, 1000] {
        write(&store, &mut timelines, size).await?;
    }
    for callers in [10, 100, 1000] {
        write_from_many(&store, callers).await?;
    }
    read(&store, &timelines).await?;
    read_lists(&store).await
}
