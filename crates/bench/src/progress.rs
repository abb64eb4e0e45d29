//! A line of progress for somebody at a terminal.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

/// The line is rewritten at most once in this time.
const EVERY: Duration = Duration::from_millis(200);

/// A line on standard error. It is shown only if standard error is a terminal.
#[derive(Debug)]
pub(crate) struct BenchProgress {
    title: String,
    shown: bool,
    last: Cell<Option<Instant>>,
}

impl BenchProgress {
    pub(crate) fn new(title: String) -> Self {
        Self { title, shown: std::io::stderr().is_terminal(), last: Cell::new(None) }
    }

    /// Replaces the line, unless it was replaced a moment ago.
    pub(crate) fn say(&self, text: &str) {
        if self.shown && self.last.get().is_none_or(|last| last.elapsed() > EVERY) {
            self.last.set(Some(Instant::now()));
            self.write(&format!("{}{text}", self.title));
        }
    }

    fn write(&self, line: &str) {
        // A line that cannot be shown is not a reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }
}

impl Drop for BenchProgress {
    fn drop(&mut self) {
        if self.shown {
            self.write("");
        }
    }
}
