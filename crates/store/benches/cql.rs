//! Measures how many events per second the store of a cluster makes durable, beside a bare loop of the driver that
//! writes the same single-partition batches (the limit), and how long the last page of a large room takes. Run it with
//! `cargo bench -p sendpi-store --bench cql`.
//!
//! `SENDPI_TEST_CQL=host:port` names the database. Without it a node of Cassandra is started, which does not wait for
//! the disk: `tests/cassandra/run` starts one that does.

mod support;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use sendpi_model::RoomId;
use sendpi_store::cql::Cql;
use sendpi_store::{Row, Store};
use sendpi_tests::Keyspace;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::BenchTimelines;

const SPAN: Duration = Duration::from_secs(4);
/// The events of the large room, and of the small one.
const ROOMS: [(&str, u64); 2] = [("small", 1_000), ("large", 1_000_000)];
/// The events of one batch in which a room is filled.
const FILL: usize = 256;
const INSERT: &str = "INSERT INTO timeline (room, bucket, seq, epoch, count, at, kind, sender, nonce, frame) \
                      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";

/// What writes the batches.
#[derive(Clone)]
enum BatchWriter {
    Bare(Arc<Session>, PreparedStatement),
    Store(Cql),
}

impl BatchWriter {
    async fn write(&self, rows: Vec<Row>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (session, insert) = match self {
            Self::Store(store) => return Ok(store.write(rows).await?),
            Self::Bare(session, insert) => (session, insert),
        };
        let mut values = Vec::with_capacity(rows.len());
        for row in &rows {
            let Row::Event(room, row) = row else { continue };
            let (head, event) = (row.event.head, &row.event);
            let (seq, kind) = (head.seq as i64, i16::from(event.kind.number()));
            let frame: &[u8] = &event.frame;
            // One bucket, however many events come.
            values.push((room.as_str(), 0i64, seq, 1i64, seq, seq, kind, event.from.as_str(), "", frame, 1i64));
        }
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        values.iter().for_each(|_| batch.append_statement(insert.clone()));
        session.batch(&batch, &values).await?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Bare(..) => "bare",
            Self::Store(_) => "store",
        }
    }
}

/// Returns how many events per second are durable if `rooms` rooms write batches of `size`, each one after the other.
async fn rate(writer: &BatchWriter, rooms: usize, size: usize) -> Result<f64, Box<dyn Error>> {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for n in 0..rooms {
        let mut timelines = BenchTimelines::new(&format!("{}-{rooms}-{size}-{n}", writer.name()), 1)?;
        let writer = writer.clone();
        tasks.spawn(async move {
            let mut events = 0;
            while start.elapsed() < SPAN {
                writer.write(timelines.batch(size)).await?;
                events += size;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(events)
        });
    }
    let mut events = 0;
    while let Some(done) = tasks.join_next().await {
        events += done?.map_err(|error| error.to_string())?;
    }
    Ok(events as f64 / start.elapsed().as_secs_f64())
}

async fn last_pages(store: &Cql) -> Result<(), Box<dyn Error>> {
    for (name, events) in ROOMS {
        let mut timelines = BenchTimelines::new(name, 1)?;
        for _ in 0..events.div_ceil(FILL as u64) {
            store.write(timelines.batch(FILL)).await?;
        }
        let (room, last) = &timelines.rooms[0];
        let (room, last): (&RoomId, u64) = (room, *last);
        let mut times = Vec::new();
        for _ in 0..1_000 {
            let start = Instant::now();
            let rows = store.timeline(room, 1..=last, 50, true).await?;
            times.push(start.elapsed());
            assert_eq!(rows.len(), 50);
        }
        times.sort();
        println!(
            "last 50 of {events} events: p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keyspace = Keyspace::make().await;
    let session = keyspace.config().connect().await?;
    let insert = session.prepare(INSERT).await?;
    let store = Cql::open(keyspace.config()).await?;
    let writers = [BatchWriter::Bare(Arc::new(session), insert), BatchWriter::Store(store.clone())];
    // What is not yet compiled in the database is not measured.
    rate(&writers[0], 100, 1).await?;
    for (rooms, size) in [(1, 1), (1, 100), (100, 1), (100, 10), (100, 100)] {
        let [bare, through] = [rate(&writers[0], rooms, size).await?, rate(&writers[1], rooms, size).await?];
        let share = through / bare;
        println!("{rooms:>3} rooms, batches of {size:>3}: bare {bare:>7.0}, store {through:>7.0} events/s, {share:.2}");
    }
    last_pages(&store).await
}
