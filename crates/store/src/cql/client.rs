//! The connections, and one statement at a time: its tries, its time-outs and its pages.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::CqlOpenError;
use super::config::CqlConfig;
use super::metrics::QueryMetrics;
use super::outcome::{is_hopeless, write_error};
use super::statements::{Read, Write};
use crate::{ReadError, WriteError};

/// How often a statement is tried.
const TRIES: u32 = 3;
/// The pause before the second try. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(50);
/// A read that was not answered for so long is asked of another node too.
const SPECULATE_AFTER: Duration = Duration::from_millis(100);
/// The most writes, and the most reads, that are under way at one time. Further ones wait.
const AT_ONCE: usize = 256;
/// After this time a statement no longer counts as under way, so that rooms whose nodes do not answer hold up no
/// others. Of these there are no more than rooms that wait for them.
const COUNTED_FOR: Duration = Duration::from_millis(200);

/// The connections, with all statements prepared. Clones share them.
#[derive(Clone)]
pub(super) struct CqlClient(Arc<Connections>);

struct Connections {
    session: Session,
    reads: Vec<PreparedStatement>,
    writes: Vec<PreparedStatement>,
    read_permits: Semaphore,
    write_permits: Semaphore,
    metrics: QueryMetrics,
}

impl std::fmt::Debug for CqlClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CqlClient").finish_non_exhaustive()
    }
}

impl CqlClient {
    pub(super) async fn prepare(session: Session, config: &CqlConfig) -> Result<Self, CqlOpenError> {
        let speculative = config.profile(Some(SPECULATE_AFTER));
        let prepare = async |name, text: &str, profile: Option<&ExecutionProfileHandle>| {
            let source = |source| CqlOpenError::Prepare { name, source: Box::new(source) };
            let mut prepared = session.prepare(text).await.map_err(source)?;
            prepared.set_is_idempotent(true);
            prepared.set_execution_profile_handle(profile.cloned());
            Ok::<_, CqlOpenError>(prepared)
        };
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for read in Read::ALL {
            let mut prepared = prepare(read.name(), read.text(), Some(&speculative)).await?;
            prepared.set_page_size(read.page());
            reads.push(prepared);
        }
        for write in Write::ALL {
            writes.push(prepare(write.name(), write.text(), None).await?);
        }
        let (read_permits, write_permits) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
        let metrics = QueryMetrics::default();
        Ok(Self(Arc::new(Connections { session, reads, writes, read_permits, write_permits, metrics })))
    }

    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(super) fn metrics(&self) -> &QueryMetrics {
        &self.0.metrics
    }

    /// Writes rows of one partition, all together. It tries again what may be tried again. Once a try may have been
    /// done, the outcome of the tries after it is unknown too if they fail.
    pub(super) async fn write(&self, write: Write, rows: &[Vec<CqlValue>]) -> Result<(), WriteError> {
        let (mut pause, mut left, mut unknown) = (PAUSE, TRIES, None);
        loop {
            let Err(error) = self.try_write(write, rows).await else { return Ok(()) };
            left -= 1;
            let outcome = write_error(write.name(), &error);
            if matches!(outcome, WriteError::Unknown(_)) {
                unknown = Some(outcome.clone());
            }
            if left == 0 || is_hopeless(&error) {
                return Err(unknown.unwrap_or(outcome));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_write(&self, write: Write, rows: &[Vec<CqlValue>]) -> Result<(), ExecutionError> {
        let prepared = &self.0.writes[write as usize];
        let begun = Instant::now();
        let run = async {
            if let [row] = rows {
                self.0.session.execute_unpaged(prepared, row).await
            } else {
                let mut batch = Batch::new(BatchType::Unlogged);
                batch.set_is_idempotent(true);
                rows.iter().for_each(|_| batch.append_statement(prepared.clone()));
                self.0.session.batch(&batch, rows).await
            }
        };
        let done = with_permit(&self.0.write_permits, run).await;
        self.0.metrics.note(write.name(), begun.elapsed(), done.is_ok());
        done.map(|_| self.0.metrics.note_rows(write.name(), rows.len()))
    }

    /// Passes each row that a read finds to `take`, page by page, until it breaks off. A page may be empty before the
    /// last one.
    pub(super) async fn each<R, V>(
        &self,
        read: Read,
        values: &V,
        mut take: impl FnMut(R) -> Result<ControlFlow<()>, ReadError> + Send,
    ) -> Result<(), ReadError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
        V: SerializeRow + Sync,
    {
        let failed = |error: &dyn std::fmt::Display| ReadError(format!("{}: {error}", read.name()));
        let mut page = PagingState::start();
        loop {
            let (result, next) = self.page(read, values, page).await.map_err(|error| failed(&error))?;
            let rows = result.into_rows_result().map_err(|error| failed(&error))?;
            for row in rows.rows::<R>().map_err(|error| failed(&error))? {
                if take(row.map_err(|error| failed(&error))?)?.is_break() {
                    return Ok(());
                }
            }
            match next.into_paging_control_flow() {
                ControlFlow::Break(()) => return Ok(()),
                ControlFlow::Continue(next) => page = next,
            }
        }
    }

    /// Returns all rows that a read finds.
    pub(super) async fn all<R, V>(&self, read: Read, values: &V) -> Result<Vec<R>, ReadError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + Send,
        V: SerializeRow + Sync,
    {
        let mut rows = Vec::new();
        self.each(read, values, |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        Ok(rows)
    }

    async fn page<V: SerializeRow + Sync>(
        &self,
        read: Read,
        values: &V,
        page: PagingState,
    ) -> Result<(QueryResult, PagingStateResponse), ExecutionError> {
        let prepared = &self.0.reads[read as usize];
        let (mut pause, mut left) = (PAUSE, TRIES);
        loop {
            let begun = Instant::now();
            let run = self.0.session.execute_single_page(prepared, values, page.clone());
            let result = with_permit(&self.0.read_permits, run).await;
            self.0.metrics.note(read.name(), begun.elapsed(), result.is_ok());
            left -= 1;
            match result {
                Err(error) if left > 0 && !is_hopeless(&error) => tokio::time::sleep(pause).await,
                result => return result,
            }
            pause *= 2;
        }
    }
}

/// Runs a statement once there is a permit, and gives that back if it takes long.
async fn with_permit<T>(permits: &Semaphore, run: impl Future<Output = T>) -> T {
    let mut run = std::pin::pin!(run);
    {
        // The semaphore is never closed.
        let _permit = permits.acquire().await;
        if let Ok(done) = tokio::time::timeout(COUNTED_FOR, &mut run).await {
            return done;
        }
    }
    run.await
}
