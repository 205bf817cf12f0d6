//! Small HTTP client: JSON documents up to a bound, TLS by rustls with the system's roots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::{Secret, limits};

/// Fetches `http`, `https` and `file` URLs. Connections are pooled; redirects are not followed.
#[derive(Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Files that were asked for, each locked while it is read.
    files: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Why a document could not be fetched. Never contains a header or body.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL or a header cannot be sent.
    #[error("the request is malformed")]
    Malformed,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// Another status than 2xx.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// Over the bound, or cut off.
    #[error("the answer is cut off or too long")]
    Body,
    /// A `file:` URL that cannot be read.
    #[error("{path} could not be read")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl HttpClient {
    /// A client trusting the roots of the operating system.
    ///
    /// # Errors
    /// When those cannot be loaded.
    pub fn new() -> std::io::Result<Self> {
        let provider = rustls::crypto::ring::default_provider();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            files: Mutex::default(),
        })
    }

    /// The document at `url`.
    ///
    /// # Errors
    /// When there is none in time, or it is too long. Cancel-safe.
    pub async fn get(&self, url: &str, timeout: Duration) -> Result<Bytes, FetchError> {
        if let Some(path) = url.strip_prefix("file://") {
            return tokio::time::timeout(timeout, self.file(path))
                .await
                .unwrap_or(Err(FetchError::Timeout(timeout)));
        }
        let request = Request::get(url)
            .body(Full::default())
            .map_err(|_| FetchError::Malformed)?;
        self.send(request, timeout).await
    }

    /// The content of a file. Of one that does not answer, one thread at most is held up.
    async fn file(&self, path: &str) -> Result<Bytes, FetchError> {
        let file = {
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(files.entry(path.to_owned()).or_default())
        };
        let reading = file.lock_owned().await;
        let failed = |source| FetchError::File {
            path: path.to_owned(),
            source,
        };
        let name = path.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            // Held until it is read, also when nobody waits for that any more.
            let _reading = reading;
            read_file(&name)
        });
        let read = read.await.unwrap_or_else(|error| Err(error.into()));
        let bytes = read.map_err(failed)?;
        if bytes.len() > limits::HTTP_ANSWER_MAX_BYTES {
            Err(FetchError::Body)
        } else {
            Ok(bytes.into())
        }
    }

    /// The answer to a JSON document.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn post_json(
        &self,
        url: &str,
        token: Option<&Secret>,
        body: &Value,
        timeout: Duration,
    ) -> Result<Response<Bytes>, FetchError> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url.parse::<Uri>().map_err(|_| FetchError::Malformed)?)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            let value = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
            request = request.header(header::AUTHORIZATION, value.as_str());
        }
        let request = request.body(Full::from(body.to_string()));
        let request = request.map_err(|_| FetchError::Malformed)?;
        let max_bytes = limits::HTTP_ANSWER_MAX_BYTES;
        self.answer(request, timeout, max_bytes).await
    }

    /// The body of a 2xx answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Bytes, FetchError> {
        let (status, body) = self.exchange(request, timeout).await?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(FetchError::Status(status))
        }
    }

    /// Status and body of any answer.
    ///
    /// # Errors
    /// As [`get`](Self::get), but every status is a success.
    pub async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let max_bytes = limits::HTTP_ANSWER_MAX_BYTES;
        self.exchange_up_to(request, timeout, max_bytes).await
    }

    /// As [`exchange`](Self::exchange), with another bound on the answer.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub async fn exchange_up_to(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let answer = self.answer(request, timeout, max_bytes).await?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
        max_bytes: usize,
    ) -> Result<Response<Bytes>, FetchError> {
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|e| FetchError::Connection(chain(&e)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, max_bytes).collect().await;
            let body = body.map_err(|_| FetchError::Body)?.to_bytes();
            Ok(Response::from_parts(parts, body))
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(FetchError::Timeout(timeout)))
    }
}

/// One byte more than may be, where there is more.
fn read_file(path: &str) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let limit = limits::HTTP_ANSWER_MAX_BYTES as u64 + 1;
    std::fs::File::open(path)?
        .take(limit)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_does_not_answer_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let (pipe, file) = (directory.path().join("pipe"), directory.path().join("file"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        std::fs::write(&file, "x").unwrap();
        // Each time it is asked for the pipe could hold up one more thread: there would be none left.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(2)
            .build()
            .unwrap();
        let read = runtime.block_on(async {
            let client = HttpClient::new().unwrap();
            let url = |path: &std::path::Path| format!("file://{}", path.display());
            for _ in 0..2 {
                let result = client.get(&url(&pipe), Duration::from_millis(50)).await;
                assert!(matches!(result, Err(FetchError::Timeout(_))), "{result:?}");
            }
            client.get(&url(&file), Duration::from_secs(10)).await
        });
        // Nobody ever writes to the pipe.
        runtime.shutdown_background();
        assert_eq!(read.unwrap(), "x");
    }
}
