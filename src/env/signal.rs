//! The signals that stop the process.

use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or SIGINT; its name.
///
/// # Errors
/// When the system does not let us listen to signals.
pub async fn stop() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = std::future::poll_fn(|context| {
        if terminate.poll_recv(context).is_ready() {
            return std::task::Poll::Ready("SIGTERM");
        }
        interrupt.poll_recv(context).map(|_| "SIGINT")
    });
    Ok(name.await)
}
