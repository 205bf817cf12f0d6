//! What crosses the network: messages on the control stream, records on data streams.
//! Specification: `docs/PROTOCOL.md`.

pub mod codec;
pub mod message;
pub mod record;

/// Application protocol negotiated in TLS (RFC 7301). The number changes with any change
/// that an older side could not ignore.
pub const ALPN: &[u8] = b"firecrest-streamer/2";

/// Version spoken inside [`ALPN`], exchanged in `Hello`.
pub const VERSION: u16 = 1;
