//! From an endpoint that was found to something that a session runs over.

use std::net::SocketAddr;
use std::sync::Arc;

use streamer_core::net::TransferError;
use streamer_core::net::control::write_message;
use streamer_core::net::dial::Dialled;
use streamer_core::net::limit::RateLimit;
use streamer_core::net::link::{Lane, Link};
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::Connector;
use streamer_core::session::hello;
use streamer_core::wire::message::{Message, Role, SessionId};
use streamer_core::{TransferSecret, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How many connections carry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connections {
    /// As many as have been found to help.
    #[default]
    Auto,
    /// So many.
    Count(u16),
}

impl Connections {
    /// Over QUIC one fills any path, and more would share one thread.
    fn quic(self) -> u16 {
        match self {
            Self::Auto => 1,
            Self::Count(count) => count,
        }
    }

    /// Over TCP each is slowed by its own losses only, and has threads of its own; more than
    /// there are cores wait for each other.
    fn tls(self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            // Local invariant: clamped to 16 bits.
            Self::Auto => cores().clamp(2, TLS_LANES_AUTO) as u16,
            Self::Count(count) => count,
        }
    }
}

/// What a line is opened for.
#[derive(Debug)]
pub(crate) struct Purpose<'a> {
    pub(crate) session: SessionId,
    pub(crate) role: Role,
    pub(crate) secret: &'a TransferSecret,
    pub(crate) connections: Connections,
    pub(crate) limit: Option<Arc<RateLimit>>,
}

impl Purpose<'_> {
    fn greeting(&self, lane: u16) -> Message {
        Message::Hello(hello(self.role, self.session, lane))
    }
}

/// A link, and what has to live as long as it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) link: Link,
    /// Over QUIC.
    pub(crate) endpoint: Option<Endpoint>,
    /// Lanes that are being dialled; dropping it ends that.
    pub(crate) lanes: JoinSet<()>,
}

impl Line {
    /// Opens the control stream and starts to dial further connections.
    ///
    /// # Errors
    /// When the connection is lost meanwhile.
    pub(crate) async fn open(
        dialled: Dialled,
        purpose: &Purpose<'_>,
    ) -> Result<Self, TransferError> {
        let mut lanes = JoinSet::new();
        match dialled {
            Dialled::Quic {
                endpoint,
                connection,
            } => {
                let control = connection.open_bi().await?;
                let peer = connection.remote_address();
                let (mut link, more) = Link::quic(connection, control, purpose.session, None);
                link.limit.clone_from(&purpose.limit);
                for lane in 1..purpose.connections.quic() {
                    let rate = purpose.limit.as_ref().map(|limit| limit.bytes_per_second());
                    let Ok(endpoint) = Endpoint::slow_dialer(peer, purpose.secret, rate) else {
                        break;
                    };
                    let greeting = purpose.greeting(lane);
                    lanes.spawn(add_quic_lane(endpoint, peer, greeting, more.clone()));
                }
                Ok(Self {
                    link,
                    endpoint: Some(endpoint),
                    lanes,
                })
            }
            Dialled::Tls {
                connector, stream, ..
            } => {
                let peer = stream.peer();
                let (mut link, more) = Link::tls(*stream, purpose.session, None);
                link.limit.clone_from(&purpose.limit);
                for lane in 1..=purpose.connections.tls() {
                    let greeting = purpose.greeting(lane);
                    lanes.spawn(add_lane(connector.clone(), peer, greeting, more.clone()));
                }
                Ok(Self {
                    link,
                    endpoint: None,
                    lanes,
                })
            }
        }
    }

    pub(crate) fn transport(&self) -> Transport {
        self.link.connection.transport()
    }
}

/// A lane that cannot be opened is one less; without any the session says so.
async fn add_lane(
    connector: Connector,
    peer: SocketAddr,
    greeting: Message,
    more: mpsc::Sender<Lane>,
) {
    let Ok(mut stream) = connector.connect(peer).await else {
        return;
    };
    if write_message(&mut stream, &greeting).await.is_ok() {
        // The session is over otherwise.
        let _ = more.send(Lane::Tls(Box::new(stream))).await;
    }
}

/// As [`add_lane`]. Its control stream has said what it had to.
async fn add_quic_lane(
    endpoint: Endpoint,
    peer: SocketAddr,
    greeting: Message,
    more: mpsc::Sender<Lane>,
) {
    let Ok(connecting) = endpoint.connect(peer) else {
        return;
    };
    let Ok(connection) = connecting.await else {
        return;
    };
    let Ok((mut stream, _)) = connection.open_bi().await else {
        return;
    };
    if write_message(&mut stream, &greeting).await.is_ok() {
        // The session is over otherwise.
        let _ = more.send(Lane::Quic(connection)).await;
    }
}

/// TCP connections for data at most, unless asked for: four fill what one does not after a
/// loss.
const TLS_LANES_AUTO: usize = 4;
