//! The signals that end a process in order.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT, and returns its name.
///
/// # Errors
/// The error of the operating system if the process cannot wait for signals.
pub(crate) async fn ended() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
