//! HTTP as object stores speak it: presigned URLs, ranges, entity tags.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

use super::etag::Tag;
use super::{PresignedUrl, S3Error};
use crate::https::{Connector, connector};

/// Connections to one object store.
#[derive(Debug, Clone)]
pub(super) struct Client(Pool<Connector, Payload>);

/// What is known about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) size: u64,
    pub(super) tag: Tag,
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
        Ok(Some(Object {
            size: size
                .map_err(|_| S3Error::Plan("the store does not say how long the object is"))?,
            tag: tag(headers, text(headers, ETAG.as_str())),
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
    pub(super) async fn write(&self, url: &PresignedUrl, body: Payload) -> Result<Tag, S3Error> {
        let response = self.send(request(Method::PUT, url).body(body)).await?;
        if !response.status().is_success() {
            return Err(refused("take a part", response).await);
        }
        let headers = response.headers();
        Ok(tag(headers, text(headers, ETAG.as_str())))
    }

    /// Makes an object of parts. Its tag.
    pub(super) async fn complete(
        &self,
        url: &PresignedUrl,
        document: String,
    ) -> Result<Tag, S3Error> {
        let request = request(Method::POST, url).body(Payload::whole(document));
        // The store may take minutes for thousands of parts; it then answers 200 first and
        // says in the body whether it worked.
        let response = self.send_within(request, COMPLETE_TIMEOUT).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = body_text(response).await?;
        if status.is_success() && !body.contains("<Error>") {
            let text = element(&body, "ETag").unwrap_or_default();
            return Ok(tag(&headers, &text.replace("&quot;", "\"")));
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
        let pace = match request.body() {
            Payload::Stream { pace, .. } => Some(Arc::clone(pace)),
            Payload::Whole(_) => None,
        };
        let mut answer = pin!(self.0.request(request));
        // A part takes as long as it takes, if only it moves.
        let mut given = 0;
        let answer = loop {
            if let Ok(answer) = timeout(patience, &mut answer).await {
                break answer;
            }
            match pace.as_ref().map(|pace| pace.now()) {
                Some(now) if now.waits_for_source || now.given != given => given = now.given,
                _ => {
                    let seconds = patience.as_secs();
                    let late = format!("nothing was taken or answered within {seconds} s");
                    return Err(S3Error::Connection(late));
                }
            }
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
        pace: Arc<Pace>,
    },
}

/// Which side of a stream is waited for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    given: AtomicU64,
    waits_for_source: AtomicBool,
}

/// At a moment.
struct PaceNow {
    /// Pieces that were handed on.
    given: u64,
    /// The store would take more, and there is none yet.
    waits_for_source: bool,
}

impl Pace {
    fn now(&self) -> PaceNow {
        PaceNow {
            given: self.given.load(Ordering::Relaxed),
            waits_for_source: self.waits_for_source.load(Ordering::Relaxed),
        }
    }

    fn on_asked(&self, is_ready: bool) {
        self.waits_for_source.store(!is_ready, Ordering::Relaxed);
        if is_ready {
            self.given.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Payload {
    fn empty() -> Self {
        Self::Whole(None)
    }

    fn whole(text: String) -> Self {
        Self::Whole(Some(Bytes::from(text)))
    }

    /// So many bytes.
    pub(super) fn stream(pieces: mpsc::Receiver<io::Result<Bytes>>, bytes: u64) -> Self {
        Self::Stream {
            pieces,
            left: bytes,
            pace: Arc::default(),
        }
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
            Self::Stream { pieces, left, pace } => {
                let piece = pieces.poll_recv(context);
                pace.on_asked(piece.is_ready());
                piece.map(|piece| {
                    Some(match piece {
                        Some(Ok(bytes)) => {
                            *left = left.saturating_sub(bytes.len() as u64);
                            Ok(Frame::data(bytes))
                        }
                        Some(Err(error)) => Err(error),
                        None => Err(io::ErrorKind::UnexpectedEof.into()),
                    })
                })
            }
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

/// What a tag is worth, the headers beside it say: under a key of a KMS or of the customer it
/// is no checksum, though it may look like one.
fn tag(headers: &HeaderMap, tag: &str) -> Tag {
    let encryption = text(headers, "x-amz-server-side-encryption");
    let customer_key = headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    Tag {
        text: tag.to_owned(),
        proves: !customer_key && !encryption.starts_with("aws:"),
    }
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
fn element<'a>(document: &'a str, name: &str) -> Option<&'a str> {
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// What comes of a part that is handed on after `delay`, with a store that reads it and answers,
    /// or does not.
    async fn put_after(delay: Duration, answers: bool) -> Result<(), S3Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/part", listener.local_addr().unwrap());
        let (pieces, outbox) = mpsc::channel(1);
        let store = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            if !answers {
                return std::future::pending().await;
            }
            let mut seen = Vec::new();
            while !seen.ends_with(b"part") {
                assert!(socket.read_buf(&mut seen).await.unwrap() > 0);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(answer).await.unwrap();
            std::future::pending().await
        };
        let source = async {
            tokio::time::sleep(delay).await;
            let _ = pieces.send(Ok(Bytes::from_static(b"part"))).await;
            std::future::pending().await
        };
        let put = async {
            let request = request(Method::PUT, &PresignedUrl::from(url));
            let request = request.body(Payload::stream(outbox, 4));
            let client = Client::new()?;
            client.send_within(request, PATIENCE).await.map(drop)
        };
        tokio::select! {
            result = put => result,
            () = store => unreachable!(),
            () = source => unreachable!(),
        }
    }

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_store_that_stands_still_is_given_up_and_a_slow_source_is_not() {
        let stalled = put_after(Duration::ZERO, false).await;
        assert!(
            matches!(stalled, Err(S3Error::Connection(_))),
            "{stalled:?}"
        );
        put_after(3 * PATIENCE, true).await.unwrap();
    }

    #[test]
    fn only_a_word_of_an_answer_is_shown() {
        let body = "<Error><Code>AccessDenied</Code><Message>GET /?X-Amz-Signature=1</Message>";
        assert_eq!(code(body), "AccessDenied");
        assert_eq!(code("<Code>?X-Amz-Signature=1</Code>"), "");
        assert_eq!(code("not xml"), "");
    }
}
