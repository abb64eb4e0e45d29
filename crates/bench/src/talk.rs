//! The cases in which members send messages.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::case::{CasePace, Shape};
use crate::connection::{Connection, write_all};
use crate::load::{Load, Phase};
use crate::progress::BenchProgress;
use crate::receiver::{Receiver, put_send};
use crate::server::{BenchServer, Parts};
use crate::{BenchError, proc, token};

/// How long the messages under way at the end may take to arrive.
const DRAIN: Duration = Duration::from_secs(10);
/// Nothing more is expected after a silence of this length.
const QUIET: Duration = Duration::from_millis(300);
/// How many users sign in, or how many rooms are created, at once.
const AT_ONCE: usize = 32;
/// How many users one request may name.
const NAMED: usize = 100;

/// The outcome of one run of a case.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TalkOutcome {
    pub(crate) seconds: f64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// The CPU seconds used in that time.
    pub(crate) cpu: Option<Parts<f64>>,
    pub(crate) deliveries_per_cpu_second: Option<f64>,
    pub(crate) latency_us: Option<Quantiles>,
    pub(crate) answer_us: Option<Quantiles>,
    pub(crate) refused: u64,
    pub(crate) gaps: u64,
    pub(crate) repeats: u64,
    pub(crate) missing: u64,
    pub(crate) fsync_us: Option<f64>,
}

impl TalkOutcome {
    /// Returns the number of errors in the deliveries.
    pub(crate) fn wrong(&self) -> u64 {
        self.gaps + self.repeats + self.missing
    }
}

/// The median and the 99th percentile of times, in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Quantiles {
    pub(crate) fn of(times: &crate::histogram::Histogram) -> Option<Self> {
        let micros = |share| times.quantile(share).map(|time| time.as_secs_f64() * 1e6);
        Some(Self { p50: micros(0.5)?, p99: micros(0.99)? })
    }
}

/// The connections of a case, ordered by room and by place in the room.
struct Crowd {
    shape: Shape,
    load: Arc<Load>,
    streams: Vec<Arc<TcpStream>>,
    receivers: tokio::task::JoinSet<()>,
}

/// The durations of the phases of a case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans {
    /// The time before anything is counted.
    pub(crate) warm: Duration,
    /// The time in which the load is counted.
    pub(crate) counted: Duration,
}

/// Runs a case once against `server`.
pub(crate) async fn run(
    server: &BenchServer,
    shape: Shape,
    spans: Spans,
    progress: &BenchProgress,
) -> Result<TalkOutcome, BenchError> {
    let fsync = server.fsync();
    let mut crowd = Crowd::gather(server, shape, progress).await?;
    let load = crowd.load.clone();
    let pacer = crowd.begin().await?;
    sleep(spans.warm).await;
    load.enter(Phase::Counted);
    let (start, cpu) = (Instant::now(), server.cpu());
    while start.elapsed() < spans.counted {
        let rest = spans.counted.saturating_sub(start.elapsed());
        sleep(rest.min(Duration::from_secs(1))).await;
        progress.say(&format!("{} deliveries in {} s", load.tally().deliveries, start.elapsed().as_secs()));
    }
    load.enter(Phase::Over);
    let (seconds, cpu) =
        (start.elapsed().as_secs_f64(), server.cpu().zip(cpu).map(|(after, before)| after.since(before)));
    pacer.await.map_err(|error| BenchError::protocol(error.to_string()))??;
    drain(&load).await;
    crowd.receivers.abort_all();
    if let Some(trouble) = &load.tally().trouble {
        return Err(BenchError::Deliveries(trouble.clone()));
    }
    let tally = load.tally();
    Ok(TalkOutcome {
        seconds,
        messages: tally.answered,
        deliveries: tally.deliveries,
        cpu: cpu.map(|cpu| Parts { server: cpu.server.as_secs_f64(), nats: cpu.nats.as_secs_f64() }),
        deliveries_per_cpu_second: cpu.map(|cpu| tally.deliveries as f64 / cpu.seconds()),
        latency_us: Quantiles::of(&tally.latency),
        answer_us: Quantiles::of(&tally.answers),
        refused: tally.refused,
        gaps: tally.gaps,
        repeats: tally.repeats,
        missing: tally.missing(),
        fsync_us: fsync.map(|time| time.as_secs_f64() * 1e6),
    })
}

/// Waits, at most for [`DRAIN`], until every answered event has arrived and nothing has come for [`QUIET`].
async fn drain(load: &Load) {
    let begun = Instant::now();
    let mut last = (0, Instant::now());
    while begun.elapsed() < DRAIN {
        let (seen, missing) = {
            let tally = load.tally();
            let seen: u64 = tally.members.iter().map(|(_, seq)| seq).sum::<u64>()
                + tally.rooms.iter().map(|room| room.done).sum::<u64>();
            (seen, tally.missing())
        };
        if seen != last.0 {
            last = (seen, Instant::now());
        } else if missing == 0 && last.1.elapsed() > QUIET {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns an error if the open-files limit is too low for this many connections.
pub(crate) fn check_open_files(connections: usize) -> Result<(), BenchError> {
    match proc::open_files_limit() {
        Some(limit) if limit < connections + 100 => Err(BenchError::OpenFiles { needed: connections, limit }),
        _ => Ok(()),
    }
}

/// Returns a random name prefix, because a server that is running already may remember the names of earlier runs.
pub(crate) fn fresh_name() -> String {
    format!("b{:08x}", rand::random::<u32>())
}

impl Crowd {
    /// Creates the rooms, and signs all members in.
    async fn gather(server: &BenchServer, shape: Shape, progress: &BenchProgress) -> Result<Self, BenchError> {
        let (address, name) = (server.address.as_str(), fresh_name());
        check_open_files(shape.rooms * shape.members)?;
        let users: Vec<_> = (0..shape.rooms * shape.members).map(|n| format!("{name}-u{n}")).collect();
        let rooms: Vec<_> = (0..shape.rooms).map(|n| format!("{name}-r{n}")).collect();
        progress.say("making rooms");
        let tokens = token::fetch(address, &users).await?;
        let makings = rooms
            .iter()
            .zip(users.chunks(shape.members))
            .enumerate()
            .map(|(n, (room, members))| make_room(address, &tokens[n * shape.members], room, members));
        stream::iter(makings).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let mut sign_ins =
            stream::iter(tokens.iter().map(|token| Connection::sign_in(address, token, 10))).buffered(AT_ONCE);
        let load = Arc::new(Load::new(rooms));
        let closed = match shape.pace {
            CasePace::Closed { senders, .. } => senders,
            CasePace::PerSecond(_) => 0,
        };
        let closed: Vec<_> = shape.senders().take(closed).collect();
        let mut crowd = Self { shape, load, streams: Vec::new(), receivers: tokio::task::JoinSet::new() };
        while let Some(signed_in) = sign_ins.next().await {
            let signed_in = signed_in?;
            let member = crowd.streams.len();
            let (room, place) = (member / shape.members, member % shape.members);
            crowd.add(signed_in.connection, &signed_in.rooms, room, closed.contains(&(room, place)))?;
            progress.say(&format!("signing in {} of {}", member + 1, users.len()));
        }
        Ok(crowd)
    }

    fn add(
        &mut self,
        connection: Connection,
        rooms: &[(String, u64)],
        room: usize,
        closed: bool,
    ) -> Result<(), BenchError> {
        let member = self.streams.len();
        let name = self.load.tally().rooms[room].name.clone();
        let Some((_, seq)) = rooms.iter().find(|(listed, _)| *listed == name) else {
            return Err(BenchError::protocol(format!("the welcome of a member does not list {name}")));
        };
        self.load.tally().members.push((room, *seq));
        self.streams.push(connection.stream.clone());
        let receiver = Receiver::new(connection, self.load.clone(), Some((room, member)), closed);
        self.receivers.spawn(receiver.run());
        Ok(())
    }

    fn stream(&self, (room, place): (usize, usize)) -> Arc<TcpStream> {
        self.streams[room * self.shape.members + place].clone()
    }

    /// Starts to send. The returned task ends with the load.
    async fn begin(&self) -> Result<tokio::task::JoinHandle<Result<(), BenchError>>, BenchError> {
        let names: Vec<_> = self.load.tally().rooms.iter().map(|room| room.name.clone()).collect();
        let senders = self.shape.senders().map(|sender| (self.stream(sender), names[sender.0].clone()));
        match self.shape.pace {
            CasePace::PerSecond(rate) => Ok(tokio::spawn(send_evenly(senders.collect(), rate, self.load.clone()))),
            CasePace::Closed { senders: count, under_way } => {
                for (stream, room) in senders.take(count) {
                    let mut out = Vec::new();
                    (0..under_way).for_each(|_| put_send(&mut out, &room, &self.load));
                    write_all(&stream, &out).await?;
                }
                Ok(tokio::spawn(async { Ok(()) }))
            }
        }
    }
}

async fn make_room(address: &str, token: &str, room: &str, members: &[String]) -> Result<(), BenchError> {
    let mut owner = Connection::sign_in(address, token, 10).await?.connection;
    let mut others = members[1..].chunks(NAMED);
    let first = others.next().unwrap_or_default();
    owner.ask(json!({"op": "create", "room": room, "name": room, "members": first})).await?;
    for users in others {
        owner.ask(json!({"op": "invite", "room": room, "users": users})).await?;
    }
    owner.close().await
}

/// Sends `rate` messages a second from all senders in turn, until the load is over.
async fn send_evenly(senders: Vec<(Arc<TcpStream>, String)>, rate: u32, load: Arc<Load>) -> Result<(), BenchError> {
    let every = (Duration::from_secs(1) / rate).max(Duration::from_millis(1));
    let (begun, mut sent, mut out) = (Instant::now(), 0u64, Vec::new());
    let mut ticks = tokio::time::interval(every);
    while load.phase() != Phase::Over {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while sent < due {
            let (stream, room) = &senders[sent as usize % senders.len()];
            out.clear();
            put_send(&mut out, room, &load);
            write_all(stream, &out).await?;
            sent += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit;

    const SPANS: Spans = Spans { warm: Duration::from_millis(100), counted: Duration::from_millis(400) };

    async fn outcome(pace: CasePace) -> TalkOutcome {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = BenchServer::running(listener.local_addr().unwrap().to_string());
        let serving = tokio::spawn(limit::serve_on(listener));
        let shape = Shape { rooms: 3, members: 120, pace };
        let outcome = run(&server, shape, SPANS, &BenchProgress::new(String::new())).await.unwrap();
        serving.abort();
        outcome
    }

    #[tokio::test]
    async fn in_an_open_loop_every_member_gets_every_event() {
        let outcome = outcome(CasePace::PerSecond(200)).await;
        assert!(outcome.messages > 20 && outcome.deliveries > 20 * 120, "{outcome:?}");
        assert_eq!((outcome.wrong(), outcome.refused), (0, 0));
    }

    #[tokio::test]
    async fn in_a_closed_loop_every_member_gets_every_event() {
        let outcome = outcome(CasePace::Closed { senders: 5, under_way: 2 }).await;
        assert!(outcome.messages > 20 && outcome.latency_us.is_some() && outcome.answer_us.is_some(), "{outcome:?}");
        assert_eq!(outcome.wrong(), 0);
    }
}
