//! From an endpoint that was found to something that a session runs over.

use std::net::SocketAddr;

use streamer_core::Transport;
use streamer_core::net::TransferError;
use streamer_core::net::control::write_message;
use streamer_core::net::dial::Dialled;
use streamer_core::net::link::{Lane, Link};
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::Connector;
use streamer_core::session::hello;
use streamer_core::wire::message::{Message, Role, SessionId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

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
    /// Opens the control stream; over TLS also starts to dial lanes.
    ///
    /// # Errors
    /// When the connection is lost meanwhile.
    pub(crate) async fn open(
        dialled: Dialled,
        session: SessionId,
        role: Role,
    ) -> Result<Self, TransferError> {
        match dialled {
            Dialled::Quic {
                endpoint,
                connection,
            } => {
                let control = connection.open_bi().await?;
                let (link, _) = Link::quic(connection, control, session, None);
                Ok(Self {
                    link,
                    endpoint: Some(endpoint),
                    lanes: JoinSet::new(),
                })
            }
            Dialled::Tls { connector, stream } => {
                let peer = stream.peer();
                let (link, more) = Link::tls(*stream, session, None);
                let mut lanes = JoinSet::new();
                for lane in 1..=TLS_LANES {
                    let greeting = Message::Hello(hello(role, session, lane));
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

/// TCP connections for data: on a path with loss each of them recovers by itself.
const TLS_LANES: u16 = 4;
