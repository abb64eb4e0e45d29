//! The store of one machine: ordered keys in files, group commit, and `fdatasync` before every answer.
//!
//! A lock ensures that only one process has the files open. One thread writes. It drains everything that is queued
//! as one batch, writes and syncs the batch once, and answers all its callers. A batch does not wait to become
//! larger. Readers see a row only when it is durable. Reads run on the caller's thread, because they take
//! microseconds, which is less than passing them to another thread would take. A long scan does the same, but lets
//! other tasks run between its pieces.
//!
//! **When the disk fails** to write or to sync a batch, that batch is answered with [`crate::WriteError::Unknown`], and
//! the store closes. From then on every write is answered with [`crate::WriteError::Failed`] and every read with an
//! error. Such a refusal says nothing about the batch before it. The store opens itself again, after a pause that
//! grows with each try (`writer`). A sync is never tried twice, because the kernel forgets what it could not write and
//! would report the second sync as done: what the engine reads when it is opened is written anew first (`journal`).
//! [`crate::Store::health`] tells of both.

mod encode;
mod event_expiry;
mod expiry;
mod export;
mod journal;
mod key;
mod leftovers;
mod merge;
mod opened;
mod removal;
mod store;
mod table;
mod timeline;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sendpi_model::Millis;

pub use export::ExportedPage;
use opened::{DirectoryLock, Opened, OpenedSlot};
use writer::{TableDisk, Writer};

/// How long order rows and active rooms are kept.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// The reason why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle in this process, has the store open.
    #[error("the store in {0} is in use by another process")]
    InUse(PathBuf),
    /// A later release, or another program, wrote the files.
    #[error("the files in {path} are of an unsupported version: {reason}")]
    Version {
        /// The directory of the store.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The files are not what the store wrote.
    #[error("the store in {path} is damaged: {reason}")]
    Damaged {
        /// The directory of the store.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The journal, which has what was written last, cannot be read to its end.
    #[error(
        "the journal {path} is damaged: {reason}. Something else changed the file, or the disk did. What follows the \
         damage may have been acknowledged, so the store does not open without it. Keep a copy of the folder, and \
         check the disk. Then put back a backup of the folder. If there is none, `truncate -s {whole} {path}` lets the \
         store open with what was written before; if the machine has just lost its power, that may be all that \
         anybody was answered for"
    )]
    Journal {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
        /// The length up to which the file may be whole.
        whole: u64,
    },
    /// The operating system reported an error.
    #[error("the store in {path} cannot be opened: {source}")]
    Io {
        /// The directory of the store.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

/// The wall clock, which determines what has expired.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The embedded store. Clones are handles of the same store. When the last one is dropped, the writer finishes what
/// is queued and ends, and another process can open the files.
#[derive(Clone)]
pub struct Embedded(Arc<Inner>);

struct Inner {
    // Fields are dropped in this order, so the writer ends before the engine closes, and the lock ends last.
    writer: Writer,
    slot: OpenedSlot,
    clock: Clock,
    _lock: DirectoryLock,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("writer", &self.0.writer).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in the directory `path`, or creates it if there is none. It recovers what the last process
    /// left behind, so it may take seconds.
    ///
    /// # Errors
    /// Returns [`OpenError`] if the store cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with_clock(path, Arc::new(Millis::now))
    }

    /// Opens the store like [`Self::open`], with the given clock.
    ///
    /// # Errors
    /// Returns [`OpenError`] if the store cannot be opened.
    pub fn open_with_clock(path: impl AsRef<Path>, clock: Clock) -> Result<Self, OpenError> {
        let path = path.as_ref();
        make_directory(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let lock = DirectoryLock::acquire(path)?;
        let slot = OpenedSlot::default();
        let disk = TableDisk::new(path, Opened::open(path)?, slot.clone(), clock.clone());
        let writer = Writer::start(disk).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self(Arc::new(Inner { writer, slot, clock, _lock: lock })))
    }
}

/// Creates the directory, and syncs its parent so that it survives a crash.
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
