//! The secret of one transfer: a type that cannot be printed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::{Zeroize, Zeroizing};

use crate::limits;

/// What both sides of a transfer know and nobody else does; everything else about their
/// identity is derived from it (`docs/PROTOCOL.md#identity`).
///
/// `Debug` shows nothing of it, there is no `Display`, and the memory is cleared on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct TransferSecret(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// 32 random bytes: the `key` of version 2 coordinates.
    Key([u8; KEY_BYTES]),
    /// A text from the existing Python service or its job template.
    Shared(String),
}

/// Length of a version 2 key, in bytes.
pub const KEY_BYTES: usize = 32;

impl TransferSecret {
    /// A fresh random key.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, SecretError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new()
            .fill(key.as_mut_slice())
            .map_err(|_| SecretError::NoRandomness)?;
        Ok(Self(Kind::Key(*key)))
    }

    /// Reads a secret as it stands in a file, the environment or an argument: 43 URL-safe
    /// base64 characters are a key, any other text is a shared secret of the Python service.
    /// White space around it is ignored.
    ///
    /// # Errors
    /// When the text is empty, too long, or not printable ASCII.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.len() > limits::SECRET_TEXT_MAX_BYTES {
            return Err(SecretError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SecretError::NotPrintable);
        }
        Ok(Self::from_key_text(text).unwrap_or_else(|| Self(Kind::Shared(text.to_owned()))))
    }

    /// Reads the `key` of version 2 coordinates; `None` unless it is 32 bytes of base64.
    pub(crate) fn from_key_text(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Self(Kind::Key(bytes.as_slice().try_into().ok()?)))
    }

    /// The text that [`parse`](Self::parse) reads back, for a file of mode 0600 or the
    /// environment of one process. Never log it, never put it in an argument.
    pub fn expose_text(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.0 {
            Kind::Key(key) => URL_SAFE_NO_PAD.encode(key),
            Kind::Shared(text) => text.clone(),
        })
    }

    /// Whether this is a version 2 key, as opposed to a text of the Python service.
    pub fn is_key(&self) -> bool {
        matches!(self.0, Kind::Key(_))
    }

    /// Whether a stranger who sees the endpoint's public key could try words against it:
    /// under 128 bits. Such a secret is for loopback only (design § 3).
    pub fn is_guessable(&self) -> bool {
        match &self.0 {
            Kind::Key(_) => false,
            Kind::Shared(text) => text.len() < limits::SECRET_TEXT_MIN_CHARS,
        }
    }

    /// What the existing WebSocket client sends as bearer token, in the clear. For a key it
    /// is derived one way, so that it opens nothing else.
    pub fn bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.0 {
            Kind::Key(_) => {
                URL_SAFE_NO_PAD.encode(self.derive::<16>(Purpose::WebSocketBearer).as_slice())
            }
            Kind::Shared(text) => text.clone(),
        })
    }

    /// `N` bytes for one purpose, by HKDF-SHA-256 (RFC 5869) over the secret.
    pub fn derive<const N: usize>(&self, purpose: Purpose) -> Zeroizing<[u8; N]> {
        let input = match &self.0 {
            Kind::Key(key) => key.as_slice(),
            Kind::Shared(text) => text.as_bytes(),
        };
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, HKDF_SALT).extract(input);
        let mut out = Zeroizing::new([0; N]);
        let info = [purpose.label()];
        let filled = key
            .expand(&info, Length(N))
            .and_then(|okm| okm.fill(out.as_mut_slice()));
        // Local invariant: HKDF-SHA-256 yields up to 255 × 32 bytes, N is a small constant.
        assert!(filled.is_ok(), "HKDF output of {N} bytes is out of range");
        out
    }
}

/// What derived bytes are for. One label each, so that no two purposes share bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Ed25519 seed of the endpoint, which listens.
    EndpointKey,
    /// Ed25519 seed of the client, which dials.
    ClientKey,
    /// Public name of the transfer, safe to log.
    TransferId,
    /// Order in which the ports of the range are tried.
    PortOrder,
    /// Bearer token of the WebSocket protocol.
    WebSocketBearer,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::EndpointKey => b"endpoint key",
            Self::ClientKey => b"client key",
            Self::TransferId => b"transfer id",
            Self::PortOrder => b"port order",
            Self::WebSocketBearer => b"websocket bearer",
        }
    }
}

/// Why a secret cannot be used. Never contains the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Nothing but white space.
    #[error("the secret is empty")]
    Empty,
    /// Over [`limits::SECRET_TEXT_MAX_BYTES`].
    #[error("the secret is longer than {} bytes", limits::SECRET_TEXT_MAX_BYTES)]
    TooLong,
    /// Blanks or control characters inside.
    #[error("the secret contains characters other than printable ASCII")]
    NotPrintable,
    /// The operating system's generator failed.
    #[error("the operating system gave no randomness")]
    NoRandomness,
}

impl fmt::Debug for TransferSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransferSecret(redacted)")
    }
}

impl Drop for TransferSecret {
    fn drop(&mut self) {
        match &mut self.0 {
            Kind::Key(key) => key.zeroize(),
            Kind::Shared(text) => text.zeroize(),
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Public and fixed: it separates our use of HKDF from any other over the same secret.
const HKDF_SALT: &[u8] = b"firecrest-streamer/2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_text_round_trips() {
        let secret = TransferSecret::generate().unwrap();
        assert!(secret.is_key());
        assert_eq!(
            TransferSecret::parse(&secret.expose_text()).unwrap(),
            secret
        );
    }

    #[test]
    fn a_python_secret_stays_its_own_bearer() {
        let secret = TransferSecret::parse("TVRCYkFHaUQ0TlRjMQ-aaa\n").unwrap();
        assert!(!secret.is_key());
        assert_eq!(secret.bearer().as_str(), "TVRCYkFHaUQ0TlRjMQ-aaa");
        assert!(!secret.is_guessable());
        assert!(TransferSecret::parse("hunter2").unwrap().is_guessable());
    }

    #[test]
    fn nothing_printable_contains_the_secret() {
        let secret = TransferSecret::parse("correct-horse-battery-staple").unwrap();
        assert_eq!(format!("{secret:?}"), "TransferSecret(redacted)");
    }

    #[test]
    fn derivations_are_fixed_and_differ_by_purpose() {
        let secret = TransferSecret(Kind::Key([7; KEY_BYTES]));
        let endpoint = secret.derive::<32>(Purpose::EndpointKey);
        let client = secret.derive::<32>(Purpose::ClientKey);
        assert_ne!(endpoint, client);
        assert_eq!(secret.bearer().len(), 22);
        // Pinned: a change here cuts us off from every older version.
        insta::assert_snapshot!(URL_SAFE_NO_PAD.encode(endpoint));
    }

    #[test]
    fn bad_texts_are_refused() {
        assert_eq!(TransferSecret::parse(" \n"), Err(SecretError::Empty));
        assert_eq!(TransferSecret::parse("a b"), Err(SecretError::NotPrintable));
        assert_eq!(
            TransferSecret::parse(&"x".repeat(1025)),
            Err(SecretError::TooLong)
        );
    }
}
