//! Running the service, from a listener to the last job.

use std::future::IntoFuture as _;
use std::io;

use tokio::net::TcpListener;

use crate::app::app;
use crate::state::AppState;
use crate::{health, limits};

/// Serves until `shutdown`, in phases: stop accepting; let open requests finish
/// ([`limits::DRAIN_TIMEOUT`]); let changes in progress finish; end the jobs of local systems.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn run(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopping = tokio_util::sync::CancellationToken::new();
    let mut checks = health::start(&state, &stopping);
    let signal = stopping.clone();
    let graceful = async move {
        shutdown.await;
        tracing::info!("stopping: no new requests");
        signal.cancel();
    };
    let server = axum::serve(listener, app(state.clone())).with_graceful_shutdown(graceful);
    let drained = async {
        stopping.cancelled().await;
        tokio::time::sleep(limits::DRAIN_TIMEOUT).await;
    };
    // Dropping the server closes what is still open: the time for it is over.
    let result = tokio::select! {
        result = server.into_future() => result,
        () = drained => {
            tracing::warn!("open requests did not finish in time");
            Ok(())
        }
    };
    checks.shutdown().await;
    state.shutdown().await;
    tracing::info!("stopped");
    result
}

/// Completes on SIGTERM or SIGINT.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn termination() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
