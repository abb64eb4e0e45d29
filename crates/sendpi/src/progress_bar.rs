//! A bar on standard error that shows how far something is, for somebody at a terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

/// The bar is drawn at most once in this time.
const EVERY: Duration = Duration::from_millis(200);
/// Its width, in characters.
const WIDTH: u64 = 30;

/// A bar. It is shown only if standard error is a terminal.
#[derive(Debug)]
pub(crate) struct ProgressBar {
    what: &'static str,
    total: u64,
    shown: bool,
    last: Option<Instant>,
}

impl ProgressBar {
    pub(crate) fn new(what: &'static str, total: u64) -> Self {
        Self { what, total, shown: std::io::stderr().is_terminal(), last: None }
    }

    /// Shows that so many are done, unless it was drawn a moment ago.
    pub(crate) fn at(&mut self, done: u64, part: &str) {
        if self.shown && self.last.is_none_or(|last| last.elapsed() > EVERY) {
            self.last = Some(Instant::now());
            // A bar that cannot be shown is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(self.what, done, self.total, part));
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64, part: &str) -> String {
    let share = |of: u64| (done.min(total) * of).checked_div(total).unwrap_or(of);
    let filled = share(WIDTH);
    let (bar, rest) = ("#".repeat(filled as usize), ".".repeat((WIDTH - filled) as usize));
    format!("{what} [{bar}{rest}] {:>3} % {done} of about {total} rows, {part}", share(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_the_share_that_is_done() {
        let half = format!("copying [{}{}]  50 % 5 of about 10 rows, rooms", "#".repeat(15), ".".repeat(15));
        assert_eq!(line("copying", 5, 10, "rooms"), half);
        // The total is a guess, and may be too low.
        assert!(line("copying", 12, 10, "rooms").contains("100 %"));
        assert!(line("copying", 0, 0, "rooms").contains("100 %"));
    }
}
