//! The memory that a user costs who is signed in and idle.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::crowd::{AT_ONCE, check_open_files, fresh_name};
use crate::load::Load;
use crate::progress::BenchProgress;
use crate::receiver::Receiver;
use crate::server::{BenchServer, Parts};
use crate::{BenchError, token};

/// How many users sign in and leave before anything is measured, so that memory that a server allocates only once is
/// not counted.
const FIRST: usize = 100;
/// Memory has settled once it has changed by less than this share for [`WHILE`].
const STEADY: f64 = 0.005;
const WHILE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// The resident bytes per user, without those that are resident when there are no users.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct IdlePoint {
    pub(crate) users: usize,
    pub(crate) bytes_per_user: Parts<f64>,
}

/// Measures the memory per user for each number of idle connections in `counts`, from the lowest up.
pub(crate) async fn run(
    server: &BenchServer,
    counts: &[usize],
    progress: &BenchProgress,
) -> Result<Vec<IdlePoint>, BenchError> {
    let most = counts.iter().copied().max().unwrap_or_default();
    check_open_files(most)?;
    let name = fresh_name();
    let users: Vec<_> = (0..most.max(FIRST)).map(|n| format!("{name}-u{n}")).collect();
    let tokens = token::fetch(server.address(), &users).await?;
    for token in &tokens[..FIRST] {
        Connection::sign_in(server.address(), token, 0).await?.connection.close().await?;
    }
    let empty = settled(server).await?;
    let load = Arc::new(Load::new(Vec::new()));
    let mut sign_ins =
        stream::iter(tokens.iter().map(|token| Connection::sign_in(server.address(), token, 0))).buffered(AT_ONCE);
    let (mut receivers, mut points) = (tokio::task::JoinSet::new(), Vec::new());
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    for users in counts {
        while receivers.len() < users {
            let Some(signed_in) = sign_ins.next().await else { break };
            receivers.spawn(Receiver::new(signed_in?.connection, load.clone(), None, false).run());
            progress.say(&format!("signing in {} of {users}", receivers.len()));
        }
        progress.say("waiting for memory to settle");
        let full = settled(server).await?;
        if let Some(trouble) = &load.tally().trouble {
            return Err(BenchError::Deliveries(trouble.clone()));
        }
        let per_user = |full: u64, empty: u64| (full as f64 - empty as f64) / users as f64;
        let bytes_per_user =
            Parts { server: per_user(full.server, empty.server), nats: per_user(full.nats, empty.nats) };
        points.push(IdlePoint { users, bytes_per_user });
    }
    receivers.abort_all();
    Ok(points)
}

/// Waits until the server's memory has settled, at most for [`PATIENCE`], and returns it.
pub(crate) async fn settled(server: &BenchServer) -> Result<Parts<u64>, BenchError> {
    let resident = || server.resident().ok_or_else(|| BenchError::protocol("the server is gone"));
    let (begun, mut last, mut since) = (Instant::now(), resident()?, Instant::now());
    loop {
        sleep(Duration::from_millis(250)).await;
        let now = resident()?;
        let sum = |parts: Parts<u64>| (parts.server + parts.nats) as f64;
        if (sum(now) - sum(last)).abs() > sum(last) * STEADY {
            (last, since) = (now, Instant::now());
        }
        if since.elapsed() > WHILE || begun.elapsed() > PATIENCE {
            return Ok(now);
        }
    }
}
