//! The users of a case: their rooms, their connections, and how they send.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::case::{CasePace, Shape};
use crate::connection::{Connection, write_all};
use crate::load::{Load, Phase};
use crate::progress::BenchProgress;
use crate::receiver::{Receiver, put_send};
use crate::{BenchError, proc, token};

/// How long the messages under way at the end may take to arrive.
const DRAIN: Duration = Duration::from_secs(10);
/// Nothing more is expected after a silence of this length.
const QUIET: Duration = Duration::from_millis(300);
/// How many users sign in, or how many rooms are created, at once.
pub(crate) const AT_ONCE: usize = 32;
/// How many users one request may name.
const NAMED: usize = 100;

/// The connections of a case, ordered by room and by place in the room.
pub(crate) struct Crowd {
    shape: Shape,
    pub(crate) load: Arc<Load>,
    streams: Vec<Arc<TcpStream>>,
    receivers: JoinSet<()>,
    /// Sends, if the pace of the case is so many messages a second.
    pacer: Option<JoinHandle<Result<(), BenchError>>>,
}

/// Waits, at most for [`DRAIN`], until every message is answered, every answered event
/// has arrived, and nothing has come for [`QUIET`].
async fn drain(load: &Load) {
    let begun = Instant::now();
    let mut last = (0, Instant::now());
    while begun.elapsed() < DRAIN {
        let (seen, missing) = {
            let tally = load.tally();
            let seen = tally.members.iter().map(|(_, seq)| seq).sum::<u64>() + tally.ended;
            (seen, tally.missing())
        };
        if seen != last.0 {
            last = (seen, Instant::now());
        } else if missing == 0 && load.unanswered() == 0 && last.1.elapsed() > QUIET {
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
    /// Creates the rooms, and signs all members in. The members of a room sign in at `addresses` in turn.
    pub(crate) async fn gather(
        addresses: &[String],
        shape: Shape,
        progress: &BenchProgress,
    ) -> Result<Self, BenchError> {
        let name = fresh_name();
        check_open_files(shape.rooms * shape.members)?;
        let users: Vec<_> = (0..shape.rooms * shape.members).map(|n| format!("{name}-u{n}")).collect();
        let rooms: Vec<_> = (0..shape.rooms).map(|n| format!("{name}-r{n}")).collect();
        progress.say("making rooms");
        let tokens = token::fetch(&addresses[0], &users).await?;
        let makings = rooms
            .iter()
            .zip(users.chunks(shape.members))
            .enumerate()
            .map(|(n, (room, members))| make_room(&addresses[0], &tokens[n * shape.members], room, members));
        stream::iter(makings).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let sign_ins = tokens.iter().enumerate().map(|(n, token)| {
            let place = n % shape.members;
            Connection::sign_in(&addresses[place % addresses.len()], token, 10)
        });
        let mut sign_ins = stream::iter(sign_ins).buffered(AT_ONCE);
        let load = Arc::new(Load::new(rooms));
        let closed = match shape.pace {
            CasePace::Closed { senders, .. } => senders,
            CasePace::PerSecond(_) => 0,
        };
        let closed: Vec<_> = shape.senders().take(closed).collect();
        let mut crowd = Self { shape, load, streams: Vec::new(), receivers: JoinSet::new(), pacer: None };
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

    /// Starts to send.
    pub(crate) async fn begin(&mut self) -> Result<(), BenchError> {
        let names: Vec<_> = self.load.tally().rooms.iter().map(|room| room.name.clone()).collect();
        let senders = self.shape.senders().map(|sender| (self.stream(sender), names[sender.0].clone()));
        match self.shape.pace {
            CasePace::PerSecond(rate) => {
                self.pacer = Some(tokio::spawn(send_evenly(senders.collect(), rate, self.load.clone())));
            }
            CasePace::Closed { senders: count, under_way } => {
                for (stream, room) in senders.take(count) {
                    let mut out = Vec::new();
                    (0..under_way).for_each(|_| put_send(&mut out, &room, &self.load));
                    write_all(&stream, &out).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits for what is under way after the load is over, and ends the connections.
    ///
    /// # Errors
    /// [`BenchError::Deliveries`] if a connection failed.
    pub(crate) async fn end(mut self) -> Result<(), BenchError> {
        if let Some(pacer) = self.pacer.take() {
            pacer.await.map_err(|error| BenchError::protocol(error.to_string()))??;
        }
        drain(&self.load).await;
        self.receivers.shutdown().await;
        self.load.check()
    }

    /// Resets all connections at once, as a load balancer does that is started again.
    pub(crate) async fn cut(mut self) {
        self.load.enter(Phase::Over);
        if let Some(pacer) = self.pacer.take() {
            pacer.abort();
            // It holds the connections until it has ended.
            let _aborted = pacer.await;
        }
        for stream in &self.streams {
            // A connection that is gone already needs no reset.
            let _ = stream.set_zero_linger();
        }
        self.receivers.shutdown().await;
    }
}

/// Creates a room with these members, of whom the first one owns it.
pub(crate) async fn make_room(address: &str, token: &str, room: &str, members: &[String]) -> Result<(), BenchError> {
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
