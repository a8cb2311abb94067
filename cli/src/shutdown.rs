//! The life of a command: it runs until it is done or told to stop.

use std::process;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs a command to its end. What it leaves behind is not waited for: a write to a terminal that is paused never ends.
pub(crate) fn run(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = Runtime::new().context("failed to start the runtime")?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// Cancelled by the first SIGINT or SIGTERM. The second ends the process at once: 128 and the number of the signal, as
/// shells count.
pub(crate) fn on_signal() -> Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            if cancelled.is_cancelled() {
                process::exit(code);
            }
            cancelled.cancel();
        }
    });
    Ok(token)
}
