//! Finds the endpoint that coordinates lead to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::coordinates::Coordinates;
use crate::dial_plan::{DialPlan, PORT_STAGGER, Round};
use crate::limits;
use crate::net::quic::{BindError, Endpoint};
use crate::port_order::port_order;

/// An endpoint that proved to hold the secret.
#[derive(Debug)]
pub struct Dialled {
    /// Ours; keep it as long as the connection.
    pub endpoint: Endpoint,
    /// To the endpoint.
    pub connection: quinn::Connection,
}

/// Tries the ports of all addresses, in the order that follows from the secret, until one
/// answers as the endpoint or `wait` has passed.
///
/// Cancel-safe: dropping it ends all attempts.
///
/// # Errors
/// When no name resolves, no socket can be made, or nobody answered in time.
pub async fn dial(coordinates: &Coordinates, wait: Duration) -> Result<Dialled, DialError> {
    let start = Instant::now();
    let deadline = start + wait;
    let hosts = resolve(&coordinates.ips).await?;
    let dialers = dialers(coordinates, &hosts)?;
    let ports = port_order(&coordinates.secret, coordinates.ports);
    let mut attempts: JoinSet<Attempt> = JoinSet::new();
    let mut plan = DialPlan::new(ports.len());
    let mut round = plan.next();
    let mut failures = Failures::default();
    loop {
        let next = round.as_ref().map_or(deadline, |round| start + round.at);
        tokio::select! {
            () = sleep_until(deadline) => return Err(failures.into_error(&hosts, coordinates, wait)),
            () = sleep_until(next), if next < deadline => {
                if let Some(round) = round.take() {
                    begin(&mut attempts, &dialers, &hosts, &ports, &round);
                }
                round = plan.next();
            }
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Attempt { endpoint, result: Ok(connection), .. }) => {
                    return Ok(Dialled { endpoint, connection });
                }
                Ok(Attempt { peer, result: Err(error), .. }) => failures.note(peer, error),
                // Cancelled only with us; a panic is a failed attempt.
                Err(_) => {}
            },
        }
    }
}

type Dialers = HashMap<bool, Endpoint>;

struct Attempt {
    endpoint: Endpoint,
    peer: SocketAddr,
    result: Result<quinn::Connection, AttemptError>,
}

enum AttemptError {
    /// Somebody answered who is not our endpoint.
    Stranger,
    Silent,
    Local(String),
}

fn begin(
    attempts: &mut JoinSet<Attempt>,
    dialers: &Dialers,
    hosts: &[SocketAddr],
    ports: &[u16],
    round: &Round,
) {
    for (i, port) in (0u32..).zip(round.ports.iter().filter_map(|index| ports.get(*index))) {
        for host in hosts {
            let peer = SocketAddr::new(host.ip(), *port);
            let Some(endpoint) = dialers.get(&peer.is_ipv4()) else {
                continue;
            };
            if attempts.len() >= MAX_ATTEMPTS {
                return;
            }
            let endpoint = endpoint.clone();
            let at = Instant::now() + PORT_STAGGER * i;
            attempts.spawn(async move {
                sleep_until(at).await;
                let result = attempt(&endpoint, peer).await;
                Attempt {
                    endpoint,
                    peer,
                    result,
                }
            });
        }
    }
}

async fn attempt(endpoint: &Endpoint, peer: SocketAddr) -> Result<quinn::Connection, AttemptError> {
    let connecting = endpoint
        .connect(peer)
        .map_err(|error| AttemptError::Local(error.to_string()))?;
    match timeout(ATTEMPT_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(quinn::ConnectionError::TransportError(_))) => Err(AttemptError::Stranger),
        Ok(Err(_)) | Err(_) => Err(AttemptError::Silent),
    }
}

async fn resolve(names: &[String]) -> Result<Vec<SocketAddr>, DialError> {
    let mut hosts: Vec<SocketAddr> = Vec::new();
    let mut failure = None;
    for name in names {
        match tokio::net::lookup_host((name.as_str(), 0)).await {
            Ok(found) => hosts.extend(found.take(limits::COORDINATES_MAX_IPS)),
            Err(error) => failure = Some((name.clone(), error)),
        }
    }
    hosts.sort_unstable();
    hosts.dedup();
    hosts.truncate(limits::COORDINATES_MAX_IPS);
    match (hosts.is_empty(), failure) {
        (true, Some((name, source))) => Err(DialError::Resolve { name, source }),
        _ => Ok(hosts),
    }
}

fn dialers(coordinates: &Coordinates, hosts: &[SocketAddr]) -> Result<Dialers, BindError> {
    let mut dialers = Dialers::new();
    for host in hosts {
        if let Entry::Vacant(vacant) = dialers.entry(host.is_ipv4()) {
            vacant.insert(Endpoint::dialer(*host, &coordinates.secret)?);
        }
    }
    Ok(dialers)
}

#[derive(Default)]
struct Failures {
    stranger: Option<SocketAddr>,
    local: Option<String>,
}

impl Failures {
    fn note(&mut self, peer: SocketAddr, error: AttemptError) {
        match error {
            AttemptError::Stranger => self.stranger = Some(peer),
            AttemptError::Local(what) => self.local = Some(what),
            AttemptError::Silent => {}
        }
    }

    fn into_error(
        self,
        hosts: &[SocketAddr],
        coordinates: &Coordinates,
        wait: Duration,
    ) -> DialError {
        if let Some(peer) = self.stranger {
            return DialError::Stranger { peer };
        }
        let shown: Vec<String> = hosts
            .iter()
            .take(4)
            .map(|host| host.ip().to_string())
            .collect();
        let more = hosts.len().saturating_sub(shown.len());
        let mut tried = shown.join(", ");
        if more > 0 {
            tried.push_str(&format!(" and {more} more"));
        }
        let ports = coordinates.ports;
        let reason = self.local.map_or(Reason::Silent, Reason::Local);
        DialError::Unreachable {
            tried,
            ports: ports.to_string(),
            wait,
            reason,
        }
    }
}

/// Nobody was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No name in the coordinates has an address.
    #[error("cannot resolve '{name}'")]
    Resolve {
        /// The last one tried.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// No socket.
    #[error("cannot open a UDP socket")]
    Bind(#[from] BindError),
    /// Nobody answered.
    #[error("no endpoint answered on {tried}, UDP ports {ports}, within {} s: {reason}", wait.as_secs())]
    Unreachable {
        /// Addresses.
        tried: String,
        /// Range of ports.
        ports: String,
        /// For how long.
        wait: Duration,
        /// What was seen last.
        reason: Reason,
    },
    /// Somebody answered who does not hold the secret.
    #[error("{peer} answered, but does not hold the secret of these coordinates")]
    Stranger {
        /// Who.
        peer: SocketAddr,
    },
}

/// Why nobody answered, as far as can be told.
#[derive(Debug)]
pub enum Reason {
    /// No answer of any kind.
    Silent,
    /// Packets could not be sent.
    Local(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Local(what) => f.write_str(what),
        }
    }
}

/// For one handshake: several round trips of the longest paths, and one lost packet.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// Attempts under way at a time.
const MAX_ATTEMPTS: usize = 256;
