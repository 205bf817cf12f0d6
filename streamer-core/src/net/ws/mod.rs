//! The plaintext WebSocket protocol of the Python service over TCP: it decides nothing,
//! [`crate::websocket`] does. One message is 5 MiB, and a few are held at a time.

pub mod dial;
mod in_order;
pub mod receive;
pub mod send;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use crate::error::{ErrorCode, Fault};
use crate::limits;
use crate::net::tcp::prepare_lane;
use crate::net::{TransferError, Transferred};
use crate::session::{Conclusion, SessionError};
use crate::store::StoreError;
use crate::websocket::bearer::{BearerCheck, BearerError};
use crate::websocket::close::{NORMAL, telling};
use crate::websocket::{Ending, Input};
use crate::wire::message::{EntryFailure, Receipt, Role};

/// A WebSocket whose client has shown the bearer token. Nothing about it is secret on the
/// way.
#[derive(Debug)]
pub struct PlainLink {
    socket: WebSocketStream<TcpStream>,
    peer: SocketAddr,
}

impl PlainLink {
    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Tells the peer that it is not served. The caller bounds the time.
    pub async fn refuse(self, code: ErrorCode, ours: Role) {
        let (mut say, mut hear) = self.socket.split();
        leave(&mut say, &mut hear, Some((code, ours))).await;
    }
}

/// What is written to.
type Say = SplitSink<WebSocketStream<TcpStream>, Message>;

/// What is read from.
type Hear = SplitStream<WebSocketStream<TcpStream>>;

/// Answers the request of a caller: 401 and 403 as the Python server, 503 while `busy`.
/// Compression is never agreed to. Not cancel-safe; the caller bounds the time.
///
/// # Errors
/// When the caller is refused, or the connection fails.
pub async fn accept(
    stream: TcpStream,
    bearer: &BearerCheck,
    busy: &AtomicBool,
) -> io::Result<PlainLink> {
    prepare_lane(&stream)?;
    let peer = stream.peer_addr()?;
    #[expect(
        clippy::result_large_err,
        reason = "the type of the library's callback"
    )]
    let admit = |request: &Request, response: Response| {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let checked = bearer.check(authorization.map(HeaderValue::as_bytes));
        let (status, text) = match checked {
            Ok(()) if busy.load(Ordering::Acquire) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Another client is served\n",
            ),
            Ok(()) => return Ok(response),
            Err(BearerError::Missing) => {
                (StatusCode::UNAUTHORIZED, "Missing Authorization header\n")
            }
            Err(BearerError::Wrong) => (StatusCode::FORBIDDEN, "Invalid secret\n"),
        };
        Err(refusal(status, text))
    };
    let socket = accept_hdr_async_with_config(stream, admit, Some(config()))
        .await
        .map_err(io::Error::other)?;
    Ok(PlainLink { socket, peer })
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}

/// Why a dialled endpoint did not let us in.
#[derive(Debug)]
enum ConnectError {
    /// It does not know the token.
    Refused,
    /// It serves somebody else.
    Busy,
    /// It speaks something else, or nothing.
    Failed,
}

/// Asks the endpoint at the other end to let us in, in plaintext. Compression is not offered.
async fn connect(stream: TcpStream, bearer: &str) -> Result<PlainLink, ConnectError> {
    let failed = |_| ConnectError::Failed;
    prepare_lane(&stream).map_err(failed)?;
    let peer = stream.peer_addr().map_err(failed)?;
    let mut request = format!("ws://{peer}/")
        .into_client_request()
        .map_err(|_| ConnectError::Failed)?;
    let mut value =
        HeaderValue::try_from(format!("Bearer {bearer}")).map_err(|_| ConnectError::Failed)?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    match client_async_with_config(request, stream, Some(config())).await {
        Ok((socket, _)) => Ok(PlainLink { socket, peer }),
        Err(WsError::Http(response)) => Err(match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ConnectError::Refused,
            StatusCode::SERVICE_UNAVAILABLE => ConnectError::Busy,
            _ => ConnectError::Failed,
        }),
        Err(_) => Err(ConnectError::Failed),
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(limits::WEBSOCKET_MESSAGE_MAX_BYTES))
        .max_frame_size(Some(limits::WEBSOCKET_MESSAGE_MAX_BYTES))
}

/// The next message that is about the file. Cancel-safe.
async fn hear(from: &mut Hear) -> Result<Message, Ending> {
    loop {
        match from.next().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(message)) => return Ok(message),
            Some(Err(WsError::Capacity(_))) => return Err(Ending::Ours(ErrorCode::LimitExceeded)),
            Some(Err(WsError::Protocol(error))) if !is_cut(&error) => {
                tracing::debug!(%error, "the peer broke the WebSocket protocol");
                return Err(Ending::Ours(ErrorCode::ProtocolViolation));
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "the peer is gone");
                return Err(Ending::Lost);
            }
            None => return Err(Ending::Lost),
        }
    }
}

fn is_cut(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> bool {
    use tokio_tungstenite::tungstenite::error::ProtocolError as E;
    matches!(
        error,
        E::ResetWithoutClosingHandshake | E::HandshakeIncomplete
    )
}

/// A message, as it is decided about.
fn input(message: &Message) -> Input<'_> {
    match message {
        Message::Text(text) => Input::Text(text),
        Message::Close(Some(frame)) => Input::Close(Some(frame.code.into()), &frame.reason),
        Message::Close(None) => Input::Close(None, ""),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => {
            Input::Binary(bytes)
        }
        Message::Frame(frame) => Input::Binary(frame.payload()),
    }
}

/// Closes, with the reason if there is one, and waits a moment for the peer to do so too: a
/// socket that is closed with unread bytes in it takes the reason away from the peer.
async fn leave(say: &mut Say, from: &mut Hear, why: Option<(ErrorCode, Role)>) {
    let (code, reason) = why.map_or((NORMAL, String::new()), |(code, ours)| telling(code, ours));
    let frame = CloseFrame {
        code: code.into(),
        reason: reason.into(),
    };
    let farewell = async {
        // The peer may have closed first: then this only flushes the answer.
        let _ = say.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = from.next().await {}
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// How it ended for whoever asked for the transfer. What is about a file or its bytes is the
/// transfer's own end; everything else may go better with the next connection.
fn conclude(
    result: Result<Transferred, Failure>,
    path: &std::path::Path,
    action: &'static str,
) -> Result<Transferred, TransferError> {
    let (code, failures) = match result {
        Ok(transferred) => return Ok(transferred),
        Err(Failure::Store(error)) => (error.code, vec![error]),
        Err(Failure::Ended(Ending::Lost)) => {
            return Err(TransferError::Lost(
                "the other side left before the end".into(),
            ));
        }
        Err(Failure::Ended(Ending::Theirs(code))) if is_about_files(code) => (code, Vec::new()),
        Err(Failure::Ended(Ending::Ours(code))) if is_about_files(code) => {
            (code, vec![StoreError::refused(code, action, path)])
        }
        Err(Failure::Ended(Ending::Theirs(code))) => return Err(SessionError::Peer(code).into()),
        Err(Failure::Ended(Ending::Ours(code))) => return Err(SessionError::Ours(code).into()),
    };
    let mut receipt = Receipt::default();
    receipt.count(None, true);
    let failures_told = vec![EntryFailure { entry: 0, code }];
    Ok(Transferred {
        conclusion: Conclusion {
            receipt,
            failures: failures_told,
        },
        failures,
        root: None,
        tree: None,
        lanes: 1,
        is_settled: true,
    })
}

fn is_about_files(code: ErrorCode) -> bool {
    matches!(code.fault(), Fault::File | Fault::Integrity)
}

/// Why a transfer did not succeed.
#[derive(Debug)]
enum Failure {
    Store(StoreError),
    Ended(Ending),
}

impl Failure {
    /// What to tell the peer; `None` when it said so itself or is gone.
    fn farewell(&self) -> Option<ErrorCode> {
        match self {
            Self::Store(error) => Some(error.code),
            Self::Ended(Ending::Ours(code)) => Some(*code),
            Self::Ended(Ending::Theirs(_) | Ending::Lost) => None,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Ending> for Failure {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

/// A thread of ours panicked: nothing that the peer or a file did.
fn broken<E>(_: E) -> Failure {
    Failure::Ended(Ending::Ours(ErrorCode::Internal))
}

/// Longest wait for the peer to take our last message and close.
const FAREWELL: Duration = Duration::from_secs(5);

/// Longest wait for a sender's first message.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages between the network and the thread that reads or writes the file.
const MESSAGE_QUEUE: usize = 2;

/// Read from the socket at a time.
const READ_BUFFER_BYTES: usize = 256 << 10;
