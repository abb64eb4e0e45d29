//! Waiting, but not for ever; and the step of a test that a failed wait names.

use std::cell::RefCell;
use std::time::Duration;

thread_local! {
    /// Every test has a thread of its own.
    static STEP: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Names what the test does from here on: a wait that fails says so.
pub fn step(what: impl Into<String>) {
    STEP.replace(what.into());
}

/// Waits for `future`.
///
/// # Panics
/// After `limit`, with what was waited for and the step of the test.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => {
            let step =
                STEP.with_borrow(|step| if step.is_empty() { String::new() } else { format!(" (step: {step})") });
            panic!("not within {limit:?}: {what}{step}")
        }
    }
}
