//! The store of one machine: ordered keys in files, group commit, `fdatasync` before every answer.
//!
//! One process holds the files, by a lock. One thread writes: it takes everything that waits as one batch, writes and syncs it once,
//! and answers all; nothing waits for company. A row is seen by readers only when it is durable. Reads go straight to the engine,
//! on the caller's thread: they take microseconds, less than handing them to another thread would. A long scan goes the same way,
//! but lets other tasks run between its pieces.
//!
//! **When the disk fails** to take or to sync a batch, that batch is answered as [`crate::WriteError::Unknown`], and from then on
//! every write is [`crate::WriteError::Failed`] and every read an error, until the store is opened again. A sync is never tried twice: the kernel
//! forgets what it could not write, and would report the second one as done. Such a refusal says nothing about the batch before
//! it: only the store opened again, on a disk that was looked after, tells what is there.

mod encode;
mod expiry;
mod fences;
mod key;
mod merge;
mod store;
mod table;
mod value;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sendpi_model::Millis;

use fences::Fences;
use table::Tables;
use writer::{TableDisk, Writer};

/// How long order rows and active rooms are kept.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {0} is in use by another process")]
    InUse(PathBuf),
    /// A later release wrote it, or something else did.
    #[error("the files in {path} are not of a version that is known here: {reason}")]
    Version {
        /// Where the store is.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The files are not what was written.
    #[error("the store in {path} is damaged: {reason}")]
    Damaged {
        /// Where the store is.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The operating system refused.
    #[error("the store in {path} cannot be opened: {source}")]
    Io {
        /// Where the store is.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// The wall clock, which decides what has expired.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The embedded store. Clones are handles of one store; with the last one its writer finishes what waits and ends, and the
/// files are free for the next process.
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    // Dropped in this order: the writer ends before the engine closes.
    writer: Writer,
    fences: Fences,
    tables: Tables,
    clock: Clock,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("writer", &self.0.writer).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in the directory `path`, and makes it if there is none. Reads what the last process left behind, so it
    /// may take seconds.
    ///
    /// # Errors
    /// [`OpenError`] tells what is in the way.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with_clock(path, Arc::new(Millis::now))
    }

    /// As [`Self::open`], with a clock of one's own.
    ///
    /// # Errors
    /// [`OpenError`] tells what is in the way.
    pub fn open_with_clock(path: impl AsRef<Path>, clock: Clock) -> Result<Self, OpenError> {
        let path = path.as_ref();
        make_directory(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let tables = Tables::open(path).map_err(|error| open_error(path, error))?;
        let fences = Fences::load(&tables).map_err(|reason| OpenError::Damaged { path: path.to_owned(), reason })?;
        let disk = TableDisk::new(tables.clone(), fences.clone(), clock.clone());
        let writer = Writer::start(disk).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self(Arc::new(Inner { writer, fences, tables, clock })))
    }
}

/// Makes the directory, and sees to it that a crash does not forget it.
fn make_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    match path.canonicalize()?.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn open_error(path: &Path, error: fjall::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        fjall::Error::Locked => OpenError::InUse(path),
        fjall::Error::Io(source) => OpenError::Io { path, source },
        fjall::Error::InvalidVersion(version) => OpenError::Version { path, reason: format!("{version:?}") },
        other => OpenError::Damaged { path, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
