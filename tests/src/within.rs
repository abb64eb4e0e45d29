//! Waiting with a limit, and the step of a test that a failed wait names.

use std::cell::RefCell;
use std::time::Duration;

/// How long [`until`] waits.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    /// The current step. Every test has its own thread.
    static STEP: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Names what the test does from here on. A wait that fails prints it.
pub fn step(what: impl Into<String>) {
    STEP.replace(what.into());
}

/// Waits for `future`, for at most `limit`.
///
/// # Panics
/// If it takes longer. The message names what was waited for and the step of the test.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}{}", at_step()),
    }
}

/// Returns words that name the current step.
pub(crate) fn at_step() -> String {
    STEP.with_borrow(|step| if step.is_empty() { String::new() } else { format!(" (step: {step})") })
}

/// Waits until `fact` holds, for at most 20 s, and looks 100 times a second.
///
/// # Panics
/// If it takes longer, like [`within`].
pub async fn until(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !fact().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(PATIENCE, what, wait).await;
}
