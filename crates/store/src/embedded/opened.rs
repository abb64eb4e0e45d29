//! What is open at the moment: the tables, and the copy of their fences. Readers share it. After the disk failed, the
//! writer closes it and opens it again.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use super::journal::{self, NewestJournal};
use super::table::{Fences, Tables};
use super::{OpenError, open_error};

/// The open files.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) tables: Tables,
    pub(super) fences: Fences,
}

impl Opened {
    /// Opens the files in `path`, and recovers what the last one that had them open left behind.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let journal = journal::write_anew(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        if let Some(NewestJournal { path, end, .. }) = journal.as_ref().filter(|journal| journal.goes_on) {
            let reason = "a part of it cannot be read, and more follows".to_owned();
            return Err(OpenError::Journal { path: path.clone(), reason, whole: *end });
        }
        let tables = Tables::open(path).map_err(|error| match (error, journal) {
            (fjall::Error::JournalRecovery(error), Some(journal)) => {
                let reason = format!("a batch is not as it was written ({error:?})");
                OpenError::Journal { path: journal.path, reason, whole: journal.last_batch }
            }
            (error, _) => open_error(path, error),
        })?;
        let fences = Fences::load(&tables).map_err(|reason| OpenError::Damaged { path: path.to_owned(), reason })?;
        Ok(Self { tables, fences })
    }
}

/// The place where readers find what is open. It is empty while the store is closed because the disk failed.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenedSlot(Arc<RwLock<Option<Arc<Opened>>>>);

impl OpenedSlot {
    pub(super) fn get(&self) -> Option<Arc<Opened>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, opened: Option<Arc<Opened>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = opened;
    }
}

/// The right of this process to the files in a directory. It is kept while they are closed and opened again, so that
/// no other process opens them in between.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl DirectoryLock {
    pub(super) fn acquire(path: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let file = File::create(path.join("in-use")).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(PathBuf::from(path))),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}
