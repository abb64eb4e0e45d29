//! The database in which the server keeps everything, if it is measured on one: a keyspace for each server.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use sendpi_model::Millis;
use sendpi_store::cql::{CqlConfig, Replication, schema};
use tokio::task::{JoinError, JoinSet};

use crate::BenchError;

/// How far apart the order rows of a room are that is always active.
const EVERY: Duration = Duration::from_mins(10);
/// How long an order row is kept.
const KEPT: Duration = Duration::from_hours(24 * 7);
/// How far back a sign-in reads: `--horizon`.
const SIGN_IN: Duration = Duration::from_mins(11);
/// The writes that are under way at one time.
const AT_ONCE: usize = 64;
const WRITE: &str =
    "INSERT INTO rooms_by_activity (user, active_at, room) VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL ?";
const READ: &str = "SELECT active_at, room FROM rooms_by_activity WHERE user = ? AND active_at >= ? LIMIT 1000";

/// A keyspace with the tables of Sendpi, for one server.
#[derive(Debug, Clone)]
pub(crate) struct BenchKeyspace(CqlConfig);

/// What the read of a user's order rows went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ReadTrace {
    /// The rows that are there.
    pub(crate) live: u64,
    /// The tombstones among them, those of expired rows included.
    pub(crate) tombstones: u64,
}

fn failed(error: impl std::error::Error) -> BenchError {
    BenchError::Database(error.to_string())
}

impl BenchKeyspace {
    /// Makes a keyspace of a random name, with one replica.
    pub(crate) async fn make(nodes: &[String]) -> Result<Self, BenchError> {
        let keyspace = format!("sendpi_bench_{:016x}", rand::random::<u64>());
        let config = CqlConfig { nodes: nodes.to_vec(), keyspace, login: None, tls: None, datacenter: None };
        config.create_keyspace(Replication { nodes: 1 }).await.map_err(failed)?;
        let made = Self(config);
        schema::apply(&made.session().await?).await.map_err(failed)?;
        Ok(made)
    }

    async fn session(&self) -> Result<Session, BenchError> {
        self.0.connect().await.map_err(failed)
    }

    /// Returns its address, as `sendpi dev --cql` takes it.
    pub(crate) fn address(&self) -> String {
        format!("{}/{}", self.0.nodes.join(","), self.0.keyspace)
    }

    /// Drops the keyspace.
    pub(crate) async fn drop(self) -> Result<(), BenchError> {
        let statement = format!("DROP KEYSPACE {}", self.0.keyspace);
        self.session().await?.query_unpaged(statement, ()).await.map(drop).map_err(failed)
    }

    /// Writes the order rows that a user has of rooms which were active for so many days without a break, each with
    /// what is left of its time. Those whose time is over have one second, and expire.
    pub(crate) async fn age(&self, user: &str, rooms: &[String], days: u32) -> Result<(), BenchError> {
        let session = self.session().await?;
        let write = session.prepare(WRITE).await.map_err(failed)?;
        let session = std::sync::Arc::new(session);
        let now = Millis::now();
        let mut tasks = JoinSet::new();
        for n in 1..=(Duration::from_hours(24) * days).as_secs() / EVERY.as_secs() {
            let age = EVERY * n as u32;
            let at = now.before(age);
            let left = KEPT.saturating_sub(age).as_secs().max(1) as i32;
            while tasks.len() > AT_ONCE / rooms.len().max(1) {
                finish(tasks.join_next().await)?;
            }
            let (session, write) = (session.clone(), write.clone());
            let (user, rooms) = (user.to_owned(), rooms.to_vec());
            tasks.spawn(async move {
                for room in &rooms {
                    let values = (&user, at.0 as i64, room, at.0 as i64 * 1_000, left);
                    session.execute_unpaged(&write, values).await?;
                }
                Ok(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            finish(Some(done))?;
        }
        // A row with one second left is gone after two.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }

    /// Reads a user's order rows as a sign-in does, and returns what the database says of that.
    pub(crate) async fn trace(&self, user: &str) -> Result<ReadTrace, BenchError> {
        let session = self.session().await?;
        let mut read = session.prepare(READ).await.map_err(failed)?;
        read.set_tracing(true);
        let since = Millis::now().before(SIGN_IN).0 as i64;
        let result = session.execute_unpaged(&read, (user, since)).await.map_err(failed)?;
        let Some(id) = result.tracing_id() else { return Err(BenchError::Database("it traces nothing".into())) };
        let traced = session.get_tracing_info(&id).await.map_err(failed)?;
        let said = traced.events.iter().filter_map(|event| event.activity.as_deref()).find_map(counts);
        said.ok_or_else(|| BenchError::Database("its trace does not say what was read".into()))
    }
}

fn finish(done: Option<Result<Result<(), ExecutionError>, JoinError>>) -> Result<(), BenchError> {
    done.map_or(Ok(()), |done| done.map_err(failed)?.map_err(failed))
}

/// Reads the numbers in "Read 150 live rows and 0 tombstone cells", as Cassandra says it, and in "Page stats: 1
/// partition(s), 0 static row(s) (0 live, 0 dead), 150 clustering row(s) (150 live, 0 dead)", as ScyllaDB does.
fn counts(activity: &str) -> Option<ReadTrace> {
    let number = |before: &str| {
        let digits = activity.split_once(before)?.0.rsplit(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    if let (Some(live), Some(tombstones)) = (number(" live rows"), number(" tombstone cells")) {
        return Some(ReadTrace { live, tombstones });
    }
    let rows = activity.split_once("clustering row(s) (")?.1;
    let (live, rest) = rows.split_once(" live, ")?;
    Some(ReadTrace { live: live.parse().ok()?, tombstones: rest.split_once(" dead")?.0.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_trace_are_read() {
        let said = "Read 150 live rows and 7 tombstone cells";
        assert_eq!(counts(said), Some(ReadTrace { live: 150, tombstones: 7 }));
        let said =
            "Page stats: 1 partition(s), 0 static row(s) (0 live, 0 dead), 15 clustering row(s) (12 live, 3 dead)";
        assert_eq!(counts(said), Some(ReadTrace { live: 12, tombstones: 3 }));
        assert_eq!(counts("Parsing a statement"), None);
    }
}
