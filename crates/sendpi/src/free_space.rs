//! The space that `sendpi dev` needs on the disk of its data. It is checked before anything is written, because what
//! NATS and the store say about a full disk does not tell what to do.

use std::path::{Path, PathBuf};

use sendpi_bus::RESERVED_BYTES;

const MIB: u64 = 1 << 20;
/// What the store needs to begin. With less it would be closed again soon.
const STORE: u64 = 16 * MIB;
/// What NATS needs to begin, beside what its streams reserve.
const NATS: u64 = 16 * MIB;

/// There is not enough space.
#[derive(Debug, thiserror::Error)]
#[error(
    "not enough space: the disk of {path} has {} MiB free, and {} MiB are needed{}; free some space, or choose a \
     folder on another disk with --data", .free / MIB, .needed.div_ceil(MIB), .why
)]
pub(crate) struct NotEnoughSpace {
    path: PathBuf,
    free: u64,
    needed: u64,
    why: &'static str,
}

/// Checks the disks of a data folder's parts. `nats` says whether a NATS server will be started in it.
///
/// # Errors
/// [`NotEnoughSpace`] says how much is free, how much is needed, and what to do. A disk that cannot be asked has
/// enough.
pub(crate) fn check(data: &Path, nats: bool) -> Result<(), NotEnoughSpace> {
    require(disk_of(&data.join("store"), data), STORE, " for the store")?;
    if !nats {
        return Ok(());
    }
    // NATS gives its streams at most three quarters of what is free when it starts, and refuses a new stream that may
    // become larger. Streams that exist are not asked again.
    let folder = data.join("nats");
    let (needed, why) = if folder.join("jetstream").is_dir() {
        (NATS, " for NATS")
    } else {
        (RESERVED_BYTES.div_ceil(3) * 4 + NATS, ", most of it for what the streams of NATS may become")
    };
    require(disk_of(&folder, data), needed, why)
}

/// Returns a path on the disk that `part` is or will be on.
fn disk_of<'a>(part: &'a Path, data: &'a Path) -> &'a Path {
    if part.is_dir() { part } else { data }
}

fn require(path: &Path, needed: u64, why: &'static str) -> Result<(), NotEnoughSpace> {
    let Ok(disk) = rustix::fs::statvfs(path) else { return Ok(()) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= needed { Ok(()) } else { Err(NotEnoughSpace { path: path.to_owned(), free, needed, why }) }
}
