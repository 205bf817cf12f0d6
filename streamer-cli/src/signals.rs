//! SIGINT and SIGTERM.

use std::io;

use streamer_core::ErrorCode;
use streamer_core::net::stop::Stop;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells when to stop, and with which code: the first signal asks, the second ends the
/// program at once.
pub(crate) fn watch() -> io::Result<Stop> {
    let (asked, stop) = watch::channel(None);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Lives as long as the runtime, which ends with the program.
    drop(tokio::spawn(async move {
        loop {
            // Cancel-safe per tokio's documentation.
            let code = tokio::select! {
                _ = interrupt.recv() => ErrorCode::Interrupted,
                _ = terminate.recv() => ErrorCode::Terminated,
            };
            if asked.borrow().is_some() && code == ErrorCode::Interrupted {
                leave();
            }
            let _ = asked.send(Some(code));
        }
    }));
    Ok(stop)
}

#[expect(clippy::exit, reason = "the user asked twice")]
fn leave() -> ! {
    std::process::exit(130)
}
