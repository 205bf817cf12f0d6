//! May this user use this system? Asked of an OpenFGA server.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Caller;
use crate::config::AuthorizationConfig;
use crate::error::ApiError;
use crate::http_client::HttpClient;

/// Client of the authorisation service.
#[derive(Debug)]
pub struct Authorizer {
    url: String,
    timeout: Duration,
    http: Arc<HttpClient>,
}

/// Why a user is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorizeError {
    /// The service said no.
    #[error("Not authorized to access system")]
    Denied,
    /// The service gave no usable answer: nobody is let in.
    #[error("Unable to verify system access authorization")]
    Unverified,
}

impl Authorizer {
    /// A client for the configured service.
    pub fn new(config: &AuthorizationConfig, http: Arc<HttpClient>) -> Self {
        let timeout = Duration::from_secs(config.timeout);
        Self {
            url: config.url.clone(),
            timeout,
            http,
        }
    }

    /// Asks whether `caller` is a member of `system`.
    ///
    /// # Errors
    /// When not, or when that cannot be found out.
    pub async fn check(&self, caller: &Caller, system: &str) -> Result<(), AuthorizeError> {
        let question = json!({
            "user": format!("user:{}", caller.name()),
            "relation": "member",
            "object": format!("vcluster:{system}"),
        });
        let answer = self
            .http
            .post_json(&self.url, Some(caller.token()), &question, self.timeout);
        let answer = answer.await.map_err(|error| {
            tracing::warn!(%error, "the authorisation service could not be asked");
            AuthorizeError::Unverified
        })?;
        read_answer(&answer)
    }
}

/// OpenFGA answers 200 both ways; only `allowed` says which.
fn read_answer(bytes: &[u8]) -> Result<(), AuthorizeError> {
    let answer: Value = serde_json::from_slice(bytes).map_err(|_| AuthorizeError::Unverified)?;
    match answer.get("allowed").and_then(Value::as_bool) {
        Some(true) => Ok(()),
        Some(false) => Err(AuthorizeError::Denied),
        None => Err(AuthorizeError::Unverified),
    }
}

impl From<AuthorizeError> for ApiError {
    fn from(error: AuthorizeError) -> Self {
        let status = match error {
            AuthorizeError::Denied => StatusCode::FORBIDDEN,
            AuthorizeError::Unverified => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_yes_is_a_yes() {
        assert_eq!(read_answer(br#"{"allowed":true,"resolution":""}"#), Ok(()));
        assert_eq!(
            read_answer(br#"{"allowed":false}"#),
            Err(AuthorizeError::Denied)
        );
        for text in ["", "{}", r#"{"allowed":"true"}"#, "[]"] {
            assert_eq!(
                read_answer(text.as_bytes()),
                Err(AuthorizeError::Unverified),
                "{text}"
            );
        }
    }
}
