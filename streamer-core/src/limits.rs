//! Every bound on what comes from outside. A length from a peer never sizes an allocation
//! beyond these.

/// Longest coordinates text accepted, in bytes: 64 names of 253 bytes fit after base64.
pub const COORDINATES_TEXT_MAX_BYTES: usize = 32 * 1024;

/// Most addresses in coordinates.
pub const COORDINATES_MAX_IPS: usize = 64;

/// Longest address or host name in coordinates, in bytes (RFC 1035 § 2.3.4).
pub const HOST_NAME_MAX_BYTES: usize = 253;

/// Longest secret text accepted, in bytes.
pub const SECRET_TEXT_MAX_BYTES: usize = 1024;

/// Shortest given secret accepted beyond loopback, in URL-safe characters (128 bits).
pub const SECRET_TEXT_MIN_CHARS: usize = 22;
