//! Key sets: fetched, cached, fetched again when a token names a key not seen yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{AuthError, Flaw, excerpt, ring_provider};
use crate::http_client::{FetchError, HttpClient};
use crate::limits;

/// The public keys that tokens may be signed with, by key id.
#[derive(Debug)]
pub struct KeyStore {
    urls: Vec<String>,
    default_algorithm: Option<String>,
    http: Arc<HttpClient>,
    /// Replaced as a whole.
    keys: RwLock<Arc<Keys>>,
    /// One refresh at a time; holds when the last one began.
    refreshing: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

#[derive(Debug, Default)]
struct Keys {
    /// One for each URL, in their order; of keys with the same id the last counts.
    sets: Vec<Arc<KeySet>>,
    fetched: Option<Instant>,
    /// What tokens say whose signature one of these keys made. A client sends its token with
    /// each request, and the signature is the dearest part of a small one.
    verified: Verified,
    /// Fetches them again soon where a set could not be fetched; ends with these keys.
    _retry: JoinSet<()>,
}

/// The keys that one URL answered with, by key id.
type KeySet = HashMap<String, VerifyingKey>;

/// The claims of verified tokens, by the hash of the token: they are not kept themselves.
#[derive(Debug, Default)]
struct Verified(Mutex<HashMap<[u8; 32], Arc<Claims>>>);

/// What a token says.
pub(super) type Claims = Map<String, Value>;

/// A key and the one algorithm it is for: what the token's header claims is compared with
/// it, never believed.
#[derive(Debug, Clone)]
struct VerifyingKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Why a key set could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// It could not be fetched.
    #[error("the key set could not be fetched")]
    Fetch(#[from] FetchError),
    /// It is not a JSON object with `keys`.
    #[error("the document is not a key set")]
    NotAKeySet,
}

impl KeyStore {
    /// A store without keys yet; see [`refresh`](Self::refresh).
    pub(super) fn new(
        urls: &[String],
        default_algorithm: Option<String>,
        http: Arc<HttpClient>,
    ) -> Self {
        ring_provider::install();
        Self {
            urls: urls.to_vec(),
            default_algorithm,
            http,
            keys: RwLock::default(),
            refreshing: Arc::default(),
        }
    }

    /// The claims of a token whose signature is good.
    pub(super) async fn verify(self: &Arc<Self>, token: &str) -> Result<Arc<Claims>, AuthError> {
        let hash = hash(token);
        let known = self.keys();
        if known.is_fresh()
            && let Some(claims) = known.verified.get(&hash)
        {
            return Ok(claims);
        }
        let header = jsonwebtoken::decode_header(token);
        let header = header.map_err(|_| AuthError::Invalid(Flaw::NotAToken))?;
        if header.crit.is_some() {
            // RFC 7515 § 4.1.11: an extension we do not know must not be ignored.
            return Err(AuthError::Invalid(Flaw::Extension));
        }
        let id = header.kid.or(header.x5t);
        let id = id.ok_or(AuthError::UnknownKey(None))?;
        let keys = self.find(&id).await;
        let unknown = || AuthError::UnknownKey(Some(excerpt(&id)));
        let key = keys.get(&id).ok_or_else(unknown)?;
        let mut validation = Validation::new(key.algorithm);
        // Times, audience and issuer are judged in `claims`, with the texts clients know.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let data = jsonwebtoken::decode(token, &key.key, &validation);
        let data = data.map_err(|_| AuthError::Invalid(Flaw::Signature))?;
        let claims = Arc::new(data.claims);
        keys.verified.insert(hash, &claims);
        Ok(claims)
    }

    /// The keys that hold now.
    fn keys(&self) -> Arc<Keys> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&keys)
    }

    /// Keys that know this one, if any do.
    async fn find(self: &Arc<Self>, id: &str) -> Arc<Keys> {
        let keys = self.keys();
        if keys.is_fresh() && keys.get(id).is_some() {
            return keys;
        }
        self.refresh().await;
        self.keys()
    }

    /// Fetches all key sets, unless that was done moments ago. While one cannot be fetched,
    /// those of its keys that are known stay, and it is tried again while no request waits.
    ///
    /// Cancel safety: what has begun goes on without the caller. A client that goes away must
    /// not keep the keys from everybody until the next refresh.
    pub(super) async fn refresh(self: &Arc<Self>) {
        let mut last = Arc::clone(&self.refreshing).lock_owned().await;
        if last.is_some_and(|at| at.elapsed() < limits::KEY_REFRESH_MIN_INTERVAL) {
            return;
        }
        *last = Some(Instant::now());
        let store = Arc::clone(self);
        let fetching = tokio::spawn(async move {
            store.fetch_all().await;
            drop(last);
        });
        if let Err(error) = fetching.await {
            tracing::error!(%error, "fetching the key sets was broken off");
        }
    }

    async fn fetch_all(self: &Arc<Self>) {
        let known = self.keys();
        let mut sets = Vec::with_capacity(self.urls.len());
        let mut failed = 0_usize;
        for (index, url) in self.urls.iter().enumerate() {
            let set = match self.fetch(url).await {
                Ok(set) => Arc::new(set),
                Err(error) => {
                    failed += 1;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(url, cause, "{error}");
                    // A provider that is away for a moment must not lock everybody out.
                    known.sets.get(index).cloned().unwrap_or_default()
                }
            };
            sets.push(set);
        }
        let count: usize = sets.iter().map(|set| set.len()).sum();
        tracing::info!(keys = count, failed, "key sets fetched");
        let retry = match failed {
            0 => JoinSet::new(),
            _ => self.refresh_soon(),
        };
        let keys = Arc::new(Keys {
            sets,
            fetched: Some(Instant::now()),
            verified: Verified::default(),
            _retry: retry,
        });
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// As [`refresh`](Self::refresh) after a while, unless dropped before.
    fn refresh_soon(self: &Arc<Self>) -> JoinSet<()> {
        let (store, mut retry) = (Arc::downgrade(self), JoinSet::new());
        retry.spawn(async move {
            tokio::time::sleep(limits::KEY_RETRY_INTERVAL).await;
            if let Some(store) = store.upgrade() {
                store.refresh().await;
            }
        });
        retry
    }

    async fn fetch(&self, url: &str) -> Result<KeySet, KeySetError> {
        let bytes = self.http.get(url, limits::KEY_FETCH_TIMEOUT).await?;
        parse_key_set(&bytes, self.default_algorithm.as_deref())
    }
}

impl Keys {
    fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.sets.iter().rev().find_map(|set| set.get(id))
    }

    fn is_fresh(&self) -> bool {
        self.fetched
            .is_some_and(|at| at.elapsed() < limits::KEY_MAX_AGE)
    }
}

impl Verified {
    fn get(&self, hash: &[u8; 32]) -> Option<Arc<Claims>> {
        self.lock().get(hash).cloned()
    }

    fn insert(&self, hash: [u8; 32], claims: &Arc<Claims>) {
        let mut verified = self.lock();
        if verified.len() >= limits::VERIFIED_TOKENS_MAX {
            // Those in use are back with the next request of each.
            verified.clear();
        }
        verified.insert(hash, Arc::clone(claims));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Claims>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// Reads a key set. Keys that cannot verify anything here are left out, with a warning.
fn parse_key_set(bytes: &[u8], default_algorithm: Option<&str>) -> Result<KeySet, KeySetError> {
    let document: Value = serde_json::from_slice(bytes).map_err(|_| KeySetError::NotAKeySet)?;
    let keys = document
        .get("keys")
        .and_then(Value::as_array)
        .ok_or(KeySetError::NotAKeySet)?;
    let parsed = keys
        .iter()
        .take(limits::KEYS_PER_SET_MAX)
        .filter_map(|key| {
            let entry = parse_key(key, default_algorithm);
            if entry.is_none() {
                let id = key.get("kid").and_then(Value::as_str);
                tracing::warn!(
                    id,
                    "a key of the key set is of a kind not supported; left out"
                );
            }
            entry
        });
    Ok(parsed.collect())
}

fn parse_key(value: &Value, default_algorithm: Option<&str>) -> Option<(String, VerifyingKey)> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
        return None;
    }
    let common = &jwk.common;
    let id = common
        .key_id
        .clone()
        .or_else(|| common.x509_sha1_fingerprint.clone())?;
    let named = value
        .get("alg")
        .and_then(Value::as_str)
        .or(default_algorithm);
    let algorithm = match named {
        Some(name) => name.parse().ok()?,
        None => natural_algorithm(&jwk.algorithm)?,
    };
    Some((
        id,
        VerifyingKey {
            algorithm,
            key: DecodingKey::from_jwk(&jwk).ok()?,
        },
    ))
}

/// Whether keys can be for an algorithm of this name.
pub(crate) fn is_algorithm(name: &str) -> bool {
    name.parse::<Algorithm>().is_ok()
}

fn natural_algorithm(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::OctetKey(_) => Some(Algorithm::HS256),
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => Some(Algorithm::ES256),
            EllipticCurve::P384 => Some(Algorithm::ES384),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Some(Algorithm::EdDSA),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_tokens_are_known() {
        let verified = Verified::default();
        let claims = Arc::default();
        for number in 0..=limits::VERIFIED_TOKENS_MAX {
            verified.insert(hash(&number.to_string()), &claims);
            assert!(verified.get(&hash(&number.to_string())).is_some());
        }
        assert_eq!(verified.lock().len(), 1);
        assert!(verified.get(&hash("0")).is_none());
    }
}
