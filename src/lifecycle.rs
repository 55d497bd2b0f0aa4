//! How the process ends: the first signal asks, the second insists.

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The exit code of a process that was interrupted (128 + SIGINT).
pub const INTERRUPTED: u8 = 130;

/// Cancels `stop` at the first INT or TERM, and ends the process at the second: what was recorded stays recorded.
///
/// # Errors
/// Where the operating system does not let us listen.
pub fn listen(stop: CancellationToken) -> std::io::Result<JoinHandle<()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    #[expect(clippy::disallowed_methods, reason = "the lifecycle spawns what the rest of the process is ended by")]
    let listener = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                warn!("second signal: ending at once");
                std::process::exit(i32::from(INTERRUPTED));
            }
            info!("signal: ending in an orderly way");
            stop.cancel();
        }
    });
    Ok(listener)
}
