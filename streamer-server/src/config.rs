//! What an endpoint is told.

use std::path::PathBuf;
use std::time::Duration;

use streamer_core::store::target::Existing;
use streamer_core::{Operation, PortRange, TransferSecret};

/// What an endpoint is told. Every field is meant: there are no defaults here.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address or name to listen on.
    pub host: String,
    /// Addresses or names to announce to the client.
    pub public_ips: Vec<String>,
    /// The first free port in the order that follows from the secret is taken.
    pub ports: PortRange,
    /// Longest time without a client.
    pub wait_timeout: Duration,
    /// Most bytes that are received; one more is refused before any is written.
    pub inbound_limit_bytes: u64,
    /// The root of both identities.
    pub secret: TransferSecret,
    /// What the endpoint does.
    pub operation: Operation,
    /// Source or target.
    pub path: PathBuf,
    /// What becomes of a target that exists; a source has none.
    pub existing: Existing,
    /// Also answer the plaintext WebSocket protocol of the Python service, on the TCP port.
    pub allow_websocket: bool,
}

/// A configuration that cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Whoever reaches the endpoint could try words against its public key.
    #[error("the given secret is too short to be safe on an address other than loopback")]
    GuessableSecret,
}
