//! `sendpi migrate`: copies everything from the embedded store of one machine into a keyspace, and verifies the copy.
//!
//! It reads the tables one after the other and notes how far it is after each page, so that it goes on there when it is
//! run again. A page that is written twice changes nothing. In the end it reads both whole and compares counts and
//! checksums.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use sendpi_store::cql::{Cql, CqlOpenError, Fingerprints};
use sendpi_store::embedded::{Embedded, OpenError};
use sendpi_store::{ReadError, Row, Store, WriteError};
use serde::{Deserialize, Serialize};

use crate::cql_args::CqlArgs;
use crate::output::say;
use crate::progress_bar::ProgressBar;

/// The file in the data folder that says how far the migration is.
const PROGRESS: &str = "migration.json";
/// The rows of a page.
const PAGE: usize = 1_000;
/// How often a page is written while the database does not take it, and the longest pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_secs(5);

/// The options of `sendpi migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct MigrateArgs {
    /// The store to copy from. No Sendpi may be running on it.
    #[arg(long, value_enum)]
    from: MigrationSource,
    /// The store to copy to. `sendpi schema apply` made its tables, and nothing else is in them.
    #[arg(long, value_enum)]
    to: MigrationTarget,
    /// The data folder of `sendpi dev`.
    #[arg(long, default_value = ".sendpi", env = "SENDPI_DATA")]
    data: PathBuf,
    #[command(flatten)]
    cql: CqlArgs,
}

/// A store from which everything can be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MigrationSource {
    /// The store of one machine.
    Embedded,
}

/// A store to which everything can be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MigrationTarget {
    /// ScyllaDB, or Apache Cassandra.
    Cql,
}

/// The reason why a migration failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    /// There is no store to copy.
    #[error("there is no embedded store in {0}")]
    NoStore(PathBuf),
    /// The embedded store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be used.
    #[error(transparent)]
    Connect(#[from] CqlOpenError),
    /// A store does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database does not take a page. The migration goes on there when it is run again.
    #[error("the database does not take a page; run the migration again: {0}")]
    Write(#[from] WriteError),
    /// The keyspace has rows of another Sendpi.
    #[error("the keyspace {0} is not empty, and no migration into it was begun from here")]
    NotEmpty(String),
    /// A migration into another keyspace was begun.
    #[error("a migration into {began} was begun; finish it, or remove {file} and begin anew")]
    OtherTarget {
        /// Where it copies to.
        began: String,
        /// The file that says so.
        file: PathBuf,
    },
    /// The file that says how far the migration is cannot be used.
    #[error("cannot use {path}: {source}")]
    Progress {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A row or the progress cannot be encoded.
    #[error("cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The copy is not the same as the store, which may have changed since it was begun.
    #[error("the copy differs: {differences}. Drop the keyspace, remove {file}, and begin anew")]
    Differs {
        /// In which tables, and how.
        differences: String,
        /// The file that says how far the migration is.
        file: PathBuf,
    },
}

/// How far a migration is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct MigrationProgress {
    /// The nodes and the keyspace.
    target: String,
    /// The place of the table in [`Embedded::TABLES`].
    table: usize,
    /// The key up to which it is copied.
    after: Option<Vec<u8>>,
    /// How many rows were copied, those that expire among them.
    rows: u64,
}

impl MigrationProgress {
    fn read(path: &Path) -> Result<Option<Self>, MigrateError> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MigrateError::Progress { path: path.to_owned(), source }),
        }
    }

    fn write(&self, path: &Path) -> Result<(), MigrateError> {
        let failed = |source| MigrateError::Progress { path: path.to_owned(), source };
        let (new, bytes) = (path.with_extension("new"), serde_json::to_vec(self)?);
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)
    }
}

/// Copies everything, and verifies it.
pub(crate) async fn run(args: MigrateArgs) -> Result<(), MigrateError> {
    let MigrateArgs { from: MigrationSource::Embedded, to: MigrationTarget::Cql, data, cql } = args;
    let folder = data.join("store");
    if !folder.is_dir() {
        return Err(MigrateError::NoStore(data));
    }
    let source = Embedded::open(&folder)?;
    let config = cql.config();
    let target = Cql::open(&config).await?;
    let name = format!("{}/{}", config.nodes.join(","), config.keyspace);
    let path = data.join(PROGRESS);
    let mut progress = match MigrationProgress::read(&path)? {
        Some(progress) if progress.target == name => progress,
        Some(other) => return Err(MigrateError::OtherTarget { began: other.target, file: path }),
        // The number of partitions is the first row that is copied.
        None if target.partitions().await?.is_some() => return Err(MigrateError::NotEmpty(name)),
        None => MigrationProgress { target: name, ..MigrationProgress::default() },
    };
    // Before the first row: what is in the keyspace from then on is from here.
    progress.write(&path)?;
    copy(&source, &target, &mut progress, &path).await?;
    let expected = fingerprints(&source)?;
    let mut bar = ProgressBar::new("verifying", progress.rows);
    let found = target.fingerprints(|table, rows| bar.at(rows, table)).await?;
    drop(bar);
    let differences = expected.differences(&found).into_iter().map(|(table, here, there)| {
        format!(
            "{table} has {} rows (checksum {:016x}), and must have {} ({:016x})",
            there.rows, there.sum, here.rows, here.sum
        )
    });
    let differences = differences.collect::<Vec<_>>().join("; ");
    if !differences.is_empty() {
        return Err(MigrateError::Differs { differences, file: path });
    }
    say(format_args!(
        "copied {} rows; counts and checksums of the {} that do not expire by themselves are the same",
        progress.rows,
        expected.rows()
    ));
    Ok(())
}

/// Returns the fingerprints of the store as it is now.
fn fingerprints(source: &Embedded) -> Result<Fingerprints, MigrateError> {
    let mut all = Fingerprints::default();
    for table in 0..Embedded::TABLES.len() {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = source.export(table, after.as_deref(), PAGE)?;
            for row in &page.rows {
                all.add(row)?;
            }
            match page.last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(all)
}

/// Copies what is not copied yet.
async fn copy(
    source: &Embedded,
    target: &Cql,
    progress: &mut MigrationProgress,
    path: &Path,
) -> Result<(), MigrateError> {
    let counts: Result<Vec<usize>, ReadError> =
        (0..Embedded::TABLES.len()).map(|table| source.count_rows(table)).collect();
    let mut bar = ProgressBar::new("copying", counts?.iter().sum::<usize>() as u64);
    while progress.table < Embedded::TABLES.len() {
        let page = source.export(progress.table, progress.after.as_deref(), PAGE)?;
        progress.rows += page.rows.iter().filter(|row| !matches!(row, Row::Partitions(_))).count() as u64;
        write(target, page.rows).await?;
        bar.at(progress.rows, Embedded::TABLES[progress.table]);
        match page.last {
            Some(last) => progress.after = Some(last),
            None => (progress.table, progress.after) = (progress.table + 1, None),
        }
        progress.write(path)?;
    }
    Ok(())
}

/// Writes a page, with patience.
async fn write(target: &Cql, rows: Vec<Row>) -> Result<(), WriteError> {
    let (mut left, mut pause) = (TRIES, Duration::from_millis(100));
    loop {
        match target.write(rows.clone()).await {
            Err(error) if left > 0 => {
                tracing::warn!(%error, "a page is written again");
                left -= 1;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE);
            }
            result => return result,
        }
    }
}
