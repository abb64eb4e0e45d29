//! The tables: applying `schema.cql`, and checking its version.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Statement;
use tokio::time::Instant;

/// The statements that create the tables.
const SCHEMA: &str = include_str!("../../../../schema.cql");
/// The version of the tables that this release works with.
pub const VERSION: u32 = 2;
/// How long one that applies the schema waits for another that does.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the right to apply the schema lasts, in seconds, if whoever has it ends without giving it back.
const LOCK_SECONDS: i32 = 600;
/// How often applying the schema is tried.
const TRIES: u32 = 4;
/// How long a statement may take. A cluster makes a table in up to seconds.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// The reason why tables are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// There are no tables yet.
    #[error("the keyspace has no tables of Sendpi: run `sendpi schema apply` first")]
    Missing,
    /// An earlier release made the tables.
    #[error("the tables are of version {found}, and this release needs version {VERSION}: run `sendpi schema apply`")]
    Older {
        /// The version of the tables.
        found: u32,
    },
    /// A later release made the tables.
    #[error("the tables are of version {found}, and this release knows version {VERSION}: run a newer release")]
    Newer {
        /// The version of the tables.
        found: u32,
    },
    /// The version is not what Sendpi writes.
    #[error("the table meta says that the schema is of version {0:?}, which is no number")]
    Unreadable(String),
    /// Another node applies the schema, and did not end in time.
    #[error("another node has been applying the schema for two minutes: try again in ten")]
    Busy,
    /// The database did not take a statement, or did not answer.
    #[error("the database did not take `{statement}`: {source}")]
    Statement {
        /// The beginning of the statement.
        statement: String,
        /// What the driver reported.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(super) fn failed<E: std::error::Error + Send + Sync + 'static>(statement: &str) -> impl FnOnce(E) -> SchemaError {
    let statement = statement.lines().next().unwrap_or_default().to_owned();
    move |source| SchemaError::Statement { statement, source: Box::new(source) }
}

/// Runs a statement with patience.
pub(super) async fn run(
    session: &Session,
    statement: &str,
    values: impl SerializeRow,
) -> Result<QueryResult, ExecutionError> {
    let mut statement = Statement::new(statement);
    statement.set_request_timeout(Some(STATEMENT_TIMEOUT));
    session.query_unpaged(statement, values).await
}

/// Returns the version of the tables. `None` if there are none.
async fn version(session: &Session) -> Result<Option<u32>, SchemaError> {
    const READ: &str = "SELECT value FROM meta WHERE name = 'schema_version'";
    let result = match run(session, READ, ()).await {
        Ok(result) => result,
        Err(error) if is_missing_table(&error) => return Ok(None),
        Err(error) => return Err(failed(READ)(error)),
    };
    let rows = result.into_rows_result().map_err(failed(READ))?;
    let value = rows.maybe_first_row::<(String,)>().map_err(failed(READ))?;
    value.map(|(text,)| text.parse().map_err(|_| SchemaError::Unreadable(text))).transpose()
}

fn is_missing_table(error: &ExecutionError) -> bool {
    use scylla::errors::{DbError, PrepareError, RequestAttemptError};
    let is_invalid = |error: &RequestAttemptError| matches!(error, RequestAttemptError::DbError(DbError::Invalid, _));
    match error {
        ExecutionError::LastAttemptError(error) => is_invalid(error),
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => is_invalid(first_attempt),
        _ => false,
    }
}

/// Checks that the tables are those of this release.
///
/// # Errors
/// Returns [`SchemaError`], which says what to do.
pub async fn check(session: &Session) -> Result<(), SchemaError> {
    match version(session).await? {
        None => Err(SchemaError::Missing),
        Some(found) if found < VERSION => Err(SchemaError::Older { found }),
        Some(found) if found > VERSION => Err(SchemaError::Newer { found }),
        Some(_) => Ok(()),
    }
}

/// Returns the statements of the schema, without comments.
fn statements() -> impl Iterator<Item = String> {
    let lines = SCHEMA.lines().filter(|line| !line.starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements: Vec<String> = text.split(';').map(|text| text.trim().to_owned()).collect();
    statements.into_iter().filter(|text| !text.is_empty())
}

/// Creates the tables that are missing, waits for each until all nodes know it, and records their version. It changes
/// nothing if they are there. Of several that apply it at once, one does and the others wait.
///
/// # Errors
/// Returns [`SchemaError`] if a later release made the tables, or if the database does not take a statement.
pub async fn apply(session: &Session) -> Result<(), SchemaError> {
    let mut left = TRIES;
    loop {
        left -= 1;
        match apply_once(session).await {
            // The table that holds the lock is made without it. Of two that make it at the same moment, one may ask a
            // table that gave way to the other one (Cassandra: "Unknown CF").
            Err(error @ SchemaError::Statement { .. }) if left > 0 => {
                tracing::warn!(%error, "the schema could not be applied; it is tried again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            result => return result,
        }
    }
}

async fn apply_once(session: &Session) -> Result<(), SchemaError> {
    if is_applied(session).await? {
        return Ok(());
    }
    let mut statements = statements();
    // The first table holds the lock.
    if let Some(meta) = statements.next() {
        run(session, &meta, ()).await.map_err(failed(&meta))?;
    }
    let own = format!("{:016x}", rand::random::<u64>());
    lock(session, &own).await?;
    let result = create_missing(session, statements).await;
    let unlocked = unlock(session, &own).await;
    result.and(unlocked)
}

/// Returns whether the tables are those of this release.
async fn is_applied(session: &Session) -> Result<bool, SchemaError> {
    match version(session).await? {
        Some(found) if found > VERSION => Err(SchemaError::Newer { found }),
        found => Ok(found == Some(VERSION)),
    }
}

/// Creates tables, and records their version. Another node, or a later release, may have applied its schema in the
/// meantime.
async fn create_missing(session: &Session, statements: impl Iterator<Item = String>) -> Result<(), SchemaError> {
    const RECORD: &str = "INSERT INTO meta (name, value) VALUES ('schema_version', ?)";
    if is_applied(session).await? {
        return Ok(());
    }
    for statement in statements {
        run(session, &statement, ()).await.map_err(failed(&statement))?;
    }
    run(session, RECORD, (VERSION.to_string(),)).await.map(drop).map_err(failed(RECORD))
}

/// Waits until nobody else applies the schema. Two nodes that create one table at the same time may make two of it.
async fn lock(session: &Session, own: &str) -> Result<(), SchemaError> {
    const LOCK: &str = "INSERT INTO meta (name, value) VALUES ('schema_lock', ?) IF NOT EXISTS USING TTL ?";
    let end = Instant::now() + LOCK_TIMEOUT;
    while Instant::now() < end {
        let result = run(session, LOCK, (own, LOCK_SECONDS)).await.map_err(failed(LOCK))?;
        let rows = result.into_rows_result().map_err(failed(LOCK))?;
        let row: scylla::value::Row = rows.first_row().map_err(failed(LOCK))?;
        if row.columns.first().is_some_and(|applied| *applied == Some(scylla::value::CqlValue::Boolean(true))) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Err(SchemaError::Busy)
}

async fn unlock(session: &Session, own: &str) -> Result<(), SchemaError> {
    const UNLOCK: &str = "DELETE FROM meta WHERE name = 'schema_lock' IF value = ?";
    run(session, UNLOCK, (own,)).await.map(drop).map_err(failed(UNLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_one_create_table_for_each_table_and_meta_is_the_first() {
        let statements: Vec<String> = statements().collect();
        assert!(statements[0].starts_with("CREATE TABLE IF NOT EXISTS meta ("));
        assert!(statements.iter().all(|statement| statement.starts_with("CREATE TABLE IF NOT EXISTS ")));
        assert_eq!(statements.len(), 16);
    }
}
