//! Who is calling: bearer tokens verified against key sets, never a default user.

mod claims;
mod client_credentials;
mod keys;
mod policy;
mod ring_provider;
mod user;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode, header};

pub(crate) use keys::is_algorithm;

pub use client_credentials::{ClientCredentials, TokenError};
pub use keys::{KeySetError, KeyStore};
pub use policy::{AuthorizeError, Authorizer};
pub use user::UserName;

use crate::Secret;
use crate::config::AuthenticationConfig;
use crate::error::ApiError;
use crate::http_client::HttpClient;
use crate::limits;
use claims::ClaimRules;

/// The authenticated user of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    name: UserName,
    token: Secret,
}

impl Caller {
    /// Their user name.
    pub fn name(&self) -> &UserName {
        &self.name
    }

    /// Their token, for services that act on their behalf.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// A caller without a token, for tests of what lies behind authentication.
    #[cfg(test)]
    pub(crate) fn for_tests(name: &str) -> Self {
        Self {
            name: UserName::parse(name).expect("a test's own name"),
            token: Secret::new(""),
        }
    }
}

/// Verifies bearer tokens.
#[derive(Debug)]
pub struct Authenticator {
    keys: Arc<KeyStore>,
    rules: ClaimRules,
}

/// Why a token is refused. The texts are what existing clients show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No bearer token.
    #[error("Not authenticated")]
    Missing,
    /// Not a token, a wrong signature or algorithm, not valid yet, for somebody else.
    #[error("Access token is invalid.")]
    Invalid(Flaw),
    /// `kid` absent or unknown.
    #[error("Token's public key not found.")]
    UnknownKey(Option<String>),
    /// `exp` has passed.
    #[error("Access token expired")]
    Expired,
    /// `exp` is nearer than the configured minimum.
    #[error("Access token expires too soon (less than {0}s remaining).")]
    ExpiresTooSoon(u64),
    /// The claim with the user name is missing.
    #[error("Authentication token '{0}' claim is missing")]
    NoUserName(String),
    /// The claim with the user name holds none.
    #[error("Authentication token '{0}' claim is not a user name")]
    BadUserName(String),
}

/// What is wrong with an invalid token. For the log only: clients are not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// Longer than any token.
    #[error("it is too long")]
    TooLong,
    /// Not three parts of which the first is a header.
    #[error("it is no JSON Web Token")]
    NotAToken,
    /// `crit` in its header.
    #[error("its header asks for an extension (crit)")]
    Extension,
    /// Not made with the key that it names, by the algorithm of that key.
    #[error("its signature is not one of the key that it names")]
    Signature,
    /// A date that is no number.
    #[error("its claim {0} is no date")]
    NotADate(&'static str),
    /// `nbf` is to come.
    #[error("it is not valid yet (nbf {nbf}, and it is {now} here)")]
    NotYet {
        /// From when on, in unix seconds.
        nbf: String,
        /// The time here.
        now: String,
    },
    /// `iss` is another than configured.
    #[error("its issuer is {found}, and auth.authentication.iss is {expected:?}")]
    Issuer {
        /// What is configured.
        expected: String,
        /// What it says.
        found: String,
    },
    /// `aud` names none of those configured.
    #[error("its audience is {found}, and auth.authentication.aud is {expected:?}")]
    Audience {
        /// What is configured.
        expected: Vec<String>,
        /// What it says.
        found: String,
    },
}

impl AuthError {
    /// Why, for operators; never any of the token but names in its header and claims.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Invalid(flaw) => flaw.to_string(),
            Self::UnknownKey(None) => "it names no key (kid)".to_owned(),
            Self::UnknownKey(Some(id)) => format!("its key {id:?} is in none of public_certs"),
            other => other.to_string(),
        }
    }

    /// One word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid(_) => "invalid",
            Self::UnknownKey(_) => "unknown_key",
            Self::Expired => "expired",
            Self::ExpiresTooSoon(_) => "expires_too_soon",
            Self::NoUserName(_) | Self::BadUserName(_) => "no_user_name",
        }
    }
}

impl Authenticator {
    /// Fetches the key sets. One that fails is logged and asked for again when a token needs it.
    pub async fn new(config: &AuthenticationConfig, http: Arc<HttpClient>) -> Self {
        let algorithm = config.jwk_algorithm.clone();
        let keys = Arc::new(KeyStore::new(&config.public_certs, algorithm, http));
        keys.refresh().await;
        Self {
            keys,
            rules: ClaimRules::from(config),
        }
    }

    /// Who sent these headers.
    ///
    /// # Errors
    /// Says why the token is refused; never repeats any of it.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        self.caller(bearer(headers).ok_or(AuthError::Missing)?)
            .await
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub async fn caller(&self, token: &str) -> Result<Caller, AuthError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |d| d.as_secs_f64());
        self.caller_at(token, now).await
    }

    /// The same at a moment, in unix seconds.
    async fn caller_at(&self, token: &str, now: f64) -> Result<Caller, AuthError> {
        if token.len() > limits::TOKEN_MAX_BYTES {
            return Err(AuthError::Invalid(Flaw::TooLong));
        }
        let claims = self.keys.verify(token).await?;
        let name = self.rules.check(&claims, now)?;
        Ok(Caller {
            name,
            token: Secret::new(token),
        })
    }
}

/// As much of a text of a token as a log needs.
fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_MAX_CHARS).collect()
}

const EXCERPT_MAX_CHARS: usize = 200;

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let status = match &error {
            AuthError::Missing => return Self::not_authenticated(),
            AuthError::NoUserName(_) | AuthError::BadUserName(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests;
