//! May this user use this system? Asked of an OpenFGA server.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Caller;
use crate::config::AuthorizationConfig;
use crate::error::{ApiError, causes};
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
        let (url, user) = (&self.url, caller.name().as_str());
        let (status, body) = answer.await.map_err(|error| {
            let cause = causes(&error);
            tracing::warn!(
                url, system, user, %error, cause,
                "the authorisation service could not be asked; nobody is let in"
            );
            AuthorizeError::Unverified
        })?;
        read_answer(status, &body).inspect_err(|error| match error {
            AuthorizeError::Denied => {
                tracing::info!(url, system, user, "the authorisation service says no");
            }
            AuthorizeError::Unverified => tracing::warn!(
                url,
                system,
                user,
                status = status.as_u16(),
                "the authorisation service gave no usable answer; nobody is let in"
            ),
        })
    }
}

/// A status of 200 is a yes, as for the Python service, unless the body says otherwise: OpenFGA
/// answers 200 both ways, and `allowed` says which.
fn read_answer(status: StatusCode, bytes: &[u8]) -> Result<(), AuthorizeError> {
    if status != StatusCode::OK {
        return Err(AuthorizeError::Unverified);
    }
    let answer: Value = serde_json::from_slice(bytes).unwrap_or_default();
    match answer.get("allowed") {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err(AuthorizeError::Denied),
        Some(_) => Err(AuthorizeError::Unverified),
    }
}

impl From<AuthorizeError> for ApiError {
    fn from(error: AuthorizeError) -> Self {
        let message = error.to_string();
        match error {
            AuthorizeError::Denied => Self::new(StatusCode::FORBIDDEN, message),
            // As if it were not known who asks: so does the Python service.
            AuthorizeError::Unverified => {
                Self::new(StatusCode::UNAUTHORIZED, message).without_user()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_decides_unless_the_body_says_no() {
        let ok = |text: &str| read_answer(StatusCode::OK, text.as_bytes());
        for text in [r#"{"allowed":true,"resolution":""}"#, "", "{}", "[]", "yes"] {
            assert_eq!(ok(text), Ok(()), "{text}");
        }
        assert_eq!(ok(r#"{"allowed":false}"#), Err(AuthorizeError::Denied));
        for text in [r#"{"allowed":"true"}"#, r#"{"allowed":null}"#] {
            assert_eq!(ok(text), Err(AuthorizeError::Unverified), "{text}");
        }
        for status in [204, 302, 401, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = read_answer(status, br#"{"allowed":true}"#);
            assert_eq!(answer, Err(AuthorizeError::Unverified), "{status}");
        }
    }
}
