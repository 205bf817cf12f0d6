//! One question to the API.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use streamer_core::JobName;
use streamer_server::https::{Connector, connector};
use zeroize::Zeroizing;

use super::JobState;
use crate::config;

/// Where the API is, and who asks. Both are the user's own word: coordinates, which come from
/// somebody else, never say where a token goes.
#[derive(Debug, Clone)]
pub struct ApiAccess {
    url: String,
    token: Token,
}

/// What proves to the API who asks.
#[derive(Clone)]
pub enum Token {
    /// In a file, which is read each time: tokens are short-lived.
    File(PathBuf),
    /// As it is.
    Text(Zeroizing<String>),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(redacted)"),
        }
    }
}

/// The URL of the API is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the URL of the API must be http:// or https:// with a host, and no '?' in it")]
pub struct UrlError;

impl ApiAccess {
    /// Access to the API at `url`, a path in front of its routes included.
    ///
    /// # Errors
    /// When that is no URL of a service.
    pub fn new(url: &str, token: Token) -> Result<Self, UrlError> {
        let url = url.trim().trim_end_matches('/').to_owned();
        let uri: Uri = url.parse().map_err(|_| UrlError)?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        if !web || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
            return Err(UrlError);
        }
        Ok(Self { url, token })
    }

    /// Whether others on the way could read the token.
    pub fn is_in_the_clear(&self) -> bool {
        let uri: Uri = self.url.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse();
        let near = host == "localhost" || address.is_ok_and(|ip: IpAddr| ip.is_loopback());
        uri.scheme_str() == Some("http") && !near
    }
}

/// Why the API does not say how a job stands. Never contains a token or what was answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The token cannot be read.
    #[error("cannot read the token from '{}'", path.display())]
    TokenFile {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token is no text that could be one.
    #[error("the token is empty or malformed")]
    Token,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] streamer_server::https::TlsError),
    /// Nobody answered.
    #[error("the API does not answer: {0}")]
    Connection(String),
    /// It refused.
    #[error("the API refuses: {0}")]
    Status(StatusCode),
    /// It answered something else.
    #[error("the API does not know how its transfers stand")]
    Answer,
}

/// Asks.
#[derive(Debug)]
pub(super) struct Api {
    access: ApiAccess,
    client: Client<Connector, Empty<Bytes>>,
}

impl Api {
    pub(super) fn new(access: ApiAccess) -> Result<Self, AskError> {
        let connector = connector().map_err(AskError::Tls)?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { access, client })
    }

    /// How a job stands now. Cancel-safe.
    pub(super) async fn state(&self, job: &JobName) -> Result<JobState, AskError> {
        let asked = tokio::time::timeout(TIMEOUT, self.ask(job)).await;
        let late = || AskError::Connection(format!("nothing within {} s", TIMEOUT.as_secs()));
        asked.unwrap_or_else(|_| Err(late()))
    }

    async fn ask(&self, job: &JobName) -> Result<JobState, AskError> {
        let (url, system, id) = (&self.access.url, job.system(), job.id());
        let request = Request::get(format!("{url}/filesystem/{system}/transfer/{id}"))
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, self.authorization().await?)
            .body(Empty::new())
            .map_err(|_| AskError::Answer)?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| AskError::Connection(crate::ui::chain(&error)))?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            return Err(AskError::Status(parts.status));
        }
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|_| AskError::Answer)?.to_bytes();
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| AskError::Answer)?;
        Ok(answer.transfer)
    }

    async fn authorization(&self) -> Result<HeaderValue, AskError> {
        let token = match &self.access.token {
            Token::Text(text) => text.clone(),
            Token::File(path) => {
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || config::api_token(&file)).await;
                let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
                let failed = |source| AskError::TokenFile {
                    path: path.clone(),
                    source,
                };
                read.map_err(failed)?
            }
        };
        let token = token.trim();
        if token.is_empty() {
            return Err(AskError::Token);
        }
        let value = Zeroizing::new(format!("Bearer {token}"));
        let mut value = HeaderValue::from_str(&value).map_err(|_| AskError::Token)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

#[derive(Deserialize)]
struct Answer {
    transfer: JobState,
}

/// A scheduler that is busy answers late.
const TIMEOUT: Duration = Duration::from_secs(20);

/// More than the state of a transfer takes.
const ANSWER_MAX_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn access(url: &str) -> Result<ApiAccess, UrlError> {
        ApiAccess::new(url, Token::Text(Zeroizing::new("secret".into())))
    }

    #[test]
    fn only_urls_of_services_are_taken() {
        for url in [
            "",
            "api.example.org",
            "ftp://a",
            "https://a/?x=1",
            "https:// a",
            "/x",
        ] {
            assert_eq!(access(url).unwrap_err(), UrlError, "{url}");
        }
        let api = access("https://api.example.org/f7t/v2/ ").unwrap();
        assert_eq!(api.url, "https://api.example.org/f7t/v2");
        assert!(!format!("{api:?}").contains("secret"));
    }

    #[test]
    fn a_token_over_plain_http_is_safe_on_this_machine_only() {
        for (url, clear) in [
            ("https://api.example.org", false),
            ("http://api.example.org", true),
            ("http://127.0.0.1:5000", false),
            ("http://[::1]:5000", false),
            ("http://localhost:5000", false),
        ] {
            assert_eq!(access(url).unwrap().is_in_the_clear(), clear, "{url}");
        }
    }
}
