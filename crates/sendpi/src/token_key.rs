//! The key of a data folder's tokens, which only the owner of the folder may read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

const FILE: &str = "token-key";
/// The file that becomes [`FILE`] once it is complete.
const NEW_FILE: &str = "token-key.new";
const BYTES: usize = 32;
/// Read and write for the owner, nothing for anybody else.
const MODE: u32 = 0o600;

/// Returns the key of the folder `data`. It is created at the first start and kept, so that tokens stay valid after a
/// restart. A key that others may read is made private.
///
/// # Errors
/// The error of the operating system.
pub(crate) fn read_or_create(data: &Path) -> io::Result<Vec<u8>> {
    let path = data.join(FILE);
    match fs::read(&path) {
        Ok(key) if key.len() == BYTES => {
            fs::set_permissions(&path, Permissions::from_mode(MODE))?;
            Ok(key)
        }
        // A file of another length is what a crash left of an older release, which wrote it in place.
        Ok(_) => create(data),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(data),
        Err(error) => Err(error),
    }
}

/// Returns the key of the folder `data`, which must exist.
///
/// # Errors
/// The error of the operating system.
pub(crate) fn read(data: &Path) -> io::Result<Vec<u8>> {
    fs::read(data.join(FILE))
}

/// Writes a new key beside its place, and renames it once it is on the disk.
fn create(data: &Path) -> io::Result<Vec<u8>> {
    let new = data.join(NEW_FILE);
    let key = rand::random::<[u8; BYTES]>().to_vec();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
    // The mode above is only for a file that did not exist.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&new, data.join(FILE))?;
    File::open(data)?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(folder: &Path) -> u32 {
        fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_private_and_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let key = read_or_create(folder.path()).unwrap();
        assert_eq!((key.len(), mode(folder.path())), (BYTES, MODE));
        assert!(!folder.path().join(NEW_FILE).exists());
        assert_eq!(read_or_create(folder.path()).unwrap(), key);
    }

    #[test]
    fn a_key_that_others_may_read_is_made_private() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), [7; BYTES]).unwrap();
        fs::set_permissions(folder.path().join(FILE), Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read_or_create(folder.path()).unwrap(), [7; BYTES]);
        assert_eq!(mode(folder.path()), MODE);
    }

    #[test]
    fn half_a_key_and_what_a_crash_left_beside_it_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        for name in [FILE, NEW_FILE] {
            fs::write(folder.path().join(name), [7; 3]).unwrap();
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o644)).unwrap();
        }
        let key = read_or_create(folder.path()).unwrap();
        assert_eq!((key.len(), mode(folder.path())), (BYTES, MODE));
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), key);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        assert!(read_or_create(folder.path()).is_err());
    }
}
