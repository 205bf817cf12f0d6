//! Why nobody was found.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::attempt::AttemptError;
use crate::coordinates::Coordinates;
use crate::net::quic::BindError;

/// What attempts came to.
#[derive(Default)]
pub(super) struct Failures {
    stranger: Option<SocketAddr>,
    local: Option<String>,
}

impl Failures {
    pub(super) fn note(&mut self, peer: SocketAddr, error: AttemptError) {
        match error {
            AttemptError::Stranger => self.stranger = Some(peer),
            AttemptError::Local(what) => self.local = Some(what),
            AttemptError::Silent => {}
        }
    }

    pub(super) fn into_error(
        self,
        hosts: &[SocketAddr],
        coordinates: &Coordinates,
        wait: Duration,
    ) -> DialError {
        // Where the endpoint has several ports to choose from, others may have the rest of them.
        let is_alone = coordinates.ports.first() == coordinates.ports.last();
        if let Some(peer) = self.stranger.filter(|_| is_alone) {
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
        let reason = match (self.local, self.stranger) {
            (_, Some(peer)) => Reason::Others(peer),
            (Some(what), None) => Reason::Local(what),
            (None, None) => Reason::Silent,
        };
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
    #[error("cannot open a socket")]
    Bind(#[from] BindError),
    /// Nobody answered.
    #[error("no endpoint answered on {tried}, ports {ports}, within {} s: {reason}", wait.as_secs())]
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

impl DialError {
    /// Nobody answered at any of these in time, or only a stranger.
    pub(in crate::net) fn unreachable(
        hosts: &[SocketAddr],
        stranger: Option<SocketAddr>,
        coordinates: &Coordinates,
        wait: Duration,
    ) -> Self {
        let failures = Failures {
            stranger,
            local: None,
        };
        failures.into_error(hosts, coordinates, wait)
    }
}

/// Why nobody answered, as far as can be told.
#[derive(Debug)]
pub enum Reason {
    /// No answer of any kind.
    Silent,
    /// Packets could not be sent.
    Local(String),
    /// Another endpoint answered there, at least.
    Others(SocketAddr),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer"),
            Self::Local(what) => f.write_str(what),
            Self::Others(peer) => write!(f, "another one answered at {peer}, this one nowhere"),
        }
    }
}
