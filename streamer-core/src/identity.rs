//! Who both sides are, as derived from the secret: two key pairs and a public name.

use std::fmt;

use zeroize::Zeroizing;

use crate::secret::{Purpose, TransferSecret};

/// Who waits and who connects. Independent of who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The endpoint, hosted by a job.
    Listener,
    /// The user's client.
    Dialer,
}

/// Ed25519 private key in PKCS#8 v1 form (RFC 8410 § 7), cleared on drop.
pub fn pkcs8_key(secret: &TransferSecret, side: Side) -> Zeroizing<Vec<u8>> {
    let purpose = match side {
        Side::Listener => Purpose::EndpointKey,
        Side::Dialer => Purpose::ClientKey,
    };
    let seed: Zeroizing<[u8; 32]> = secret.derive(purpose);
    let mut der = Zeroizing::new(Vec::with_capacity(ED25519_PKCS8_PREFIX.len() + seed.len()));
    der.extend_from_slice(ED25519_PKCS8_PREFIX);
    der.extend_from_slice(&*seed);
    der
}

/// Public name of a transfer: derived one way, safe to log and to print.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransferId([u8; 8]);

impl TransferId {
    /// The name that follows from the secret.
    pub fn new(secret: &TransferSecret) -> Self {
        Self(*secret.derive(Purpose::TransferId))
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferId({self})")
    }
}

/// DER of everything before the 32-byte seed.
const ED25519_PKCS8_PREFIX: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    #[test]
    fn both_sides_derive_the_same_two_distinct_keys() {
        let secret = TransferSecret::generate().unwrap();
        let again = TransferSecret::parse(&secret.expose_text()).unwrap();
        let public = |secret: &TransferSecret, side| {
            let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8_key(secret, side)).unwrap();
            key.public_key().as_ref().to_vec()
        };
        for side in [Side::Listener, Side::Dialer] {
            assert_eq!(public(&secret, side), public(&again, side));
        }
        assert_ne!(
            public(&secret, Side::Listener),
            public(&secret, Side::Dialer)
        );
    }

    #[test]
    fn the_transfer_id_is_short_and_stable() {
        let secret = TransferSecret::parse("wCQX1nYqHW3wxJ8vX0dQzA").unwrap();
        assert_eq!(TransferId::new(&secret), TransferId::new(&secret.clone()));
        assert_eq!(TransferId::new(&secret).to_string().len(), 16);
    }
}
