//! HTTP as object stores speak it: presigned URLs, ranges, entity tags.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderMap, IF_MATCH, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{PresignedUrl, S3Error};
use crate::https::{Connector, connector};

/// Connections to one object store.
#[derive(Debug, Clone)]
pub(super) struct Client(Pool<Connector, Payload>);

/// What is known about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) size: u64,
    pub(super) tag: String,
    /// The tag is made of checksums: the store did not encrypt under a key of its own.
    pub(super) tag_proves: bool,
}

impl Client {
    pub(super) fn new() -> Result<Self, S3Error> {
        Ok(Self(
            Pool::builder(TokioExecutor::new()).build(connector()?),
        ))
    }

    /// What the object is; `None` while there is none.
    pub(super) async fn head(&self, url: &PresignedUrl) -> Result<Option<Object>, S3Error> {
        let request = request(Method::HEAD, url).body(Payload::empty());
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::NOT_FOUND => return Ok(None),
            status if !status.is_success() => {
                return Err(refused("look at the object", response).await);
            }
            _ => {}
        }
        let headers = response.headers();
        let size = text(headers, CONTENT_LENGTH.as_str()).parse();
        let encryption = text(headers, "x-amz-server-side-encryption");
        let customer_key = headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        Ok(Some(Object {
            size: size
                .map_err(|_| S3Error::Plan("the store does not say how long the object is"))?,
            tag: text(headers, ETAG.as_str()).to_owned(),
            tag_proves: !customer_key && !encryption.starts_with("aws:"),
        }))
    }

    /// A range of the object, as long as it is still that one.
    pub(super) async fn read(
        &self,
        url: &PresignedUrl,
        tag: &str,
        start: u64,
        end: u64,
    ) -> Result<Incoming, S3Error> {
        let range = format!("bytes={start}-{}", end - 1);
        let request = request(Method::GET, url)
            .header(RANGE, range)
            .header(IF_MATCH, tag)
            .body(Payload::empty());
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => Ok(response.into_body()),
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND => {
                Err(S3Error::Changed("object"))
            }
            _ => Err(refused("give a part", response).await),
        }
    }

    /// Sends a part. Its tag.
    pub(super) async fn write(&self, url: &PresignedUrl, body: Payload) -> Result<String, S3Error> {
        let response = self.send(request(Method::PUT, url).body(body)).await?;
        if !response.status().is_success() {
            return Err(refused("take a part", response).await);
        }
        Ok(text(response.headers(), ETAG.as_str()).to_owned())
    }

    /// Makes an object of parts. The answer's text.
    pub(super) async fn complete(
        &self,
        url: &PresignedUrl,
        document: String,
    ) -> Result<String, S3Error> {
        let request = request(Method::POST, url).body(Payload::whole(document));
        // The store may take minutes for thousands of parts; it then answers 200 first and
        // says in the body whether it worked.
        let response = self.send_within(request, COMPLETE_TIMEOUT).await?;
        let status = response.status();
        let body = body_text(response).await?;
        if status.is_success() && !body.contains("<Error>") {
            return Ok(body);
        }
        Err(S3Error::Refused {
            action: "complete the object",
            status,
            code: code(&body),
        })
    }

    /// Throws parts away.
    pub(super) async fn abort(&self, url: &PresignedUrl) -> Result<(), S3Error> {
        let request = request(Method::DELETE, url).body(Payload::empty());
        self.send(request).await.map(|_| ())
    }

    async fn send(
        &self,
        request: Result<Request<Payload>, hyper::http::Error>,
    ) -> Result<Response<Incoming>, S3Error> {
        self.send_within(request, ANSWER_TIMEOUT).await
    }

    /// The answer to a request: within `patience` of its last byte being handed on.
    async fn send_within(
        &self,
        request: Result<Request<Payload>, hyper::http::Error>,
        patience: Duration,
    ) -> Result<Response<Incoming>, S3Error> {
        let request = request.map_err(|_| S3Error::Plan("a URL in it is malformed"))?;
        let streams = matches!(request.body(), Payload::Stream { .. });
        let answer = self.0.request(request);
        // A part takes as long as it takes: its source watches for a stall.
        let answer = if streams {
            answer.await
        } else {
            let late =
                |_| S3Error::Connection(format!("no answer within {} s", patience.as_secs()));
            timeout(patience, answer).await.map_err(late)?
        };
        answer.map_err(|error| S3Error::Connection(chain(&error)))
    }
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Payload {
    /// At once.
    Whole(Option<Bytes>),
    /// As a reader hands it on.
    Stream {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        left: u64,
    },
}

impl Payload {
    fn empty() -> Self {
        Self::Whole(None)
    }

    fn whole(text: String) -> Self {
        Self::Whole(Some(Bytes::from(text)))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { left: 0, .. } => Poll::Ready(None),
            Self::Stream { pieces, left } => pieces.poll_recv(context).map(|piece| {
                Some(match piece {
                    Some(Ok(bytes)) => {
                        *left = left.saturating_sub(bytes.len() as u64);
                        Ok(Frame::data(bytes))
                    }
                    Some(Err(error)) => Err(error),
                    None => Err(io::ErrorKind::UnexpectedEof.into()),
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Stream { left: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Stream { left, .. } => *left,
        })
    }
}

fn request(method: Method, url: &PresignedUrl) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(url.expose())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

async fn refused(action: &'static str, response: Response<Incoming>) -> S3Error {
    let status = response.status();
    let body = body_text(response).await.unwrap_or_default();
    S3Error::Refused {
        action,
        status,
        code: code(&body),
    }
}

async fn body_text(response: Response<Incoming>) -> Result<String, S3Error> {
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect();
    let body = timeout(COMPLETE_TIMEOUT, body).await;
    let body = body.map_err(|_| S3Error::Connection("the answer stalled".to_owned()))?;
    let body = body.map_err(|_| S3Error::Connection("the answer is cut off".to_owned()))?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// The word in `<Code>` of an answer in XML. Its message is not shown: some stores repeat the
/// request in it.
fn code(body: &str) -> String {
    let word = element(body, "Code").unwrap_or_default();
    let fits = word.len() <= 64 && word.bytes().all(|b| b.is_ascii_alphanumeric());
    if fits { word.to_owned() } else { String::new() }
}

/// The text of the first element of this name.
pub(super) fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
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

/// Until the head of an answer is there.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A store may take this long to make an object of many parts.
const COMPLETE_TIMEOUT: Duration = Duration::from_secs(900);
/// Answers in XML are short.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_of_an_answer_is_shown() {
        let body = "<Error><Code>AccessDenied</Code><Message>GET /?X-Amz-Signature=1</Message>";
        assert_eq!(code(body), "AccessDenied");
        assert_eq!(code("<Code>?X-Amz-Signature=1</Code>"), "");
        assert_eq!(code("not xml"), "");
    }
}
