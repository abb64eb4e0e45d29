//! A small disk of a test's own, which can be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in memory, mounted in a folder. Dropping it unmounts it, with everything in it.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts a file system of this size in the folder `path`, which is made.
    ///
    /// # Panics
    /// If this machine does not let the test mount anything, which only root may.
    #[must_use]
    pub fn mount(path: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        let mut command = Command::new("mount");
        let output = command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Self { path: path.to_owned() },
            other => panic!("this test needs a small disk, and this machine does not let it mount one: {other:?}"),
        }
    }

    /// Returns the folder in which it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file until nothing else fits.
    ///
    /// # Panics
    /// If the disk cannot be filled.
    pub fn fill(&self) {
        let file = std::fs::File::create(self.ballast());
        let filled = file.and_then(|mut file| std::io::copy(&mut std::io::repeat(1), &mut file));
        let full = filled.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
        assert!(full, "{} cannot be filled: {filled:?}", self.path.display());
    }

    /// Removes what [`SmallDisk::fill`] wrote.
    ///
    /// # Panics
    /// If it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap_or_else(|error| panic!("cannot free the small disk: {error}"));
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A lazy unmount also succeeds while a file is still open.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
