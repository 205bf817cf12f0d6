//! Strangers and clients: everybody until they have said who they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use streamer_core::net::control::{ControlError, read_message, write_message};
use streamer_core::net::link::{Carrier, Lane, Link};
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::{Acceptor, TlsStream};
use streamer_core::net::ws::{self, PlainLink};
use streamer_core::websocket::bearer::BearerCheck;
use streamer_core::wire::message::{Abort, Hello, Message};
use streamer_core::{ErrorCode, Transport};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::handshakes::Handshakes;

/// A client that holds the secret and has greeted.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) hello: Hello,
    pub(crate) line: Line,
}

/// Whoever holds the secret, and has said so.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// By TLS, on either transport.
    Proven(Caller),
    /// In plaintext: the bearer token was right.
    Plain(Box<PlainLink>),
}

/// What opens the plaintext door, where there is one.
#[derive(Debug)]
pub(crate) struct PlainDoor {
    bearer: BearerCheck,
    /// Somebody is being served: told before a WebSocket opens, so that the Python client
    /// does not create its target.
    busy: AtomicBool,
}

impl PlainDoor {
    pub(crate) fn new(bearer: BearerCheck) -> Self {
        Self {
            bearer,
            busy: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }
}

/// What a caller called over.
#[derive(Debug)]
pub(crate) enum Line {
    Quic(quinn::Connection, quinn::SendStream, quinn::RecvStream),
    Tls(Box<TlsStream>),
}

impl Line {
    /// Tells a caller why it is not served: over QUIC at once, over TLS as the future is polled, which
    /// ends soon whatever the caller does.
    pub(crate) fn refuse(self, code: ErrorCode) -> impl Future<Output = ()> + Send {
        let stream = match self {
            Self::Quic(connection, ..) => {
                connection.close(quinn::VarInt::from(u32::from(code.number())), &[]);
                None
            }
            Self::Tls(stream) => Some(stream),
        };
        async move {
            let Some(mut stream) = stream else { return };
            let told = async {
                write_message(&mut stream, &Message::Abort(Abort { code })).await?;
                stream.shutdown().await?;
                // What it said meanwhile: with that unread the system would take back what we said.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                Ok::<_, ControlError>(())
            };
            let _ = timeout(REFUSAL, told).await;
        }
    }
}

impl Caller {
    /// Where it called from.
    pub(crate) fn peer(&self) -> SocketAddr {
        match &self.line {
            Line::Quic(connection, ..) => connection.remote_address(),
            Line::Tls(stream) => stream.peer(),
        }
    }

    /// Whether it has closed its end, or its connection is lost.
    pub(crate) fn has_left(&self) -> bool {
        match &self.line {
            Line::Quic(connection, ..) => connection.close_reason().is_some(),
            Line::Tls(stream) => stream.has_left(),
        }
    }

    /// How it called.
    pub(crate) fn transport(&self) -> Transport {
        match &self.line {
            Line::Quic(..) => Transport::Quic,
            Line::Tls(_) => Transport::Tls,
        }
    }

    /// For a session; lanes are given through the sender.
    pub(crate) fn into_link(self) -> (Link, mpsc::Sender<Lane>) {
        let session = self.hello.session;
        let greeting = Some(Message::Hello(self.hello));
        match self.line {
            Line::Quic(connection, send, receive) => {
                Link::quic(connection, (send, receive), session, greeting)
            }
            Line::Tls(stream) => Link::tls(*stream, session, greeting),
        }
    }

    /// For a session that is under way.
    pub(crate) fn into_lane(self) -> Lane {
        Lane {
            number: self.hello.lane,
            carrier: match self.line {
                Line::Quic(connection, ..) => Carrier::Quic(connection),
                Line::Tls(stream) => Carrier::Tls(stream),
            },
            ended: None,
        }
    }
}

/// Takes calls until dropped. Callers who do not hold the secret end here, and cost one of a
/// bounded number of handshakes for a bounded time.
#[derive(Debug)]
pub(crate) struct Callers {
    arrived: mpsc::Receiver<Arrival>,
    /// Ends all handshakes when dropped.
    _tasks: JoinSet<()>,
}

impl Callers {
    pub(crate) fn spawn(
        endpoint: Endpoint,
        listener: TcpListener,
        acceptor: Acceptor,
        door: Option<Arc<PlainDoor>>,
    ) -> Self {
        let (arrivals, arrived) = mpsc::channel(ARRIVED_CALLERS);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_quic(endpoint, arrivals.clone()));
        tasks.spawn(accept_tcp(listener, acceptor, door, arrivals));
        Self {
            arrived,
            _tasks: tasks,
        }
    }

    /// Those that a test lets come.
    #[cfg(test)]
    pub(crate) fn of(arrived: mpsc::Receiver<Arrival>) -> Self {
        Self {
            arrived,
            _tasks: JoinSet::new(),
        }
    }

    /// The next client. Cancel-safe. Pending for good once the endpoint is closed.
    pub(crate) async fn next(&mut self) -> Arrival {
        match self.arrived.recv().await {
            Some(arrival) => arrival,
            None => std::future::pending().await,
        }
    }

    /// One who waits already.
    pub(crate) fn try_next(&mut self) -> Option<Arrival> {
        self.arrived.try_recv().ok()
    }
}

async fn accept_quic(endpoint: Endpoint, arrivals: mpsc::Sender<Arrival>) {
    let mut handshakes = Handshakes::new(arrivals);
    loop {
        // accept and ended are cancel-safe.
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                if handshakes.is_busy() && !incoming.remote_address_validated() {
                    // Under load an address has to be proven first (RFC 9000 § 8.1.2).
                    let _ = incoming.retry();
                    continue;
                }
                if !handshakes.make_room(incoming.remote_address()) {
                    incoming.refuse();
                    continue;
                }
                let peer = incoming.remote_address();
                let endpoint = endpoint.clone();
                let caller = async move { greet_quic(&endpoint, incoming).await };
                handshakes.begin(peer, caller);
            }
            () = handshakes.ended() => {}
        }
    }
}

async fn accept_tcp(
    listener: TcpListener,
    acceptor: Acceptor,
    door: Option<Arc<PlainDoor>>,
    arrivals: mpsc::Sender<Arrival>,
) {
    let mut handshakes = Handshakes::new(arrivals);
    loop {
        // accept and ended are cancel-safe.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else {
                    // Out of file descriptors, say: others are about to be closed.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                // Without room the stream is dropped, which closes it.
                if !handshakes.make_room(peer) {
                    continue;
                }
                let (acceptor, door) = (acceptor.clone(), door.clone());
                let caller = async move { greet_tcp(&acceptor, door.as_deref(), stream).await };
                handshakes.begin(peer, caller);
            }
            () = handshakes.ended() => {}
        }
    }
}

async fn greet_quic(endpoint: &Endpoint, incoming: quinn::Incoming) -> Option<Arrival> {
    let connection = endpoint.admit(incoming).ok()?.await.ok()?;
    let (send, mut receive) = connection.accept_bi().await.ok()?;
    let hello = read_hello(&mut receive).await;
    greeted(hello, Line::Quic(connection, send, receive)).await
}

async fn greet_tcp(
    acceptor: &Acceptor,
    door: Option<&PlainDoor>,
    stream: TcpStream,
) -> Option<Arrival> {
    if let Some(door) = door
        && speaks_http(&stream).await
    {
        let link = ws::accept(stream, &door.bearer, &door.busy).await.ok()?;
        return Some(Arrival::Plain(Box::new(link)));
    }
    let mut stream = acceptor.accept(stream).await.ok()?;
    let hello = read_hello(&mut stream).await;
    greeted(hello, Line::Tls(Box::new(stream))).await
}

/// What a caller says first; the code to refuse it with where that is something else.
async fn read_hello<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Hello, Option<ErrorCode>> {
    match read_message(stream).await {
        Ok(Message::Hello(hello)) => Ok(hello),
        Ok(_) => Err(Some(ErrorCode::ProtocolViolation)),
        Err(ControlError::Protocol(error)) => Err(Some(error.code())),
        Err(_) => Err(None),
    }
}

/// Whoever holds the secret hears why it is not understood: another version must not take it for a
/// connection that was lost.
async fn greeted(hello: Result<Hello, Option<ErrorCode>>, line: Line) -> Option<Arrival> {
    match hello {
        Ok(hello) => Some(Arrival::Proven(Caller { hello, line })),
        Err(code) => {
            if let Some(code) = code {
                tracing::warn!(%code, "a client that holds the secret cannot be understood");
                line.refuse(code).await;
            }
            None
        }
    }
}

/// Whether the caller's first byte is that of `GET`; of TLS it is 0x16. Takes nothing away.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first == *b"G"
}

/// Clients waiting to be served or refused.
const ARRIVED_CALLERS: usize = 4;

/// Before connections are accepted again after the system refused one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Longest time for telling a caller that it is not served.
const REFUSAL: Duration = Duration::from_secs(2);
