//! One attempt to reach an endpoint at one address.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::Dialled;
use crate::net::quic::Endpoint;
use crate::net::tcp::{Connector, TlsStream};

/// Why it did not.
pub(in crate::net) enum AttemptError {
    /// Somebody answered who is not our endpoint.
    Stranger,
    Silent,
    Local(String),
}

/// A timer would wait to the end of a millisecond, also for what is due.
pub(super) async fn wait_for(at: Instant) {
    if at > Instant::now() {
        sleep_until(at).await;
    }
}

/// Over QUIC, or over TLS where `near` finds it the better one. Both are dialled at once: TCP
/// first, since the keys of QUIC take longer to make than its packet to send.
pub(super) async fn try_quic(
    endpoint: Endpoint,
    near: impl Future<Output = Option<Dialled>>,
    peer: SocketAddr,
) -> Result<Dialled, AttemptError> {
    let near = pin!(near);
    let quic = pin!(connect_quic(endpoint.clone(), peer));
    // Of a connection that is dropped the endpoint is told.
    let (connected, near) = match select(near, quic).await {
        Either::Left((Some(dialled), _)) => return Ok(dialled),
        Either::Left((None, quic)) => (quic.await, None),
        Either::Right((connected, near)) => (connected, Some(near)),
    };
    let connection = connected?;
    if is_cheaper_over_tcp(connection.min_rtt())
        && let Some(near) = near
        && let Some(dialled) = near.await
    {
        connection.close(quinn::VarInt::from_u32(0), &[]);
        return Ok(dialled);
    }
    Ok(Dialled::Quic {
        endpoint,
        connection,
    })
}

async fn connect_quic(
    endpoint: Endpoint,
    peer: SocketAddr,
) -> Result<quinn::Connection, AttemptError> {
    let connecting = endpoint
        .connect(peer)
        .map_err(|error| AttemptError::Local(error.to_string()))?;
    match timeout(ATTEMPT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(quinn::ConnectionError::TransportError(_))) => Err(AttemptError::Stranger),
        Ok(Err(_)) | Err(_) => Err(AttemptError::Silent),
    }
}

/// Over TLS, where the path is so short that TCP is the cheaper one: `None` where it is not, or
/// TCP does not get through. So many spare connections are begun with it, and given up with it.
pub(super) async fn try_near(
    connector: Option<Connector>,
    peer: SocketAddr,
    spare: u16,
) -> Option<Dialled> {
    let connector = connector?;
    let mut begun = JoinSet::new();
    for _ in 0..spare.min(MAX_SPARE) {
        begun.spawn(connect_near(connector.clone(), peer));
    }
    // Goes first: what is spawned waits for its turn.
    let stream = connect_near(connector.clone(), peer).await?;
    Some(Dialled::Tls {
        stream: Box::new(stream),
        connector,
        preferred: true,
        spare: begun,
    })
}

async fn connect_near(connector: Connector, peer: SocketAddr) -> Option<TlsStream> {
    let socket = timeout(NEAR, connector.open(peer)).await.ok()?.ok()?;
    let handshake = timeout(PREFER_WAIT, connector.shake_hands(socket));
    handshake.await.ok()?.ok()
}

/// Over TLS, wherever it is.
pub(in crate::net) async fn try_tls(
    connector: Connector,
    peer: SocketAddr,
) -> Result<Dialled, AttemptError> {
    match timeout(ATTEMPT_TIMEOUT, connector.connect(peer)).await {
        Ok(Ok(stream)) => Ok(Dialled::Tls {
            connector,
            stream: Box::new(stream),
            preferred: false,
            spare: JoinSet::new(),
        }),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(AttemptError::Stranger),
        Ok(Err(_)) | Err(_) => Err(AttemptError::Silent),
    }
}

/// Whether TCP moves more for the same processor time, and cannot lose much on the way: on a
/// short path, since the kernel and the network card cut and join packets for TCP. On longer
/// ones QUIC's congestion control is the better one.
fn is_cheaper_over_tcp(round_trip: Duration) -> bool {
    round_trip < NEAR
}

/// A machine on the same campus, or in the next town.
const NEAR: Duration = Duration::from_millis(10);

/// For TLS to shake hands on a near path.
const PREFER_WAIT: Duration = Duration::from_millis(250);

/// For one handshake: several round trips of the longest paths, and one lost packet.
pub(in crate::net) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections that are opened before it is known whether they are wanted: the endpoint keeps
/// few strangers waiting.
const MAX_SPARE: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_preferred_on_short_paths_only() {
        assert!(is_cheaper_over_tcp(Duration::from_micros(300)));
        assert!(!is_cheaper_over_tcp(Duration::from_millis(15)));
    }
}
