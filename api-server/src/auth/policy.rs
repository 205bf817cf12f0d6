//! May this user use this system? Asked of an OpenFGA server.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
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
    /// A web page came in place of an answer: nobody is let in.
    #[error("Unable to verify system access authorization")]
    WebPage,
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
        let answer = answer.await.map_err(|error| {
            let cause = causes(&error);
            tracing::warn!(
                url, system, user, %error, cause,
                "the authorisation service could not be asked; nobody is let in"
            );
            AuthorizeError::Unverified
        })?;
        let status = answer.status();
        let read = read_answer(status, answer.headers(), answer.body());
        read.inspect_err(|error| match error {
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
            AuthorizeError::WebPage => tracing::warn!(
                url,
                system,
                user,
                "a web page came in place of an answer of the authorisation service, as from a \
                 proxy or a login form before it; nobody is let in"
            ),
        })
    }
}

/// A status of 200 is a yes, as for the Python service, unless the body says otherwise: OpenFGA
/// answers 200 both ways, and `allowed` says which. A proxy that shows a web page was never asked.
fn read_answer(
    status: StatusCode,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<(), AuthorizeError> {
    if status != StatusCode::OK {
        return Err(AuthorizeError::Unverified);
    }
    let answer: Value = match serde_json::from_slice(bytes) {
        Ok(answer) => answer,
        Err(_) if is_web_page(headers, bytes) => return Err(AuthorizeError::WebPage),
        Err(_) => Value::Null,
    };
    match answer.get("allowed") {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err(AuthorizeError::Denied),
        Some(_) => Err(AuthorizeError::Unverified),
    }
}

/// Whether a body that is no JSON is a page. Web frameworks call an empty body HTML as well.
fn is_web_page(headers: &HeaderMap, bytes: &[u8]) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.map_or(&[][..], |kind| kind.as_bytes());
    let kind = kind.split(|b| *b == b';').next().unwrap_or_default();
    let html = ["text/html", "application/xhtml+xml"];
    let html = html
        .iter()
        .any(|html| kind.trim_ascii().eq_ignore_ascii_case(html.as_bytes()));
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = text.trim_ascii();
    text.starts_with(b"<") || html && !text.is_empty()
}

impl From<AuthorizeError> for ApiError {
    fn from(error: AuthorizeError) -> Self {
        let message = error.to_string();
        match error {
            AuthorizeError::Denied => Self::new(StatusCode::FORBIDDEN, message),
            // As if it were not known who asks: so does the Python service.
            AuthorizeError::Unverified | AuthorizeError::WebPage => {
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
        let headers = HeaderMap::new();
        let ok = |text: &str| read_answer(StatusCode::OK, &headers, text.as_bytes());
        for text in [r#"{"allowed":true,"resolution":""}"#, "", "{}", "[]", "yes"] {
            assert_eq!(ok(text), Ok(()), "{text}");
        }
        assert_eq!(ok(r#"{"allowed":false}"#), Err(AuthorizeError::Denied));
        for text in [r#"{"allowed":"true"}"#, r#"{"allowed":null}"#] {
            assert_eq!(ok(text), Err(AuthorizeError::Unverified), "{text}");
        }
        for status in [204, 302, 401, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = read_answer(status, &headers, br#"{"allowed":true}"#);
            assert_eq!(answer, Err(AuthorizeError::Unverified), "{status}");
        }
    }

    #[test]
    fn a_web_page_is_no_answer() {
        let read = |kind: &str, text: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            read_answer(StatusCode::OK, &headers, text.as_bytes())
        };
        for (kind, text) in [
            ("text/html", "Please log in"),
            ("Text/HTML ;charset=utf-8", "Please log in"),
            ("application/xhtml+xml", "Please log in"),
            ("text/plain", " \r\n<!doctype html>"),
            ("application/json", "\u{feff}<html>"),
        ] {
            assert_eq!(
                read(kind, text),
                Err(AuthorizeError::WebPage),
                "{kind} {text}"
            );
        }
        for (kind, text) in [
            ("text/html; charset=utf-8", ""),
            ("text/html", "\n"),
            ("text/html", r#"{"allowed":true}"#),
            ("text/plain", "ok"),
            ("text/htmlish", "ok"),
        ] {
            assert_eq!(read(kind, text), Ok(()), "{kind} {text}");
        }
        let no = read("text/html", r#"{"allowed":false}"#);
        assert_eq!(no, Err(AuthorizeError::Denied));
    }
}
