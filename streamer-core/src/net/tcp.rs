//! TLS 1.3 over TCP, for networks that drop UDP: one connection for control, one for each
//! lane.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rustix::net::sockopt;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, ServerConfig};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::net::blocking_tls::{BlockingTls, HangUp, HungUp};
use crate::net::tls::{self, IdentityError, SERVER_NAME};
use crate::net::tls_channel::Channel;
use crate::net::tls_handshake::{Party, shake_hands};
use crate::secret::TransferSecret;

/// An authenticated TCP connection.
pub struct TlsStream {
    socket: TcpStream,
    channel: Channel,
    peer: SocketAddr,
    /// Its socket once more, for [`Pulse`]: closed with it.
    twin: Option<Arc<OwnedFd>>,
}

impl TlsStream {
    async fn shake_hands(mut socket: TcpStream, party: impl Party) -> io::Result<Self> {
        prepare(&socket)?;
        let peer = socket.peer_addr()?;
        let begun = Instant::now();
        let channel = shake_hands(party, &mut socket).await?;
        // It takes at least a round trip.
        if begun.elapsed() > FAR {
            // Most systems allow it to everybody where they have it; without it, theirs is used.
            let _ = sockopt::set_tcp_congestion(&socket, "bbr");
        }
        Ok(Self {
            socket,
            channel,
            peer,
            twin: None,
        })
    }

    /// For whoever has to know soon whether the other end is still there.
    pub(crate) fn pulse(&mut self) -> Pulse {
        // Best effort: without one it takes as long as it does.
        let twin = self.socket.as_fd().try_clone_to_owned().ok().map(Arc::new);
        let pulse = twin.as_ref().map(Arc::downgrade).unwrap_or_default();
        self.twin = twin;
        Pulse(pulse)
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the other end says nothing more, or the connection is lost: known also while what it said
    /// is not read.
    pub fn has_left(&self) -> bool {
        let ready = self.socket.ready(Interest::READABLE).now_or_never();
        ready.is_some_and(|ready| ready.is_ok_and(|ready| ready.is_read_closed()))
    }

    /// For a thread that does nothing else. Nothing that has arrived is lost.
    ///
    /// # Errors
    /// When the socket is gone.
    pub(crate) fn into_blocking(self) -> io::Result<(BlockingTls, HangUp, HungUp)> {
        let socket = self.socket.into_std()?;
        bear_full_peer(&socket)?;
        if socket.local_addr()?.ip() == self.peer.ip() {
            // Best effort, as it is about speed only.
            let _ = sockopt::set_socket_send_buffer_size(&socket, LOCAL_SEND_BUFFER_BYTES);
        }
        BlockingTls::new(self.channel, socket)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.channel.outgoing().is_empty() {
            let sent = Pin::new(&mut self.socket).poll_write(cx, self.channel.outgoing());
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.channel.sent(sent),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream")
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// The socket of a [`TlsStream`], for as long as that lives.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Weak<OwnedFd>);

impl Pulse {
    /// From an end that is gone silently to the error of whoever reads, while it is [felt](Self::feel).
    pub const FELT_WITHIN: Duration = Duration::from_secs(4);

    /// Until what is returned is dropped, the system asks the other end each second whether it is there, and
    /// ends the connection when three questions are not answered. Not so while bytes wait for the other
    /// end: it may be there and take none, which cannot be told apart here.
    #[must_use]
    pub fn feel(&self) -> Feeling<'_> {
        self.set(ASKED_EVERY, Duration::ZERO);
        Feeling(self)
    }

    /// Best effort, as in [`TlsStream::pulse`].
    fn set(&self, keep_alive: Duration, timeout: Duration) {
        let Some(socket) = self.0.upgrade() else {
            return;
        };
        let _ = sockopt::set_tcp_user_timeout(&*socket, timeout.as_millis() as u32)
            .and_then(|()| sockopt::set_tcp_keepcnt(&*socket, ASKED_TIMES))
            .and_then(|()| sockopt::set_tcp_keepintvl(&*socket, keep_alive))
            .and_then(|()| sockopt::set_tcp_keepidle(&*socket, keep_alive));
    }
}

/// While it lives, a [`Pulse`] is felt.
#[derive(Debug)]
pub struct Feeling<'a>(&'a Pulse);

impl Drop for Feeling<'_> {
    fn drop(&mut self) {
        self.0.set(KEEP_ALIVE, IDLE_TIMEOUT);
    }
}

/// Accepts TLS on TCP connections.
#[derive(Clone)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// With the identity of the endpoint.
    ///
    /// # Errors
    /// As [`tls::server_config`].
    pub fn new(secret: &TransferSecret) -> Result<Self, IdentityError> {
        let mut config = tls::server_config(secret)?;
        config.enable_secret_extraction = true;
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands. Proves that the caller holds the secret. Not cancel-safe; the caller
    /// bounds the time.
    ///
    /// # Errors
    /// When the other side is a stranger, or the connection fails.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let party = UnbufferedServerConnection::new(Arc::clone(&self.0));
        TlsStream::shake_hands(stream, party.map_err(io::Error::other)?).await
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

/// Dials TLS over TCP.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
    small_segments: bool,
}

impl Connector {
    /// With the identity of the client.
    ///
    /// # Errors
    /// As [`tls::client_config`].
    pub fn new(secret: &TransferSecret) -> Result<Self, IdentityError> {
        let mut config = tls::client_config(secret)?;
        config.enable_secret_extraction = true;
        Ok(Self {
            config: Arc::new(config),
            small_segments: false,
        })
    }

    /// Of connections whose packets, both ways, are small enough for every path. Where a router
    /// drops larger ones and its word about that is filtered out, as happens between networks
    /// with jumbo frames and those without (RFC 2923 § 2.1), nothing else gets through. Once asked
    /// for it stays so.
    #[must_use]
    pub fn with_small_segments(mut self, small_segments: bool) -> Self {
        self.small_segments |= small_segments;
        self
    }

    /// Connects and shakes hands. Success proves that the endpoint holds the secret; that it
    /// accepts us is proven by its first answer only. The caller bounds the time.
    ///
    /// # Errors
    /// `InvalidData` when the other side is a stranger; else as the connection fails.
    pub async fn connect(&self, peer: SocketAddr) -> io::Result<TlsStream> {
        self.shake_hands(self.open(peer).await?).await
    }

    /// Connects, and says nothing yet.
    pub(crate) async fn open(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let socket = match peer {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        if self.small_segments {
            SockRef::from(&socket).set_tcp_mss(SMALL_SEGMENT_BYTES)?;
        }
        socket.connect(peer).await
    }

    /// The same over a connection that is open already.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream> {
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let party = UnbufferedClientConnection::new(Arc::clone(&self.config), name);
        TlsStream::shake_hands(stream, party.map_err(io::Error::other)?).await
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
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

/// The same for one that carries data.
pub(crate) fn prepare_lane(stream: &TcpStream) -> io::Result<()> {
    prepare(stream)?;
    bear_full_peer(stream)
}

fn bear_full_peer(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_user_timeout(socket, LANE_IDLE_TIMEOUT.as_millis() as u32)?;
    Ok(())
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.channel.plain().is_empty() && !this.channel.peer_ended() {
            let mut space = ReadBuf::new(this.channel.space());
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut space))?;
            let read = space.filled().len();
            if read == 0 {
                // Without a farewell: somebody else may have ended it.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            if let Err(error) = this.channel.arrived(read) {
                // The alert, if it goes at once.
                let _ = this.poll_send(cx);
                return Poll::Ready(Err(error));
            }
        }
        let plain = this.channel.plain();
        let count = plain.len().min(buf.remaining());
        buf.put_slice(&plain[..count]);
        this.channel.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let count = buf.len().min(WRITE_BYTES);
        this.channel.seal([&buf[..count], &[]])?;
        // What does not go at once is sent by the next call.
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.channel.end()?;
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

/// Between two signs of life on a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The same while somebody has to know, and how many of them may stay without an answer.
const ASKED_EVERY: Duration = Duration::from_secs(1);
const ASKED_TIMES: u32 = 3;

/// A connection whose bytes are not acknowledged for this long is taken for dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The same of a lane. Linux counts also the time for which the peer is there and takes nothing: it
/// waits for its limit, or its disk stands still. That the peer is gone the connection that controls
/// notices earlier.
pub(crate) const LANE_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// In a packet of IPv6, 1280 bytes, which every path takes (RFC 8200 § 5).
const SMALL_SEGMENT_BYTES: u32 = 1220;

/// From here on BBR is wanted: what most systems use takes every lost packet for congestion,
/// and on long paths needs minutes to recover. On short ones it has less to do.
const FAR: Duration = Duration::from_millis(5);

/// Within one machine there is no path to fill: what waits in the kernel has only left the
/// cache by the time it is read. Twice this is granted, two segments of loopback, which are
/// acknowledged at once; a single one would wait for the timer of acknowledgements.
const LOCAL_SEND_BUFFER_BYTES: usize = 64 << 10;

/// Encrypted at a time, at most.
const WRITE_BYTES: usize = 64 << 10;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Two ends of a connection.
    pub(crate) async fn pair() -> (TlsStream, TlsStream) {
        let secret = TransferSecret::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, connector) = (Acceptor::new(&secret), Connector::new(&secret));
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.unwrap().accept(stream).await.unwrap()
        };
        let connector = connector.unwrap();
        let (accepted, connected) = tokio::join!(accept, connector.connect(address));
        (accepted, connected.unwrap())
    }

    #[tokio::test]
    async fn a_lane_may_be_kept_waiting_for_longer_than_what_controls() {
        let (ours, _theirs) = pair().await;
        let timeout = |socket: &dyn AsFd| {
            let millis = sockopt::tcp_user_timeout(socket.as_fd()).unwrap();
            Duration::from_millis(millis.into())
        };
        assert_eq!(timeout(&ours.socket), IDLE_TIMEOUT);
        let (lane, _hang_up, _hung_up) = ours.into_blocking().unwrap();
        assert_eq!(timeout(&lane), LANE_IDLE_TIMEOUT);
    }

    /// Otherwise the socket is empty and its window open, and then shut for as long as the limit
    /// takes to let all of it pass.
    #[tokio::test]
    async fn who_waits_for_a_limit_reads_little_ahead() {
        let (ours, theirs) = pair().await;
        let (mut ours, _hang_up, _hung_up) = ours.into_blocking().unwrap();
        let (mut theirs, _hang_up, _hung_up) = theirs.into_blocking().unwrap();
        tokio::task::spawn_blocking(move || {
            let sent = [7; 40_000];
            theirs.write_all([&sent, &[]]).unwrap();
            ours.read_little(4096);
            assert_eq!(ours.peek(1).unwrap(), [7]);
            // Of a record it takes all of it to read a byte.
            assert!(ours.buffered() <= 20_000, "{}", ours.buffered());
            ours.read_exact(&mut [0; 40_000]).unwrap();
        })
        .await
        .unwrap();
    }
}
