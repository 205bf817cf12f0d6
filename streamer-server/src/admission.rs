//! Whether a caller is served while another one is.

use std::time::Duration;

use streamer_core::net::Progress;
use streamer_core::net::link::Connection;
use streamer_core::net::tcp::Pulse;
use streamer_core::wire::message::SessionId;
use tokio::time::{Instant, sleep, timeout};

/// What to do with a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Serve it: it is the one that is served, and comes back.
    Admit,
    /// Find out whether the other one is still there, then serve or refuse it.
    Ask,
}

/// Decides about `caller` while `served` is being served.
pub(crate) fn admission(served: SessionId, caller: SessionId) -> Admission {
    if served == caller {
        Admission::Admit
    } else {
        Admission::Ask
    }
}

/// Whether anything arrives on a connection within a few keep-alive intervals. A client that
/// was killed, or whose network is gone, says nothing, and its connection would otherwise count as
/// served until the idle timeout.
///
/// `progress` is that of its session. Cancel-safe.
pub(crate) async fn is_alive(connection: &Connection, progress: &Progress) -> bool {
    let connection = match connection {
        Connection::Quic(connection) => connection,
        Connection::Tls { open, pulse, .. } => {
            let moved = || progress.snapshot().moved_bytes;
            let (mut open, before) = (open.subscribe(), moved());
            let mut is_lost = async |within| {
                let lost = open.wait_for(|open| !open);
                timeout(within, lost).await.is_ok()
            };
            // The system tells when the other process is gone; the session has to hear of it.
            if is_lost(HEARSAY).await {
                return false;
            }
            if moved() != before {
                return true;
            }
            // Of a network that is gone it tells when it has asked.
            let _feeling = pulse.feel();
            return !is_lost(Pulse::FELT_WITHIN + HEARSAY).await;
        }
    };
    let before = connection.stats().udp_rx.datagrams;
    let deadline = Instant::now() + SILENCE;
    while Instant::now() < deadline {
        if connection.close_reason().is_some() {
            return false;
        }
        if connection.stats().udp_rx.datagrams != before {
            return true;
        }
        sleep(GLANCE).await;
    }
    false
}

/// Three keep-alive intervals of the client.
const SILENCE: Duration = Duration::from_secs(3);

/// From a TCP connection's end to the session's knowing of it.
const HEARSAY: Duration = Duration::from_millis(500);

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_session_may_come_back_and_others_wait_for_its_end() {
        let (a, b) = (SessionId([1; 16]), SessionId([2; 16]));
        assert_eq!(admission(a, a), Admission::Admit);
        assert_eq!(admission(a, b), Admission::Ask);
    }
}
