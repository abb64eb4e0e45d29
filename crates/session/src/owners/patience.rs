//! How long a list of a user's rooms waits for their owners.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::time::{Instant, timeout_at};

/// The most that many answers together may take, in times of the wait for one.
const ALL: u32 = 5;

/// Waits for answers as long as they keep coming: a user may have thousands of rooms that do answer. Ends when none has
/// come for a while.
#[derive(Debug)]
pub(crate) struct Patience {
    one: Duration,
    end: Instant,
}

impl Patience {
    /// Begins to wait. `one` is how long the next answer may take.
    pub(crate) fn new(one: Duration) -> Self {
        Self { one, end: Instant::now() + one * ALL }
    }

    /// Returns the next answer. `None` if there is none left, or if none comes in time.
    pub(crate) async fn next<S: Stream + Unpin>(&mut self, answers: &mut S) -> Option<S::Item> {
        let until = self.end.min(Instant::now() + self.one);
        timeout_at(until, answers.next()).await.ok().flatten()
    }
}
