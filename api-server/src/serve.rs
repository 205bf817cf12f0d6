//! Running the service, from a listener to the last job.

use std::future::IntoFuture as _;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::app;
use crate::state::AppState;
use crate::{health, limits};

/// Serves until `shutdown`, in phases: stop accepting; let open requests finish
/// ([`limits::DRAIN_TIMEOUT`]), then answer them with 503; let changes in progress finish; end
/// the jobs of local systems.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn run(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    run_draining(listener, state, shutdown, limits::DRAIN_TIMEOUT).await
}

/// As [`run`], with another time for open requests.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn run_draining(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    let stopping = CancellationToken::new();
    let mut checks = health::start(&state, &stopping);
    let signal = stopping.clone();
    let graceful = async move {
        shutdown.await;
        tracing::info!("stopping: no new requests");
        signal.cancel();
    };
    let server = axum::serve(listener, app(state.clone())).with_graceful_shutdown(graceful);
    let mut server = pin!(server.into_future());
    let drained = async {
        stopping.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let result = tokio::select! {
        result = &mut server => result,
        () = drained => {
            tracing::warn!("open requests did not finish in time");
            // Connections are tasks of their own: dropping the server would not end them.
            state.closing.cancel();
            let closed = tokio::time::timeout(limits::CLOSE_TIMEOUT, server).await;
            closed.unwrap_or(Ok(()))
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
