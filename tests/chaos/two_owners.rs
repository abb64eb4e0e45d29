//! Two owners of a partition at one time, which a script brings about too seldom: each step waits for what the one
//! before it is for.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sendpi_bus::subject::{PARTITIONS_BUCKET, PRESENCE_BUCKET};
use sendpi_model::RoomId;
use sendpi_model::faults::FreezePoint;
use sendpi_model::timing::RECONNECT_GRACE;
use sendpi_store::cql::Cql;
use sendpi_store::{ReadError, Store};
use sendpi_tests::{Proxy, ServedNode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::fleet::{ChaosFleet, GATEWAYS, NATS, WORKERS};
use crate::script::ChaosPart;
use crate::seat::Seat;

/// How soon each step must show.
const STEP: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How soon the other side of a split has taken over, and for how long both then go on. After 10 s without NATS a
/// worker stops by itself.
const TAKE_OVER: Duration = Duration::from_secs(7);
const BOTH: Duration = Duration::from_secs(2);
/// How long a change of leaders may take.
const ELECTION: Duration = Duration::from_secs(1);
/// In how many rooms it is tried to have owners write late.
const TRIES: usize = 3;
/// How many rows are read at once.
const PAGE: u64 = 500;
/// What workers log when they begin to own a partition.
const TAKEN_OVER: &str = "the partition is taken over";

impl ChaosFleet {
    /// Brings about two owners in both of these ways. Returns what did not come about.
    pub(crate) async fn two_owners(&mut self, seed: u64, rooms: &[String]) -> Vec<String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut failed = Vec::new();
        failed.extend(self.split(&mut rng).await.err());
        self.as_before();
        let mut tried = Err("nobody owns a room".to_owned());
        let mut rooms: Vec<&String> = rooms.iter().collect();
        rooms.shuffle(&mut rng);
        for room in rooms.into_iter().take(TRIES) {
            tried = self.late_owners(&mut rng, room).await;
            self.as_before();
            match &tried {
                Ok(()) => break,
                // Whoever is frozen for long loses the database when it goes on, and writes nothing late.
                Err(why) => println!("{why}; the next room is tried"),
            }
        }
        failed.extend(tried.err());
        failed
    }

    /// Undoes all that is done here.
    fn as_before(&self) {
        let addresses = self.nats.addresses();
        self.nats.routes(None).for_each(Proxy::mend);
        for seat in self.seats.values() {
            seat.nats.iter().zip(&addresses).for_each(|(line, address)| line.aim(address));
            seat.nats.iter().for_each(Proxy::mend);
        }
        let workers: Vec<ChaosPart> = (0..WORKERS).map(ChaosPart::Worker).collect();
        self.freeze_at(&workers, None);
        workers.into_iter().for_each(|part| self.thaw(part));
    }

    /// Splits a worker, a gateway and a NATS server off from the others, who take the worker for dead. It goes on to
    /// own what it owns, for those at that gateway, until it meets the fence.
    async fn split(&mut self, rng: &mut StdRng) -> Result<(), String> {
        let worker = ChaosPart::Worker(rng.random_range(0..WORKERS));
        let gateway = ChaosPart::Gateway(rng.random_range(0..GATEWAYS));
        let server = rng.random_range(0..NATS);
        let near = (server + 1) % NATS;
        println!("{worker:?}, {gateway:?} and NATS server {server} are split off");
        let addresses = self.nats.addresses();
        for (part, seat) in &self.seats {
            let is_off = [worker, gateway].contains(part);
            for (to, line) in seat.nats.iter().enumerate() {
                let to = if is_off { server } else { [to, near][usize::from(to == server)] };
                line.aim(&addresses[to]);
                line.cut();
            }
        }
        // Until the proxies have ended what there was.
        sleep(LOOK * 4).await;
        self.seats.values().flat_map(|seat| &seat.nats).for_each(Proxy::mend);
        // With the leaders of the buckets on the other side, that one can claim.
        for bucket in [PARTITIONS_BUCKET, PRESENCE_BUCKET] {
            self.lead(&format!("KV_{bucket}"), &format!("nats-{}", near + 1)).await?;
        }
        // Until nobody gives others the benefit of the doubt any more because of the reconnects.
        sleep(2 * RECONNECT_GRACE).await;

        let taken = |fleet: &Self| {
            let others = fleet.seats.iter().filter(|(part, _)| **part != worker);
            others.filter_map(|(_, seat)| seat.node()).map(|node| node.logged(TAKEN_OVER)).sum::<usize>()
        };
        let before = taken(self);
        self.nats.routes(Some(server)).for_each(Proxy::cut);
        let taken_over = timeout(TAKE_OVER, until("others to take over", async || taken(self) > before)).await;
        sleep(BOTH).await;
        taken_over.unwrap_or_else(|_| Err(format!("nobody took over from {worker:?} within {TAKE_OVER:?}")))
    }

    /// Has a NATS server lead a stream.
    async fn lead(&self, stream: &str, server: &str) -> Result<(), String> {
        let bus = self.bus().await;
        until("a NATS server to lead a stream", async || {
            let info = bus.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await;
            let info: Value =
                info.ok().and_then(|info| serde_json::from_slice(info.payload()).ok()).unwrap_or_default();
            if info["cluster"]["leader"] == server {
                return true;
            }
            let wanted = json!({"placement": {"preferred": server}}).to_string();
            let _told = bus.request(format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), wanted.into()).await;
            // It is not asked again while it does it.
            sleep(ELECTION).await;
            false
        })
        .await
    }

    /// Has two owners write late: the first one a batch, after the second one has read the room, and the second one the
    /// start of the room, after the third one has read it with that batch.
    async fn late_owners(&mut self, rng: &mut StdRng, room: &str) -> Result<(), String> {
        let room = RoomId::parse(room).map_err(|error| error.to_string())?;
        let mut workers: Vec<ChaosPart> = (0..WORKERS).map(ChaosPart::Worker).collect();
        workers.shuffle(rng);

        self.freeze_at(&workers, Some((FreezePoint::BeforeBatch, &room)));
        let first = self.frozen(&workers, "an owner to write a batch").await?;
        workers.retain(|part| *part != first);
        // After the split two of them may have taken themselves for the owner, and both are frozen.
        self.freeze_at(&workers, None);
        sleep(LOOK * 4).await;
        workers.iter().for_each(|part| self.thaw(*part));
        self.freeze_at(&workers, Some((FreezePoint::BeforeStart, &room)));
        self.lines_of(first).for_each(Proxy::cut);
        let second = self.frozen(&workers, "another one to take over and read the room").await?;
        workers.retain(|part| *part != second);
        self.freeze_at(&workers, None);
        println!("{first:?} and {second:?} are frozen as owners of {room}");

        let unread = |error: ReadError| error.to_string();
        let store = Cql::open(self.keyspace_config()).await.map_err(|error| error.to_string())?;
        let rows = rows(&store, &room).await.map_err(unread)?;
        // Before anything that may take long: once the second one's key has expired the third one opens the room.
        let starts = starts(&store, &room).await.map_err(unread)?;
        self.thaw(first);
        let is_written = async || self::rows(&store, &room).await.is_ok_and(|now| now > rows);
        until("the first owner to have written its batch", is_written).await?;
        let more_starts = async |more| self::starts(&store, &room).await.is_ok_and(|now| now >= starts + more);
        self.lines_of(second).for_each(Proxy::cut);
        until("the third owner to have opened the room", async || more_starts(1).await).await?;
        self.thaw(second);
        until("the second owner to have written its start", async || more_starts(2).await).await
    }

    fn freeze_at(&self, workers: &[ChaosPart], point: Option<(FreezePoint, &RoomId)>) {
        workers.iter().filter_map(|part| self.node(*part)).for_each(|node| node.freeze_at(point));
    }

    /// Waits until one of these is frozen.
    async fn frozen(&self, workers: &[ChaosPart], what: &str) -> Result<ChaosPart, String> {
        let is_frozen = |part: &&ChaosPart| self.node(**part).is_some_and(ServedNode::is_frozen);
        until(what, async || workers.iter().any(|part| is_frozen(&part))).await?;
        workers.iter().find(is_frozen).copied().ok_or_else(|| what.to_owned())
    }

    /// Lets a worker go on.
    fn thaw(&self, part: ChaosPart) {
        self.node(part).into_iter().for_each(|node| node.signal("CONT"));
    }

    fn node(&self, part: ChaosPart) -> Option<&ServedNode> {
        self.seats.get(&part).and_then(Seat::node)
    }

    fn lines_of(&self, part: ChaosPart) -> impl Iterator<Item = &Proxy> {
        self.seats.get(&part).into_iter().flat_map(|seat| &seat.nats)
    }
}

/// Returns how many rows a timeline has, those that do not count too.
async fn rows(store: &Cql, room: &RoomId) -> Result<usize, ReadError> {
    let (mut rows, mut next) = (0, 1);
    loop {
        let page = store.timeline(room, next..=next + PAGE - 1, 4 * PAGE as usize, false).await?;
        let Some(last) = page.last() else { return Ok(rows) };
        next = last.event.head.seq + 1;
        rows += page.len();
    }
}

/// Returns how many starts a room has, those outside the chain too.
async fn starts(store: &Cql, room: &RoomId) -> Result<usize, ReadError> {
    Ok(store.starts(room, None, PAGE as usize).await?.len())
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) -> Result<(), String> {
    let held = timeout(STEP, async {
        while !holds().await {
            sleep(LOOK).await;
        }
    });
    held.await.map_err(|_| format!("not within {STEP:?}: {what}"))
}
