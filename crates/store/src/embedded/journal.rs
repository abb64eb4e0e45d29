//! The engine's journal: what was written since the tables were last written to files of their own.
//!
//! A journal may hold what is not on the disk. If a sync failed, the kernel forgets that the pages were to be written,
//! but still shows them to readers. The engine would read them, count them as written, and append behind them. After a
//! power cut they would be a hole in the middle of the journal. So the journal is copied to a file of its own, which
//! is synced, before the engine reads it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How much is copied at a time.
const PIECE: usize = 64 * 1024;

/// Copies the newest journal in `dir` to a new file, syncs that, and puts it in the journal's place. Older ones were
/// synced when the newest was begun.
pub(super) fn write_anew(dir: &Path) -> std::io::Result<()> {
    let Some(journal) = newest(dir)? else { return Ok(()) };
    let copy = journal.with_extension("copy");
    let copied = copy_synced(&journal, &copy);
    if copied.is_err() {
        // What was copied takes up space that may be what is missing.
        let _ = std::fs::remove_file(&copy);
    }
    copied?;
    std::fs::rename(&copy, &journal)?;
    File::open(dir)?.sync_all()
}

/// Returns the journal with the highest number.
fn newest(dir: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
        if let Some(number) = number.filter(|_| path.extension() == Some(OsStr::new("jnl")))
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Copies a file without the space that it does not use. A journal is made longer than what it holds.
fn copy_synced(from: &Path, to: &Path) -> std::io::Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            break;
        }
        if piece[..length].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(length as i64))?;
        } else {
            to.write_all(&piece[..length])?;
        }
    }
    to.set_len(from.metadata()?.len())?;
    to.sync_all()
}
