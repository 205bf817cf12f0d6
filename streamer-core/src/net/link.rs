//! One authenticated connection with its control stream, ready for a session; and the lanes
//! on which records travel. The same for every transport.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::coordinates::Transport;
use crate::error::ErrorCode;
use crate::limits;
use crate::net::TransferError;
use crate::net::control::ControlError;
use crate::net::limit::RateLimit;
use crate::net::tcp::{Pulse, TlsStream};
use crate::session::SessionError;
use crate::wire::message::{Message, SessionId};

/// What a session runs over.
pub struct Link {
    /// The connection.
    pub connection: Connection,
    /// Our half of the control stream.
    pub control_send: Box<dyn AsyncWrite + Send + Unpin>,
    /// The peer's half.
    pub control_receive: Box<dyn AsyncRead + Send + Unpin>,
    /// Whose session it is: chosen by the dialer.
    pub session: SessionId,
    /// The peer's first message, where it was read already: at the listener.
    pub greeting: Option<Message>,
    /// What records travel on; more may come while the session runs.
    pub lanes: mpsc::Receiver<Lane>,
    /// How fast they may travel.
    pub limit: Option<Arc<RateLimit>>,
}

impl Link {
    /// Over one QUIC connection, which is also its own first lane. More lanes may be given
    /// through the returned sender.
    pub fn quic(
        connection: quinn::Connection,
        (control_send, control_receive): (quinn::SendStream, quinn::RecvStream),
        session: SessionId,
        greeting: Option<Message>,
    ) -> (Self, mpsc::Sender<Lane>) {
        let (more, lanes) = mpsc::channel(limits::LANES_MAX);
        // Local invariant: the channel is new and has room.
        let _ = more.try_send(Lane {
            number: 0,
            carrier: Carrier::Quic(connection.clone()),
            ended: None,
        });
        let link = Self {
            connection: Connection::Quic(connection),
            control_send: Box::new(control_send),
            control_receive: Box::new(control_receive),
            session,
            greeting,
            lanes,
            limit: None,
        };
        (link, more)
    }

    /// Over TLS: one TCP connection for control; its lanes are given through the returned
    /// sender.
    pub fn tls(
        mut stream: TlsStream,
        session: SessionId,
        greeting: Option<Message>,
    ) -> (Self, mpsc::Sender<Lane>) {
        let (more, lanes) = mpsc::channel(limits::LANES_MAX);
        let (peer, pulse) = (stream.peer(), stream.pulse());
        let (control_receive, control_send) = tokio::io::split(stream);
        let link = Self {
            connection: Connection::Tls {
                peer,
                open: watch::Sender::new(true),
                pulse,
            },
            control_send: Box::new(control_send),
            control_receive: Box::new(control_receive),
            session,
            greeting,
            lanes,
            limit: None,
        };
        (link, more)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

/// The connection that a session stands and falls with.
#[derive(Debug, Clone)]
pub enum Connection {
    /// QUIC: control and data.
    Quic(quinn::Connection),
    /// TLS over TCP: control only.
    Tls {
        /// The other end.
        peer: SocketAddr,
        /// False once this side has closed it.
        open: watch::Sender<bool>,
        /// Whether the other end is there.
        pulse: Pulse,
    },
}

impl Connection {
    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.remote_address(),
            Self::Tls { peer, .. } => *peer,
        }
    }

    /// How bytes travel.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Quic(_) => Transport::Quic,
            Self::Tls { .. } => Transport::Tls,
        }
    }

    /// Closes it with a reason, or with none. Over TLS the reason travels as a message only.
    pub fn close(&self, reason: Option<ErrorCode>) {
        match self {
            Self::Quic(connection) => {
                let code = reason.map_or(0, ErrorCode::number);
                connection.close(quinn::VarInt::from(u32::from(code)), &[]);
            }
            Self::Tls { open, .. } => {
                open.send_replace(false);
            }
        }
    }

    /// Tells those who hold this connection that its session is over, while the last words
    /// are said and files put away. Over QUIC the connection itself tells.
    pub(crate) fn hang_up(&self) {
        if let Self::Tls { .. } = self {
            self.close(None);
        }
    }

    /// Until when the first lane has to come. `None` over QUIC, where this connection is one.
    pub(crate) fn first_lane_due(&self) -> Option<Instant> {
        match self {
            Self::Quic(_) => None,
            Self::Tls { .. } => Some(Instant::now() + FIRST_LANE),
        }
    }

    /// Waits for its end; why it ended. Cancel-safe.
    pub(crate) async fn closed(&self) -> TransferError {
        match self {
            Self::Quic(connection) => closed(&connection.closed().await),
            Self::Tls { open, .. } => {
                // Fails only when nobody can close it any more.
                let _ = open.subscribe().wait_for(|open| !open).await;
                TransferError::Lost("the TCP connection ended".to_owned())
            }
        }
    }

    /// Waits until the other side closes it in good order: `false` when it breaks, or is closed
    /// for a reason. Over TLS the control stream tells. Cancel-safe.
    pub(crate) async fn ends_well(&self) -> bool {
        match self {
            Self::Quic(connection) => matches!(
                connection.closed().await,
                quinn::ConnectionError::ApplicationClosed(close)
                    if close.error_code.into_inner() == 0
            ),
            Self::Tls { .. } => false,
        }
    }

    /// Waits until this side has closed it. Over QUIC the control stream tells: then it is
    /// pending. Cancel-safe.
    pub(crate) async fn cut(&self) {
        match self {
            Self::Quic(_) => std::future::pending().await,
            Self::Tls { .. } => drop(self.closed().await),
        }
    }

    /// What a failure of the control stream means: the peer may have closed with a reason.
    pub(crate) fn lost(&self, error: ControlError) -> TransferError {
        match (self, &error) {
            (Self::Quic(connection), ControlError::Stream(_) | ControlError::Ended) => connection
                .close_reason()
                .map_or_else(|| error.into(), |reason| closed(&reason)),
            _ => error.into(),
        }
    }
}

fn closed(reason: &quinn::ConnectionError) -> TransferError {
    match reason {
        quinn::ConnectionError::ApplicationClosed(close) => {
            match u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX) {
                0 => TransferError::Lost("closed by the other side".to_owned()),
                code => SessionError::Peer(ErrorCode::from(code)).into(),
            }
        }
        other => TransferError::Lost(other.to_string()),
    }
}

/// Something that carries records.
#[derive(Debug)]
pub struct Lane {
    /// As its `Hello` said: each number is used once in a session. 0 is the connection that
    /// controls.
    pub number: u16,
    /// What it is.
    pub carrier: Carrier,
    /// Dropped when the lane has ended, for whoever will dial another one.
    pub ended: Option<oneshot::Sender<()>>,
}

/// What a lane is.
#[derive(Debug)]
pub enum Carrier {
    /// A QUIC connection, on which the sender opens streams.
    Quic(quinn::Connection),
    /// A TCP connection of its own.
    Tls(Box<TlsStream>),
}

/// Longest wait for the first of the connections that carry data.
const FIRST_LANE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, Join};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::blocks::BlockRun;
    use crate::net::control;
    use crate::net::send::SenderConfig;
    use crate::net::{Transferred, receive, send};
    use crate::path::RelPath;
    use crate::session::{ReceiverConfig, hello};
    use crate::store::source::Source;
    use crate::store::target::{Target, TargetPolicy};
    use crate::wire::message::{
        Abort, Entry, EntryKind, EntryRun, LaneBlocks, Offer, Role, Timestamp,
    };

    fn link(
        control_send: DuplexStream,
        control_receive: DuplexStream,
        greeting: Option<Message>,
    ) -> (Link, mpsc::Sender<Lane>) {
        let (more, lanes) = mpsc::channel(1);
        let link = Link {
            connection: Connection::Tls {
                peer: ([127, 0, 0, 1], 1).into(),
                open: watch::Sender::new(true),
                pulse: Pulse::default(),
            },
            control_send: Box::new(control_send),
            control_receive: Box::new(control_receive),
            session: SESSION,
            greeting,
            lanes,
            limit: None,
        };
        (link, more)
    }

    /// With a peer that was killed: what is written fails, and what it said is still read.
    fn link_to_nobody(role: Role) -> (Link, DuplexStream, mpsc::Sender<Lane>) {
        let (control_send, _) = tokio::io::duplex(1);
        let (says, control_receive) = tokio::io::duplex(10_000);
        let greeting = Message::Hello(hello(role, SESSION, 0));
        let (link, more) = link(control_send, control_receive, Some(greeting));
        (link, says, more)
    }

    /// With a peer that hears us.
    fn link_to_somebody(
        greeting: Option<Message>,
    ) -> (Link, Join<DuplexStream, DuplexStream>, mpsc::Sender<Lane>) {
        let (control_send, hears) = tokio::io::duplex(100_000);
        let (says, control_receive) = tokio::io::duplex(100_000);
        let (link, more) = link(control_send, control_receive, greeting);
        (link, tokio::io::join(hears, says), more)
    }

    const SESSION: SessionId = SessionId([7; 16]);

    /// Either side of a session, which dials.
    async fn dialer(role: Role, link: Link) -> Result<Transferred, TransferError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let stop = std::future::pending();
        match role {
            Role::Sender => {
                std::fs::write(&path, "bytes").unwrap();
                let source = Source::open(&path).unwrap();
                send::send(link, source, SenderConfig::default(), Arc::default(), stop).await
            }
            Role::Receiver => {
                let target = Target::new(&path, TargetPolicy::default());
                let config = ReceiverConfig::default();
                receive::receive(link, target, config, Arc::default(), stop).await
            }
        }
    }

    #[tokio::test]
    async fn an_endpoint_of_another_version_is_told_so_and_the_session_is_not_lost() {
        for role in [Role::Sender, Role::Receiver] {
            let (link, mut theirs, _lanes) = link_to_somebody(None);
            let answers = async move {
                // A `Hello` of version 2, of which nothing more is known here.
                let newer = [0, 0, 0, 4, 0, 2, 9, 9];
                tokio::io::AsyncWriteExt::write_all(&mut theirs, &newer)
                    .await
                    .unwrap();
                let mut said = Vec::new();
                while let Ok(message) = control::read_message(&mut theirs).await {
                    said.push(message);
                }
                said
            };
            let (ended, said) = tokio::join!(dialer(role, link), answers);
            let code = ErrorCode::UnsupportedVersion;
            assert_eq!(ended.unwrap_err().code(), Some(code));
            assert_eq!(said.last(), Some(&Message::Abort(Abort { code })));
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_says_nothing_is_lost() {
        for role in [Role::Sender, Role::Receiver] {
            let (link, theirs, more) = link_to_somebody(None);
            let session = tokio::spawn(dialer(role, link));
            tokio::time::pause();
            // Threads of a session keep the clock from running by itself.
            while !session.is_finished() {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
            tokio::time::resume();
            let ended = session.await.unwrap().unwrap_err();
            assert!(ended.is_lost(), "{ended:?}");
            assert!(ended.to_string().contains("greet"), "{ended}");
            drop((theirs, more));
        }
    }

    /// Everything that it says is answered.
    #[tokio::test]
    async fn a_peer_that_talks_and_does_not_listen_is_given_up() {
        let greeting = Message::Hello(hello(Role::Sender, SESSION, 0));
        let (link, mut peer, _lanes) = link_to_somebody(Some(greeting));
        let talks = async move {
            let entry = Entry {
                path: RelPath::root(),
                kind: EntryKind::File { size: 4 << 30 },
                mode: 0o600,
                modified: Timestamp::default(),
                has_holes: true,
            };
            let offer = Message::Offer(Offer {
                first: 0,
                entries: vec![entry],
                last: true,
            });
            control::write_message(&mut peer, &offer).await.unwrap();
            while !matches!(
                control::read_message(&mut peer).await.unwrap(),
                Message::Answer(_)
            ) {}
            let run = |block| EntryRun {
                entry: 0,
                run: BlockRun {
                    first: 2 * block,
                    count: 1,
                },
            };
            for lane in 1.. {
                let lost = Message::LaneLost(LaneBlocks {
                    lane,
                    runs: (0..limits::BATCH_MAX_ENTRIES as u64).map(run).collect(),
                    last: true,
                });
                if control::write_message(&mut peer, &lost).await.is_err() {
                    break;
                }
            }
            // Until now nothing was read.
            peer
        };
        let received = dialer(Role::Receiver, link);
        let (ended, _peer) = tokio::join!(timeout(DEADLINE, received), talks);
        let code = ended.expect("an end").unwrap_err().code();
        assert_eq!(code, Some(ErrorCode::LimitExceeded));
    }

    fn assert_lost(session: impl AsyncFnOnce() -> Result<Transferred, TransferError>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let result = runtime.block_on(async { timeout(DEADLINE, session()).await });
        // A session that does not end has threads that do not either.
        runtime.shutdown_background();
        let result = result.expect("a session that ends");
        let is_lost = result.as_ref().is_err_and(TransferError::is_lost);
        assert!(is_lost, "{result:?}");
    }

    #[test]
    fn a_sender_whom_nobody_hears_does_not_wait_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        // Offered in several messages.
        for number in 0..200 {
            std::fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        let source = Source::open(dir.path()).unwrap();
        assert_lost(async || {
            let (link, _says, _lanes) = link_to_nobody(Role::Receiver);
            let (config, stop) = (SenderConfig::default(), std::future::pending());
            send::send(link, source, config, Arc::default(), stop).await
        });
    }

    #[test]
    fn a_receiver_whom_nobody_hears_does_not_wait_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("target"), TargetPolicy::default());
        assert_lost(async || {
            let (link, says, _lanes) = link_to_nobody(Role::Sender);
            let (config, stop) = (ReceiverConfig::default(), std::future::pending());
            tokio::select! {
                ended = receive::receive(link, target, config, Arc::default(), stop) => ended,
                () = offer_many(says) => unreachable!("it ends before"),
            }
        });
    }

    /// One directory after the other, each of which is answered.
    async fn offer_many(mut says: DuplexStream) {
        for first in 0.. {
            let path = match first {
                0 => RelPath::root(),
                _ => RelPath::try_from(first.to_string().into_bytes()).unwrap(),
            };
            let entry = Entry {
                path,
                kind: EntryKind::Directory,
                mode: 0o700,
                modified: Timestamp::default(),
                has_holes: false,
            };
            let offer = Message::Offer(Offer {
                first,
                entries: vec![entry],
                last: false,
            });
            control::write_message(&mut says, &offer).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
    }

    const DEADLINE: Duration = Duration::from_secs(20);
}
