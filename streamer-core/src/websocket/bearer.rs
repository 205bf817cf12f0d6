//! Whether a caller knows the bearer token.

use std::fmt;

use ring::hmac;
use ring::rand::SystemRandom;

use crate::secret::{SecretError, TransferSecret};

/// Compares what callers present with the token, in a time that does not depend on where they
/// differ: both are put through an HMAC under a key that nobody else knows.
#[derive(Clone)]
pub struct BearerCheck {
    key: hmac::Key,
    tag: hmac::Tag,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BearerError {
    /// No token: HTTP 401.
    Missing,
    /// Another token: HTTP 403.
    Wrong,
}

impl BearerCheck {
    /// For the token of this secret.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn new(secret: &TransferSecret) -> Result<Self, SecretError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| SecretError::NoRandomness)?;
        let tag = hmac::sign(&key, secret.bearer().as_bytes());
        Ok(Self { key, tag })
    }

    /// Checks the value of an `Authorization` header.
    ///
    /// # Errors
    /// When there is none, it is of another kind, or the token is another one.
    pub fn check(&self, authorization: Option<&[u8]>) -> Result<(), BearerError> {
        let value = authorization.ok_or(BearerError::Missing)?;
        let (kind, token) = value
            .split_at_checked(SCHEME.len())
            .ok_or(BearerError::Missing)?;
        if !kind.eq_ignore_ascii_case(SCHEME) {
            return Err(BearerError::Missing);
        }
        hmac::verify(&self.key, token.trim_ascii(), self.tag.as_ref())
            .map_err(|_| BearerError::Wrong)
    }
}

impl fmt::Debug for BearerCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerCheck")
    }
}

/// What stands before the token (RFC 6750 § 2.1; the scheme is case-insensitive).
const SCHEME: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_and_others_are_told_apart_from_none() {
        let secret = TransferSecret::parse("TVRCYkFHaUQ0TlRjMQ-aaa").unwrap();
        let check = BearerCheck::new(&secret).unwrap();
        let says = |value: &str| check.check(Some(value.as_bytes()));
        assert_eq!(says("Bearer TVRCYkFHaUQ0TlRjMQ-aaa"), Ok(()));
        assert_eq!(says("bearer  TVRCYkFHaUQ0TlRjMQ-aaa"), Ok(()));
        assert_eq!(
            says("Bearer TVRCYkFHaUQ0TlRjMQ-aab"),
            Err(BearerError::Wrong)
        );
        assert_eq!(says("Bearer "), Err(BearerError::Wrong));
        assert_eq!(
            says("Basic TVRCYkFHaUQ0TlRjMQ-aaa"),
            Err(BearerError::Missing)
        );
        assert_eq!(says("Be"), Err(BearerError::Missing));
        assert_eq!(check.check(None), Err(BearerError::Missing));
    }

    #[test]
    fn the_token_of_a_key_does_not_reveal_the_key() {
        let secret = TransferSecret::generate().unwrap();
        let check = BearerCheck::new(&secret).unwrap();
        let token = format!("Bearer {}", *secret.bearer());
        assert_eq!(check.check(Some(token.as_bytes())), Ok(()));
        let key = format!("Bearer {}", *secret.expose_text());
        assert_eq!(check.check(Some(key.as_bytes())), Err(BearerError::Wrong));
        assert!(!format!("{check:?}").contains(secret.bearer().as_str()));
    }
}
