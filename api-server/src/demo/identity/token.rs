//! Tokens signed with ES256, by a key made at start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

/// How long a token is good.
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

/// The provider's signing key.
#[derive(Debug)]
pub(super) struct TokenSigner {
    key: EcdsaKeyPair,
    id: String,
}

impl TokenSigner {
    /// A fresh key; `None` without randomness.
    pub(super) fn generate() -> Option<Self> {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).ok()?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok()?;
        Some(Self {
            key,
            id: super::random_text(9)?,
        })
    }

    /// The public key (RFC 7517).
    pub(super) fn jwk(&self) -> Value {
        // An uncompressed point: 0x04, x, y.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y})
    }

    /// A token for a user; `None` without randomness.
    pub(super) fn sign(&self, issuer: &str, client: &str, user: &str) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.id});
        let claims = json!({
            "iss": issuer, "sub": user, "preferred_username": user, "client_id": client,
            "iat": now, "exp": now + LIFETIME.as_secs(), "jti": super::random_text(12)?,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let message = format!("{header}.{claims}");
        let signature = self
            .key
            .sign(&SystemRandom::new(), message.as_bytes())
            .ok()?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
