//! Finds the port of an endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr};

use streamer_core::net::quic::{self, Endpoint};
use streamer_core::port_order::port_order;
use streamer_core::{Coordinates, PortRange, Transport};

use crate::config::{Config, ConfigError};

/// An endpoint that listens, and how to reach it.
#[derive(Debug)]
pub struct Bound {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Where it listens.
    pub address: SocketAddr,
    /// What a client needs.
    pub coordinates: Coordinates,
}

/// Listens on the first free port of the order that follows from the secret.
///
/// # Errors
/// When the host does not resolve, or no port of the range is free.
pub async fn bind(config: &Config) -> Result<Bound, BindError> {
    let ip = resolve(&config.host).await?;
    if config.secret.is_guessable() && !ip.is_loopback() {
        return Err(ConfigError::GuessableSecret.into());
    }
    for port in port_order(&config.secret, config.ports) {
        let address = SocketAddr::new(ip, port);
        match Endpoint::bind(address, &config.secret) {
            Ok(endpoint) => {
                let ports = PortRange::new(port, port).unwrap_or(config.ports);
                let coordinates = Coordinates {
                    ports,
                    ips: config.public_ips.clone(),
                    secret: config.secret.clone(),
                    operation: Some(config.operation),
                    transports: vec![Transport::Quic],
                };
                return Ok(Bound {
                    endpoint,
                    address,
                    coordinates,
                });
            }
            Err(quic::BindError::Io(error)) if is_taken(&error) => {}
            Err(source) => return Err(BindError::Socket { address, source }),
        }
    }
    Err(BindError::NoFreePort {
        host: config.host.clone(),
        ports: config.ports,
    })
}

async fn resolve(host: &str) -> Result<IpAddr, BindError> {
    let failed = |source| BindError::Resolve {
        host: host.to_owned(),
        source,
    };
    let mut found = tokio::net::lookup_host((host, 0))
        .await
        .map_err(failed)?
        .peekable();
    let first = found.peek().map(SocketAddr::ip);
    // Existing clients are told "localhost" and try IPv4 first.
    found
        .map(|address| address.ip())
        .find(IpAddr::is_ipv4)
        .or(first)
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Ports under 1024 of an unprivileged user are as good as taken.
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// Why an endpoint does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// It must not.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The name has no address.
    #[error("cannot resolve the host '{host}'")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// A port that is free could not be used.
    #[error("cannot listen on {address}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: quic::BindError,
    },
    /// Every port is taken.
    #[error("no UDP port of {ports} is free on {host}")]
    NoFreePort {
        /// Where.
        host: String,
        /// The range.
        ports: PortRange,
    },
}
