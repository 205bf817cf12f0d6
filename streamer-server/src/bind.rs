//! Finds the port of an endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr};

use streamer_core::net::quic::{self, Endpoint};
use streamer_core::port_order::port_order;
use streamer_core::{Coordinates, PortRange, TransferSecret, Transport};
use tokio::net::TcpListener;

use crate::config::{Config, ConfigError};

/// An endpoint that listens, and how to reach it.
#[derive(Debug)]
pub struct Bound {
    /// For QUIC.
    pub endpoint: Endpoint,
    /// For TLS, and WebSockets where they are allowed, on the TCP port of the same number.
    pub listener: TcpListener,
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
        match listen(address, &config.secret).await {
            Ok((endpoint, listener)) => {
                let ports = PortRange::new(port, port).unwrap_or(config.ports);
                let coordinates = Coordinates {
                    ports,
                    ips: config.public_ips.clone(),
                    secret: config.secret.clone(),
                    operation: Some(config.operation),
                    transports: transports(config),
                    job: None,
                };
                return Ok(Bound {
                    endpoint,
                    listener,
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

fn transports(config: &Config) -> Vec<Transport> {
    let mut transports = vec![Transport::Quic, Transport::Tls];
    if config.allow_websocket {
        transports.push(Transport::Ws);
    }
    transports
}

/// Both, or neither: the port is one.
async fn listen(
    address: SocketAddr,
    secret: &TransferSecret,
) -> Result<(Endpoint, TcpListener), quic::BindError> {
    let listener = TcpListener::bind(address).await?;
    Ok((Endpoint::bind(address, secret)?, listener))
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
    #[error("no port of {ports} is free for both UDP and TCP on {host}")]
    NoFreePort {
        /// Where.
        host: String,
        /// The range.
        ports: PortRange,
    },
}
