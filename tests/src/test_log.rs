//! What a test keeps of a run for people to read.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// A file in the folder that `SENDPI_TEST_LOGS` names, or nothing if it names none.
#[derive(Debug, Clone)]
pub(crate) struct TestLog(Option<Arc<File>>);

impl TestLog {
    /// Opens the log of this name, behind what it holds already.
    ///
    /// # Panics
    /// If the folder or the file cannot be made.
    pub(crate) fn open(name: &str) -> Self {
        let Some(folder) = std::env::var_os("SENDPI_TEST_LOGS").filter(|folder| !folder.is_empty()) else {
            return Self(None);
        };
        let made = std::fs::create_dir_all(&folder);
        made.unwrap_or_else(|error| panic!("{}: {error}", Path::new(&folder).display()));
        let path = Path::new(&folder).join(format!("{}.log", name.replace(' ', "-")));
        let file = File::options().create(true).append(true).open(&path);
        Self(Some(Arc::new(file.unwrap_or_else(|error| panic!("{}: {error}", path.display())))))
    }

    /// Writes a line.
    pub(crate) fn write(&self, line: impl Display) {
        if let Some(mut file) = self.0.as_deref() {
            // It is only for people.
            let _ = writeln!(file, "{line}");
        }
    }
}
