//! Running the service, from a listener to the last job.

mod connections;

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use connections::Bounds;

use crate::app::app;
use crate::state::AppState;
use crate::{health, limits};

/// Serves until `shutdown`, in phases: stop accepting; let open requests finish
/// ([`limits::DRAIN_TIMEOUT`]), then answer them with 503; let changes in progress finish; end
/// the jobs of local systems.
///
/// # Errors
/// None at present: what prevents accepting is logged and tried again.
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
/// None at present: what prevents accepting is logged and tried again.
pub async fn run_draining(
    listener: TcpListener,
    state: AppState,
    shutdown: impl Future<Output = ()> + Send + 'static,
    drain: Duration,
) -> io::Result<()> {
    let stopping = CancellationToken::new();
    let mut checks = health::start(&state, &stopping);
    let signal = stopping.clone();
    let service = app(state.clone());
    let mut server = pin!(connections::serve(
        listener,
        service,
        Bounds::new(),
        stopping.clone()
    ));
    let drained = async move {
        shutdown.await;
        tracing::info!("stopping: no new requests");
        signal.cancel();
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        () = &mut server => {}
        () = drained => {
            tracing::warn!("open requests did not finish in time");
            // Handlers end, and their connections write that.
            state.closing.cancel();
            // An answer that is not read by then is given up.
            let _ = tokio::time::timeout(limits::CLOSE_TIMEOUT, server).await;
        }
    }
    checks.shutdown().await;
    state.shutdown().await;
    tracing::info!("stopped");
    Ok(())
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
