//! A node with busy users dies. How long do the users of other nodes wait in other rooms?

use std::time::Duration;

use serde::Serialize;
use tokio::time::{sleep, timeout};

use crate::BenchError;
use crate::case::{CasePace, Shape};
use crate::crowd::Crowd;
use crate::load::{Load, Phase};
use crate::progress::BenchProgress;
use crate::server::{BenchServer, ServerShape};
use crate::talk::Quantiles;

/// Three nodes, of which the first runs the rooms.
pub(crate) const SERVER: ServerShape = ServerShape { more_nodes: 2, args: &[] };
/// The node that dies. It is only a gateway.
const DEAD: usize = 2;
/// The rooms of its 1,000 users.
const BUSY: Shape = Shape { rooms: 100, members: 10, pace: CasePace::PerSecond(1000) };
/// The other rooms, whose users are on the other two nodes.
const OTHERS: Shape = Shape { rooms: 20, members: 10, pace: CasePace::PerSecond(200) };
/// The time before anything is counted: a heartbeat and its answer, after which as many events are not settled as ever.
const WARM: Duration = Duration::from_secs(35);
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(30);
/// How long the connections to a killed node may live.
const DEATH: Duration = Duration::from_secs(5);

/// How long messages in the other rooms took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Waits {
    pub(crate) answer_us: Option<Quantiles>,
    pub(crate) latency_us: Option<Quantiles>,
    pub(crate) refused: u64,
}

/// The other rooms before and after the node died.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct DeadNodeOutcome {
    /// The messages of the busy users that were answered in a second.
    pub(crate) busy_per_second: f64,
    pub(crate) before: Waits,
    pub(crate) after: Waits,
    /// How many events members of the other rooms missed or got twice.
    pub(crate) wrong: u64,
    /// How many messages in the other rooms were never answered.
    pub(crate) unanswered: u64,
}

impl Waits {
    /// Takes the times that were recorded since the last call.
    fn taken(load: &Load) -> Self {
        let mut tally = load.tally();
        let answers = std::mem::take(&mut tally.answers);
        let latency = std::mem::take(&mut tally.latency);
        let refused = std::mem::take(&mut tally.refused);
        Self { answer_us: Quantiles::of(&answers), latency_us: Quantiles::of(&latency), refused }
    }
}

/// Runs the case once against `server`, which has the shape [`SERVER`].
pub(crate) async fn run(server: &mut BenchServer, progress: &BenchProgress) -> Result<DeadNodeOutcome, BenchError> {
    let (living, dead) = server.nodes.split_at(DEAD);
    let mut busy = Crowd::gather(dead, BUSY, progress).await?;
    let mut others = Crowd::gather(living, OTHERS, progress).await?;
    let (busy_load, load) = (busy.load.clone(), others.load.clone());
    busy.begin().await?;
    others.begin().await?;
    progress.say("the rooms are busy");
    sleep(WARM).await;
    Waits::taken(&load);
    busy_load.enter(Phase::Counted);
    load.enter(Phase::Counted);
    sleep(BEFORE).await;
    busy_load.check()?;
    let before = Waits::taken(&load);
    let busy_per_second = busy_load.tally().answered as f64 / BEFORE.as_secs_f64();
    progress.say("a node dies");
    server.kill_node(DEAD).await?;
    let dead = async {
        while busy_load.check().is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(DEATH, dead).await.is_err() {
        return Err(BenchError::protocol("the node that was killed lives on"));
    }
    busy.cut().await;
    sleep(AFTER).await;
    load.enter(Phase::Over);
    others.end().await?;
    let after = Waits::taken(&load);
    let tally = load.tally();
    let wrong = tally.gaps + tally.repeats + tally.missing();
    drop(tally);
    Ok(DeadNodeOutcome { busy_per_second, before, after, wrong, unanswered: load.unanswered() })
}
