//! The signals that end a process in good order.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT; gives its name.
///
/// # Errors
/// The operating system's error where signals cannot be waited for.
pub(crate) async fn ended() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
