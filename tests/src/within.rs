//! Waiting, but not for ever.

use std::time::Duration;

/// Waits for `future`, and fails the test where it takes longer than `limit`.
///
/// # Panics
/// After `limit`, saying what was waited for.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
