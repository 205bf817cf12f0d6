//! TLS 1.3 over TCP, for networks that drop UDP: one connection for control, one for each
//! lane.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::net::blocking_tls::{BlockingTls, HangUp, HungUp};
use crate::net::tls::{self, IdentityError, SERVER_NAME};
use crate::secret::TransferSecret;

/// An authenticated TCP connection.
#[derive(Debug)]
pub struct TlsStream {
    inner: tokio_rustls::TlsStream<BufReader<TcpStream>>,
    peer: SocketAddr,
}

impl TlsStream {
    /// `handshake_took` tells how long the path is: at least a round trip.
    fn new(
        inner: tokio_rustls::TlsStream<BufReader<TcpStream>>,
        peer: SocketAddr,
        handshake_took: Duration,
    ) -> Self {
        if handshake_took > FAR {
            // Most systems allow it to everybody where they have it; without it, theirs is used.
            let socket = inner.get_ref().0.get_ref();
            let _ = sockopt::set_tcp_congestion(socket, "bbr");
        }
        Self { inner, peer }
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// For a thread that does nothing else. Nothing that has arrived is lost.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) fn into_blocking(self) -> io::Result<(BlockingTls, HangUp, HungUp)> {
        let (stream, connection): (_, rustls::Connection) = match self.inner {
            tokio_rustls::TlsStream::Client(stream) => {
                let (stream, connection) = stream.into_inner();
                (stream, connection.into())
            }
            tokio_rustls::TlsStream::Server(stream) => {
                let (stream, connection) = stream.into_inner();
                (stream, connection.into())
            }
        };
        let early = stream.buffer().to_vec();
        let socket = stream.into_inner().into_std()?;
        if socket.local_addr()?.ip() == self.peer.ip() {
            // Best effort, as it is about speed only.
            let _ = sockopt::set_socket_send_buffer_size(&socket, LOCAL_SEND_BUFFER_BYTES);
        }
        BlockingTls::new(connection, early, socket)
    }
}

/// Accepts TLS on TCP connections.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// With the identity of the endpoint.
    ///
    /// # Errors
    /// As [`tls::server_config`].
    pub fn new(secret: &TransferSecret) -> Result<Self, IdentityError> {
        Ok(Self(TlsAcceptor::from(Arc::new(tls::server_config(
            secret,
        )?))))
    }

    /// Shakes hands. Proves that the caller holds the secret. Not cancel-safe; the caller
    /// bounds the time.
    ///
    /// # Errors
    /// When the other side is a stranger, or the connection fails.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let peer = stream.peer_addr()?;
        let begun = Instant::now();
        let inner = self.0.accept(prepared(stream)?).await?.into();
        Ok(TlsStream::new(inner, peer, begun.elapsed()))
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Dials TLS over TCP.
#[derive(Clone)]
pub struct Connector(TlsConnector);

impl Connector {
    /// With the identity of the client.
    ///
    /// # Errors
    /// As [`tls::client_config`].
    pub fn new(secret: &TransferSecret) -> Result<Self, IdentityError> {
        Ok(Self(TlsConnector::from(Arc::new(tls::client_config(
            secret,
        )?))))
    }

    /// Connects and shakes hands. Success proves that the endpoint holds the secret; that it
    /// accepts us is proven by its first answer only. The caller bounds the time.
    ///
    /// # Errors
    /// `InvalidData` when the other side is a stranger; else as the connection fails.
    pub async fn connect(&self, peer: SocketAddr) -> io::Result<TlsStream> {
        let stream = TcpStream::connect(peer).await?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let begun = Instant::now();
        let inner = self.0.connect(name, prepared(stream)?).await?.into();
        Ok(TlsStream::new(inner, peer, begun.elapsed()))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

fn prepared(stream: TcpStream) -> io::Result<BufReader<TcpStream>> {
    prepare(&stream)?;
    // rustls reads 4 KiB at a time: without this, a system call for each.
    Ok(BufReader::with_capacity(READ_BUFFER_BYTES, stream))
}

/// Sets what every connection of ours needs.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Control messages are small and answered at once.
    stream.set_nodelay(true)?;
    // A peer whose machine is gone says nothing: notice as soon as QUIC would.
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_user_timeout(stream, IDLE_TIMEOUT.as_millis() as u32)?;
    Ok(())
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Between two signs of life on a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A connection whose bytes are not acknowledged for this long is taken for dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// From here on BBR is wanted: what most systems use takes every lost packet for congestion,
/// and on long paths needs minutes to recover. On short ones it has less to do.
const FAR: Duration = Duration::from_millis(5);

/// Within one machine there is no path to fill: what waits in the kernel has only left the
/// cache by the time it is read. Twice this is granted, two segments of loopback, which are
/// acknowledged at once; a single one would wait for the timer of acknowledgements.
const LOCAL_SEND_BUFFER_BYTES: usize = 64 << 10;

/// Read from the socket at a time.
const READ_BUFFER_BYTES: usize = 512 << 10;
