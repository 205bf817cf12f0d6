//! Keys that a service issues for each login, in the name of the caller.

use std::sync::Arc;

use axum::http::{Method, Request, StatusCode, header, request};
use bytes::Bytes;
use http_body_util::Full;
use russh::keys::{Algorithm, Certificate, PrivateKey};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::{LoginKeys, bad, read};
use crate::Secret;
use crate::auth::Caller;
use crate::command::HIDDEN;
use crate::config;
use crate::http_client::{FetchError, HttpClient};
use crate::limits;
use crate::ssh::error::SshError;

/// `type: SSHService`: issues a key pair with a certificate.
#[derive(Debug)]
pub(super) struct KeyService(Client);

/// `type: SSHCA`: signs a key made here, which never leaves.
#[derive(Debug)]
pub(super) struct CertificateAuthority(Client);

#[derive(Debug)]
struct Client {
    http: Arc<HttpClient>,
    base: String,
    /// Requests at once; `None`: any number.
    connections: Option<Semaphore>,
    name: &'static str,
}

/// What an `SSHService` answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    ssh_key: IssuedKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssuedKey {
    #[serde(deserialize_with = "Secret::literal")]
    private_key: Secret,
    public_key: String,
}

impl KeyService {
    pub(super) fn new(config: &config::KeyService, http: Arc<HttpClient>) -> Self {
        Self(Client::new(config, http, "SSHService"))
    }

    /// A pair for `caller`, valid for a minute. Cancel-safe.
    pub(super) async fn issue(&self, caller: &Caller) -> Result<LoginKeys, SshError> {
        let user = caller.name().as_str();
        let token = Secret::new(format!("Bearer {}", caller.token().expose()));
        let request = self.0.request("/api/v1/ssh-keys");
        let request = request.header(header::AUTHORIZATION, token.expose());
        let body = json!({"duration": "1min", "username": user}).to_string();
        let answer = self
            .0
            .send(request, body, caller.token(), StatusCode::CREATED)
            .await?;
        let issued: Issued = serde_json::from_slice(&answer)
            .map_err(|_| self.0.unexpected("the answer is not a key pair"))?;
        let pair = issued.ssh_key;
        let certificate = Some(pair.public_key.as_str());
        read(pair.private_key.expose(), None, certificate).map_err(|error| bad(user, error))
    }
}

impl CertificateAuthority {
    pub(super) fn new(config: &config::KeyService, http: Arc<HttpClient>) -> Self {
        Self(Client::new(config, http, "SSHCA"))
    }

    /// A certificate for a new key. Cancel-safe.
    pub(super) async fn issue(&self, caller: &Caller) -> Result<LoginKeys, SshError> {
        let user = caller.name().as_str();
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519);
        let key = key.map_err(|error| bad(user, error))?;
        let public = key
            .public_key()
            .to_openssh()
            .map_err(|error| bad(user, error))?;
        let body = json!({"PublicKey": public, "OTT": caller.token().expose()}).to_string();
        let answer = self
            .0
            .send(
                self.0.request("/sign"),
                body,
                caller.token(),
                StatusCode::OK,
            )
            .await?;
        let text = String::from_utf8_lossy(&answer);
        let certificate = Certificate::from_openssh(text.trim());
        Ok(LoginKeys {
            key: Arc::new(key),
            certificate: Some(certificate.map_err(|error| bad(user, error))?),
        })
    }
}

impl Client {
    fn new(config: &config::KeyService, http: Arc<HttpClient>, name: &'static str) -> Self {
        let max = usize::try_from(config.max_connections).unwrap_or(usize::MAX);
        Self {
            http,
            base: config.url.trim_end_matches('/').to_owned(),
            connections: (max > 0).then(|| Semaphore::new(max)),
            name,
        }
    }

    fn request(&self, path: &str) -> request::Builder {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-client-type", "api")
            .header("x-client-name", "firecrest")
            .header("x-client-version", crate::openapi::API_VERSION);
        match crate::context::current() {
            Some(context) => request
                .header("x-request-id", &context.request_id)
                .header("x-correlation-id", &context.correlation_id),
            None => request,
        }
    }

    async fn send(
        &self,
        request: request::Builder,
        body: String,
        token: &Secret,
        expected: StatusCode,
    ) -> Result<Bytes, SshError> {
        let request = request.body(Full::from(body));
        let request = request.map_err(|_| self.unexpected("its URL is malformed"))?;
        let exchange = async {
            let _connection = match &self.connections {
                Some(connections) => connections.acquire().await.ok(),
                None => None,
            };
            self.http.exchange(request, limits::SSH_KEY_TIMEOUT).await
        };
        let answer = tokio::time::timeout(limits::SSH_KEY_TIMEOUT, exchange).await;
        match answer.map_err(|_| SshError::KeyTimeout)? {
            Ok((status, body)) if status == expected => Ok(body),
            // A success of another kind may hold a key.
            Ok((status, _)) if !status.is_client_error() && !status.is_server_error() => {
                Err(self.unexpected(&format!("status:{}", status.as_u16())))
            }
            Ok((status, body)) => {
                let text = without_secrets(&String::from_utf8_lossy(&body), token);
                let text: String = text.chars().take(200).collect();
                Err(self.unexpected(&format!("status:{} message:{text}", status.as_u16())))
            }
            Err(FetchError::Timeout(_)) => Err(SshError::KeyTimeout),
            Err(error) => Err(self.unexpected(&error.to_string())),
        }
    }

    fn unexpected(&self, problem: &str) -> SshError {
        SshError::KeyService {
            service: self.name,
            problem: problem.to_owned(),
        }
    }
}

/// What a service says, which may repeat what it was sent or tell what it has made.
fn without_secrets(text: &str, token: &Secret) -> String {
    let (text, key) = match text.split_once("-----BEGIN") {
        Some((before, _)) => (before, HIDDEN),
        None => (text, ""),
    };
    let text = match token.expose() {
        "" => text.to_owned(),
        token => text.replace(token, HIDDEN),
    };
    text + key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_the_token_nor_a_key_is_repeated() {
        let token = Secret::new("e30.e30.c2ln");
        for (said, shown) in [
            ("no such user", "no such user"),
            (
                "Bearer e30.e30.c2ln: e30.e30.c2ln expired",
                "Bearer ***: *** expired",
            ),
            (
                r#"{"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA"}"#,
                r#"{"key": "***"#,
            ),
        ] {
            assert_eq!(without_secrets(said, &token), shown);
        }
        assert_eq!(without_secrets("abc", &Secret::new("")), "abc");
    }
}
