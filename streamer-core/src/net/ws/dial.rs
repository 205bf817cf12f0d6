//! Finds the endpoint of the Python service that coordinates lead to.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::coordinates::Coordinates;
use crate::error::ErrorCode;
use crate::net::TransferError;
use crate::net::dial::{self, ATTEMPT_TIMEOUT, DialError, DialOptions, Dialled, at_port, dial};
use crate::net::resolve::{Names, by_system};
use crate::net::tcp::Connector;
use crate::net::ws::{ConnectError, PlainLink, connect};
use crate::port_order::port_order;
use crate::session::SessionError;

/// Whether plaintext may be spoken. Never unless somebody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plaintext {
    /// No.
    #[default]
    Never,
    /// To endpoints of the Python service, after QUIC and TLS.
    Allowed,
    /// Nothing else.
    Only,
}

/// An endpoint that was found.
#[derive(Debug)]
pub enum Found {
    /// It proved to hold the secret.
    Proven(Dialled),
    /// It knows the bearer token, or says so: plaintext proves nothing.
    Plain(Box<PlainLink>),
}

/// As [`dial()`], and over the WebSocket protocol as far as `plaintext` says so.
///
/// Where it is allowed, and the coordinates are of the Python service, QUIC and TLS are tried
/// first, and TLS once more at each port before plaintext is spoken to it. An endpoint of
/// ours answers TLS wherever it answers WebSocket, so its coordinates never need plaintext.
///
/// Cancel-safe: dropping it ends all attempts.
///
/// # Errors
/// As [`dial()`]; also when the endpoint serves another client.
pub async fn find(
    coordinates: &Coordinates,
    wanted: DialOptions,
    plaintext: Plaintext,
    wait: Duration,
) -> Result<Found, FindError> {
    // Even who does not want to wait wants to try once.
    let wait = if wait.is_zero() {
        ATTEMPT_TIMEOUT
    } else {
        wait
    };
    let proven = async { Ok(Found::Proven(dial(coordinates, wanted, wait).await?)) };
    match plaintext {
        Plaintext::Allowed if !coordinates.secret.is_key() => {
            let guard = Connector::new(&coordinates.secret).ok();
            // Both arms are dropped with us, or because the other one has found it.
            tokio::select! {
                found = proven => found,
                Ok(found) = search(coordinates, guard, HEAD_START, wait) => Ok(found),
            }
        }
        Plaintext::Never | Plaintext::Allowed => proven.await,
        Plaintext::Only => search(coordinates, None, Duration::ZERO, wait).await,
    }
}

/// Asks at every address and port until one lets us in. With a guard, TLS is tried first.
async fn search(
    coordinates: &Coordinates,
    guard: Option<Connector>,
    head_start: Duration,
    wait: Duration,
) -> Result<Found, FindError> {
    let deadline = Instant::now() + wait;
    sleep_until(deadline.min(Instant::now() + head_start)).await;
    let mut names = Names::new(&coordinates.ips, by_system);
    let bearer = coordinates.secret.bearer();
    let mut refused_by = None;
    loop {
        if names.hosts().is_empty() {
            // There is nobody else to ask. In time, or said below.
            let _ = timeout_at(deadline, names.changed()).await;
        } else {
            let _ = names.changed().now_or_never();
        }
        let round = ask_around(
            names.hosts(),
            coordinates,
            guard.as_ref(),
            &bearer,
            &mut refused_by,
        );
        match timeout_at(deadline, round).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) if Instant::now() + ROUND_PAUSE < deadline => sleep(ROUND_PAUSE).await,
            Ok(Err(busy)) => return Err(busy),
            Ok(Ok(None)) | Err(_) => {
                let unresolved = names.failure().filter(|_| refused_by.is_none());
                let unreachable =
                    || DialError::unreachable(names.hosts(), refused_by, coordinates, wait);
                return Err(unresolved.unwrap_or_else(unreachable).into());
            }
        }
    }
}

/// One round. Connections are opened side by side, since addresses that a firewall drops take
/// long; they are spoken to one after the other, since an endpoint serves one client.
async fn ask_around(
    hosts: &[SocketAddr],
    coordinates: &Coordinates,
    guard: Option<&Connector>,
    bearer: &str,
    refused_by: &mut Option<SocketAddr>,
) -> Result<Option<Found>, FindError> {
    let ports = ports(coordinates);
    let peers: Vec<SocketAddr> = ports
        .iter()
        .flat_map(|port| hosts.iter().map(|host| at_port(*host, *port)))
        .collect();
    for some in peers.chunks(SIDE_BY_SIDE) {
        let mut opening = JoinSet::new();
        for peer in some.iter().copied() {
            opening.spawn(timeout(ATTEMPT_TIMEOUT, TcpStream::connect(peer)));
        }
        while let Some(opened) = opening.join_next().await {
            let Ok(Ok(Ok(stream))) = opened else { continue };
            let Ok(peer) = stream.peer_addr() else {
                continue;
            };
            if let Some(connector) = guard
                && let Ok(dialled) = dial::try_tls(connector.clone(), peer).await
            {
                return Ok(Some(Found::Proven(dialled)));
            }
            match timeout(ATTEMPT_TIMEOUT, connect(stream, bearer)).await {
                Ok(Ok(link)) => return Ok(Some(Found::Plain(Box::new(link)))),
                Ok(Err(ConnectError::Refused)) => *refused_by = Some(peer),
                Ok(Err(ConnectError::Busy)) => return Err(FindError::Busy),
                Ok(Err(ConnectError::Failed)) | Err(_) => {}
            }
        }
    }
    Ok(None)
}

/// The Python endpoint takes the first free port, ours the first of its own order.
fn ports(coordinates: &Coordinates) -> Vec<u16> {
    if coordinates.secret.is_key() {
        port_order(&coordinates.secret, coordinates.ports)
    } else {
        (coordinates.ports.first()..=coordinates.ports.last()).collect()
    }
}

/// Nobody was found who serves us.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// Nobody at all.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Somebody who serves another client.
    #[error("{}", ErrorCode::Busy)]
    Busy,
}

impl FindError {
    /// The same, as a session's end or a search's.
    ///
    /// # Errors
    /// When it was busy.
    pub fn into_dial(self) -> Result<DialError, TransferError> {
        match self {
            Self::Dial(error) => Ok(error),
            Self::Busy => Err(SessionError::Peer(ErrorCode::Busy).into()),
        }
    }
}

/// What QUIC and TLS get: several round trips of the longest paths.
const HEAD_START: Duration = Duration::from_secs(1);

/// Between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(250);

/// TCP connections that are opened at a time.
const SIDE_BY_SIDE: usize = 64;
