//! QUIC endpoints and their settings. Each number says where it comes from.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, Runtime as _, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};

use crate::net::congestion::RateBased;
use crate::net::connection_id::ShortIds;
use crate::net::path_mtu::udp_payload_ceiling;
use crate::net::socket::BatchedSocket;
use crate::net::tls::{self, IdentityError, SERVER_NAME};
use crate::secret::TransferSecret;

/// One UDP socket and identity; accepts and dials.
#[derive(Clone)]
pub struct Endpoint {
    inner: quinn::Endpoint,
    server: Option<Arc<QuicServerConfig>>,
    client: Option<Arc<QuicClientConfig>>,
    buffers: SocketBuffers,
    window: u32,
}

/// What the kernel granted of the socket buffers asked for, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBuffers {
    /// For sending.
    pub send: usize,
    /// For receiving.
    pub receive: usize,
}

impl SocketBuffers {
    /// Whether less was granted than a fast or long path needs: `net.core.rmem_max` or
    /// `wmem_max` is low.
    pub fn are_small(self) -> bool {
        self.send.min(self.receive) < SOCKET_BUFFER_BYTES / 2
    }
}

impl Endpoint {
    /// Accepts on this address.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub fn bind(address: SocketAddr, secret: &TransferSecret) -> Result<Self, BindError> {
        let tls = QuicServerConfig::try_from(tls::server_config(secret)?)
            .map_err(|_| BindError::NoInitialCipherSuite)?;
        let mut endpoint = Self::on_socket(UdpSocket::bind(address)?)?;
        let tls = Arc::new(tls);
        let mut config = ServerConfig::with_crypto(Arc::clone(&tls) as _);
        config
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES);
        config.incoming_buffer_size_total(MAX_INCOMING as u64 * INCOMING_BUFFER_BYTES);
        endpoint.inner.set_server_config(Some(config));
        endpoint.server = Some(tls);
        Ok(endpoint)
    }

    /// Dials only, from any port, to addresses of the family of `family`.
    ///
    /// # Errors
    /// When no socket can be made.
    pub fn dialer(family: SocketAddr, secret: &TransferSecret) -> Result<Self, BindError> {
        Self::slow_dialer(family, secret, None)
    }

    /// As [`dialer`](Self::dialer), for a transfer of at most so many bytes a second: the peer
    /// may not send much more ahead of what is taken.
    ///
    /// # Errors
    /// As [`dialer`](Self::dialer).
    pub fn slow_dialer(
        family: SocketAddr,
        secret: &TransferSecret,
        bytes_per_second: Option<u64>,
    ) -> Result<Self, BindError> {
        let any: SocketAddr = if family.is_ipv4() {
            (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let tls = QuicClientConfig::try_from(tls::client_config(secret)?)
            .map_err(|_| BindError::NoInitialCipherSuite)?;
        let mut endpoint = Self::on_socket(UdpSocket::bind(any)?)?;
        endpoint.client = Some(Arc::new(tls));
        endpoint.window = bytes_per_second.map_or(CONNECTION_WINDOW_BYTES, slow_window_bytes);
        Ok(endpoint)
    }

    fn on_socket(socket: UdpSocket) -> Result<Self, BindError> {
        let buffers = enlarge_buffers(&socket);
        let mut config = EndpointConfig::default();
        // Local invariant: between 1200 and 65527, as quinn asks.
        let _ = config.max_udp_payload_size(MAX_UDP_PAYLOAD_BYTES);
        config.cid_generator(|| Box::new(ShortIds::new()));
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        let abstract_socket = Arc::new(BatchedSocket::new(inner));
        let runtime = Arc::new(TokioRuntime);
        let inner =
            quinn::Endpoint::new_with_abstract_socket(config, None, abstract_socket, runtime)?;
        Ok(Self {
            inner,
            server: None,
            client: None,
            buffers,
            window: CONNECTION_WINDOW_BYTES,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// What the kernel granted.
    pub fn buffers(&self) -> SocketBuffers {
        self.buffers
    }

    /// Starts to dial. Success of the returned future proves that the endpoint holds the
    /// secret; that it accepts us is proven by its first answer only.
    ///
    /// # Errors
    /// When the address cannot be dialled at all.
    pub fn connect(&self, peer: SocketAddr) -> Result<quinn::Connecting, quinn::ConnectError> {
        let tls = self
            .client
            .clone()
            .ok_or(quinn::ConnectError::NoDefaultClientConfig)?;
        let mut config = ClientConfig::new(tls);
        config.transport_config(self.transport(peer));
        self.inner.connect_with(config, peer, SERVER_NAME)
    }

    /// The next caller, who may be anybody. `None` when the endpoint is closed.
    ///
    /// Cancel-safe.
    pub async fn accept(&self) -> Option<quinn::Incoming> {
        self.inner.accept().await
    }

    /// Lets a caller begin its handshake, with settings for the path to it.
    ///
    /// # Errors
    /// When the caller's first packet is not valid.
    pub fn admit(
        &self,
        incoming: quinn::Incoming,
    ) -> Result<quinn::Connecting, quinn::ConnectionError> {
        let Some(tls) = self.server.clone() else {
            return incoming.accept();
        };
        let mut config = ServerConfig::with_crypto(tls);
        config.transport_config(self.transport(incoming.remote_address()));
        incoming.accept_with(Arc::new(config))
    }

    /// Closes every connection and waits, for a short time, until that has left this machine.
    ///
    /// A peer that misses it loses nothing: whatever matters was acknowledged before.
    pub async fn close(&self) {
        self.inner.close(VarInt::from_u32(0), &[]);
        let _ = tokio::time::timeout(CLOSE_WAIT, self.inner.wait_idle()).await;
    }

    fn transport(&self, peer: SocketAddr) -> Arc<TransportConfig> {
        Arc::new(transport_config(udp_payload_ceiling(peer), self.window))
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            inner,
            server: _,
            client: _,
            buffers,
            window: _,
        } = self;
        f.debug_struct("Endpoint")
            .field("inner", inner)
            .field("buffers", buffers)
            .finish()
    }
}

/// Lets a sender keep as much unacknowledged as a fast path of this length holds, and all
/// lanes together no more than is allowed for.
pub(crate) fn fit_send_windows(lanes: &[quinn::Connection]) {
    for lane in lanes {
        let share = lane_share_bytes(lanes.len());
        lane.set_send_window(send_window_bytes(lane.min_rtt()).min(share));
    }
}

/// Lets all lanes of a receiver together buffer no more than is allowed for.
pub(crate) fn fit_receive_windows(lanes: &[quinn::Connection]) {
    let share = lane_share_bytes(lanes.len()).min(u64::from(CONNECTION_WINDOW_BYTES));
    for lane in lanes {
        // Local invariant: at most 32 bits.
        lane.set_receive_window(VarInt::from(share as u32));
    }
}

fn lane_share_bytes(lanes: usize) -> u64 {
    LANES_WINDOW_BYTES / lanes.max(1) as u64
}

/// What moves in half a second: more than any round trip.
fn slow_window_bytes(bytes_per_second: u64) -> u32 {
    let half_a_second = bytes_per_second / 2;
    let bounded = half_a_second.clamp(SLOW_WINDOW_BYTES, u64::from(CONNECTION_WINDOW_BYTES));
    // Local invariant: at most 32 bits.
    bounded as u32
}

/// Twice the product of the round trip and 10 Gbit/s: on short paths little, since more only
/// overruns the receiver's socket buffer; on long ones what the receiver's window takes.
fn send_window_bytes(round_trip: Duration) -> u64 {
    let micros = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    let product = micros.saturating_mul(2 * FAST_PATH_BYTES_PER_MICROSECOND);
    product.clamp(SEND_WINDOW_BYTES, u64::from(STREAM_WINDOW_BYTES))
}

/// An endpoint could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The TLS library lacks AES-128-GCM, which QUIC starts with.
    #[error("the TLS library has no cipher suite for QUIC")]
    NoInitialCipherSuite,
}

fn transport_config(payload_ceiling: u16, window: u32) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(payload_ceiling);
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from(MAX_CONTROL_STREAMS))
        .max_concurrent_uni_streams(VarInt::from(MAX_DATA_STREAMS))
        .stream_receive_window(VarInt::from(window.min(STREAM_WINDOW_BYTES)))
        .receive_window(VarInt::from(window))
        .send_window(SEND_WINDOW_BYTES)
        // Local invariant: 10 s in milliseconds fits a VarInt.
        .max_idle_timeout(IdleTimeout::try_from(IDLE_TIMEOUT).ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(Arc::new(RateBased))
        .mtu_discovery_config(Some(discovery));
    config
}

/// Asks for large buffers, for bursts between two turns of a busy thread; reads back what the
/// kernel gave, since it clamps without saying so.
fn enlarge_buffers(socket: &UdpSocket) -> SocketBuffers {
    use rustix::net::sockopt;
    // Best effort: what was granted is reported below.
    let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
    // Linux reports twice what it grants, for its own bookkeeping (socket(7)).
    SocketBuffers {
        send: sockopt::socket_send_buffer_size(socket).unwrap_or(0) / 2,
        receive: sockopt::socket_recv_buffer_size(socket).unwrap_or(0) / 2,
    }
}

/// Largest UDP payload of IPv6 without jumbograms, and the most that quinn takes.
const MAX_UDP_PAYLOAD_BYTES: u16 = 65_527;

/// Covers 1 Gbit/s × 200 ms (25 MB). Memory is used only while the disk is behind.
const STREAM_WINDOW_BYTES: u32 = 25 << 20;

/// Little more than one stream's: memory of the receiver stays below this.
const CONNECTION_WINDOW_BYTES: u32 = 26 << 20;

/// The windows of all lanes of a transfer, for each end.
const LANES_WINDOW_BYTES: u64 = 40 << 20;

/// Less would stop a sender between two acknowledgements.
const SLOW_WINDOW_BYTES: u64 = 256 << 10;

/// Unacknowledged bytes that a sender keeps at least: half of the receiver's socket buffer.
const SEND_WINDOW_BYTES: u64 = 2 << 20;

/// 10 Gbit/s.
const FAST_PATH_BYTES_PER_MICROSECOND: u64 = 1250;

/// Enough for 32 lanes on one connection.
const MAX_DATA_STREAMS: u32 = 32;

/// The control stream, and one for a client that comes back.
const MAX_CONTROL_STREAMS: u32 = 2;

/// A path that is silent for this long is taken for dead: ten keep-alives of each side in a row
/// were lost. Nothing else tells a client that its endpoint was killed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Well below the idle timeout, and below the patience of NAT tables; also what tells an
/// endpoint that its client is still there when another one calls.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Callers that may wait for their handshake at a time; more are dropped.
const MAX_INCOMING: usize = 64;

/// What a caller may send before its handshake is looked at.
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;

/// The bandwidth-delay product of 10 Gbit/s × 5 ms, and what `rmem_max` is on tuned nodes.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Enough for a packet to be sent, and on short paths for a lost one to be sent again; the
/// whole drain period of RFC 9000 § 10.2 would make every transfer wait for three timeouts.
const CLOSE_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_send_window_covers_long_paths_and_stays_small_on_short_ones() {
        assert_eq!(
            send_window_bytes(Duration::from_micros(30)),
            SEND_WINDOW_BYTES
        );
        let gigabit_for_200_ms = 25_000_000;
        assert!(send_window_bytes(Duration::from_millis(200)) >= gigabit_for_200_ms);
        assert!(send_window_bytes(Duration::MAX) <= u64::from(STREAM_WINDOW_BYTES));
    }

    #[test]
    fn lanes_share_the_memory_and_a_slow_transfer_takes_little() {
        for lanes in 1..=crate::limits::LANES_MAX {
            assert!(lane_share_bytes(lanes) * lanes as u64 <= LANES_WINDOW_BYTES);
        }
        assert_eq!(u64::from(slow_window_bytes(1)), SLOW_WINDOW_BYTES);
        assert_eq!(slow_window_bytes(20_000_000), 10_000_000);
        assert_eq!(slow_window_bytes(u64::MAX), CONNECTION_WINDOW_BYTES);
    }
}
