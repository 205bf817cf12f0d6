//! Tokens for the service itself: the client credentials grant (RFC 6749 § 4.4).

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::Secret;
use crate::config::{AuthenticationConfig, ServiceAccount, TokenEndpointAuthMethod};
use crate::http_client::{FetchError, HttpClient};

/// Asks the token endpoint for tokens of service accounts.
#[derive(Debug)]
pub struct ClientCredentials {
    url: String,
    method: TokenEndpointAuthMethod,
    http: Arc<HttpClient>,
}

/// Why there is no token. Never contains any of it, nor the client's secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The endpoint refused, or could not be asked.
    #[error("the token endpoint {url} gave no token")]
    Fetch {
        /// Which.
        url: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// It answered something else than a token.
    #[error("the answer of the token endpoint {url} holds no access token")]
    NoToken {
        /// Which.
        url: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "Secret::literal")]
    access_token: Secret,
}

impl ClientCredentials {
    /// A client of the configured token endpoint.
    pub fn new(config: &AuthenticationConfig, http: Arc<HttpClient>) -> Self {
        Self {
            url: config.token_url.clone(),
            method: config.token_endpoint_auth_method,
            http,
        }
    }

    /// A fresh token. Cancel-safe.
    ///
    /// # Errors
    /// When the endpoint gives none in time.
    pub async fn token(
        &self,
        account: &ServiceAccount,
        timeout: Duration,
    ) -> Result<Secret, TokenError> {
        let failed = |source| TokenError::Fetch {
            url: self.url.clone(),
            source,
        };
        let request = self.request(account).ok_or(FetchError::Malformed);
        let answer = self.http.send(request.map_err(failed)?, timeout).await;
        let answer: Result<Answer, _> = serde_json::from_slice(&answer.map_err(failed)?);
        match answer {
            Ok(answer) => Ok(answer.access_token),
            Err(_) => Err(TokenError::NoToken {
                url: self.url.clone(),
            }),
        }
    }

    fn request(&self, account: &ServiceAccount) -> Option<Request<Full<bytes::Bytes>>> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        match self.method {
            TokenEndpointAuthMethod::ClientSecretBasic => {
                let text = Zeroizing::new(basic(&account.client_id, account.secret.expose()));
                request = request.header(header::AUTHORIZATION, text.as_str());
            }
            TokenEndpointAuthMethod::ClientSecretPost => {
                form.append_pair("client_id", &account.client_id);
                form.append_pair("client_secret", account.secret.expose());
            }
        }
        request.body(form.finish().into()).ok()
    }
}

/// RFC 6749 § 2.3.1: both parts are form-encoded before they are joined.
fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = Zeroizing::new(format!("{}:{}", encode(id), encode(secret)));
    format!("Basic {}", STANDARD.encode(pair.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        let text = basic("a:b", "p@ss word");
        let decoded = STANDARD
            .decode(text.strip_prefix("Basic ").unwrap())
            .unwrap();
        assert_eq!(decoded, b"a%3Ab:p%40ss+word");
    }
}
