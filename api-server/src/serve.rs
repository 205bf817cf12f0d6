//! Running the service, from a listener to the last job.

mod connections;
mod impatient;

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
    if let Some(log) = &state.tracing_log {
        log.flush();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Completes on SIGTERM or SIGINT, or when the terminal is closed (SIGHUP), so that no job of a
/// local system is left behind.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn termination() -> io::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Under `nohup` it is ignored, and a handler would change that.
    let mut hangup = match hangup_is_ignored() {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    Ok(async move {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hung_up => {}
        }
    })
}

fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status");
    status.is_ok_and(|status| ignores_hangup(&status))
}

/// Whether SIGHUP, which is number 1, is in the set of ignored signals (proc_pid_status(5)).
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    ignored.is_some_and(|set| set & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Signal, getpid, kill_process};

    #[tokio::test]
    async fn a_closed_terminal_ends_the_service() {
        if hangup_is_ignored() {
            eprintln!("skipped: SIGHUP is ignored");
            return;
        }
        let terminated = termination().unwrap();
        kill_process(getpid(), Signal::HUP).unwrap();
        let soon = Duration::from_secs(5);
        tokio::time::timeout(soon, terminated).await.unwrap();
    }

    #[test]
    fn signals_that_are_ignored() {
        let status = |set: &str| format!("Name:\tx\nSigIgn:\t{set}\nSigCgt:\t1\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup(""));
    }
}
