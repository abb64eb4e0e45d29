//! The engine's journal: what was written since the tables were last written to files of their own.
//!
//! A journal may hold what is not on the disk. If a sync failed, the kernel forgets that the pages were to be written,
//! but still shows them to readers. The engine would read them, count them as written, and append behind them. After a
//! power cut they would be a hole in the middle of the journal. So the journal is copied to a file of its own, which
//! is synced, before the engine reads it.
//!
//! The engine cuts off a journal where it cannot be read any further. That is right at the end, where a batch may be
//! torn that nobody was answered for, and wrong in the middle, since the batches behind it were answered. So it is
//! looked for such batches before that. A journal is a row of batches: a start, items, an end with a checksum, which
//! only the engine checks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How much is copied at a time.
const PIECE: usize = 64 * 1024;
/// The last bytes of each batch.
const TRAILER: [u8; 4] = *b"FJL\x03";
/// The highest number of a kind of item: values are 0, and removals 1.
const REMOVAL: u8 = 1;

/// The newest journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewestJournal {
    pub(super) path: PathBuf,
    /// Where the last whole batch begins.
    pub(super) last_batch: u64,
    /// Where the last whole batch ends.
    pub(super) end: u64,
    /// Whether there are further batches behind a part that cannot be read.
    pub(super) goes_on: bool,
}

/// Copies the newest journal in `dir` to a new file, syncs that, and puts it in the journal's place. Older ones were
/// synced when the newest was begun. `None` if there is none. A journal that goes on behind a part that cannot be read
/// stays as it is.
pub(super) fn write_anew(dir: &Path) -> std::io::Result<Option<NewestJournal>> {
    let Some(path) = newest(dir)? else { return Ok(None) };
    let journal = examine(path)?;
    if journal.goes_on {
        return Ok(Some(journal));
    }
    let copy = journal.path.with_extension("copy");
    let copied = copy_synced(&journal.path, &copy);
    if copied.is_err() {
        // What was copied takes up space that may be what is missing.
        let _ = std::fs::remove_file(&copy);
    }
    copied?;
    std::fs::rename(&copy, &journal.path)?;
    File::open(dir)?.sync_all()?;
    Ok(Some(journal))
}

/// Reads a journal up to where it is no row of batches any more.
fn examine(path: PathBuf) -> std::io::Result<NewestJournal> {
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(PIECE, file);
    let (mut last_batch, mut end, mut in_batch, mut at) = (0, 0, false, 0);
    while let Some((entry, size)) = read_entry(&mut reader).filter(|(_, size)| at + size <= length) {
        at += size;
        match entry {
            Entry::Start if !in_batch => in_batch = true,
            Entry::Item if in_batch => {}
            Entry::End if in_batch => (last_batch, end, in_batch) = (end, at, false),
            _ => break,
        }
    }
    reader.seek(SeekFrom::Start(end))?;
    let goes_on = has_batches(reader)?;
    Ok(NewestJournal { path, last_batch, end, goes_on })
}

enum Entry {
    Start,
    Item,
    End,
}

/// Reads an entry, and returns how long it is. `None` if there is none that can be read.
fn read_entry(reader: &mut BufReader<File>) -> Option<(Entry, u64)> {
    let mut tag = [0];
    reader.read_exact(&mut tag).ok()?;
    match tag {
        [1] => {
            reader.read_exact(&mut [0; 12]).ok()?;
            Some((Entry::Start, 13))
        }
        [2] => {
            // The kind of item, its compression, the table, the length of the key, and that of the value twice.
            let mut item = [0; 20];
            reader.read_exact(&mut item).ok()?;
            if item[0] > REMOVAL || item[1] != 0 {
                return None;
            }
            let key = u16::from_le_bytes([item[10], item[11]]);
            let value = u32::from_le_bytes([item[16], item[17], item[18], item[19]]);
            reader.seek_relative(i64::from(key) + i64::from(value)).ok()?;
            Some((Entry::Item, 21 + u64::from(key) + u64::from(value)))
        }
        [3] => {
            let mut end = [0; 12];
            reader.read_exact(&mut end).ok()?;
            end.ends_with(&TRAILER).then_some((Entry::End, 13))
        }
        _ => None,
    }
}

/// Returns whether anything but zeros follows the end of a batch.
fn has_batches(mut rest: impl Read) -> std::io::Result<bool> {
    let (mut piece, mut window, mut ended) = (vec![0; PIECE], [0; TRAILER.len()], false);
    loop {
        let length = rest.read(&mut piece)?;
        if length == 0 {
            return Ok(false);
        }
        if piece[..length].iter().all(|byte| *byte == 0) {
            window = [0; TRAILER.len()];
            continue;
        }
        for byte in &piece[..length] {
            if ended && *byte != 0 {
                return Ok(true);
            }
            window.rotate_left(1);
            window[TRAILER.len() - 1] = *byte;
            ended |= window == TRAILER;
        }
    }
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
