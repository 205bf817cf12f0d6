//! An endpoint in this process, and a client that has its coordinates.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use streamer_core::net::dial::{Choice, Dialled, dial};
use streamer_core::net::link::Link;
use streamer_core::net::{Progress, TransferError, Transferred, receive};
use streamer_core::session::ReceiverConfig;
use streamer_core::store::target::{Existing, Target, TargetPolicy};
use streamer_core::wire::message::SessionId;
use streamer_core::{Coordinates, Operation, PortRange, TransferSecret};
use streamer_server::{Config, Notice, ServeError, Served, serve};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Longest wait for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// An endpoint that sends a file, or receives one.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) coordinates: Coordinates,
    pub(crate) address: SocketAddr,
    served: JoinHandle<Result<Served, ServeError>>,
    /// One for each caller that was served.
    pub(crate) connected: mpsc::Receiver<SocketAddr>,
    /// One for each that was lost.
    pub(crate) lost: mpsc::Receiver<()>,
    _stop: watch::Sender<Option<streamer_core::ErrorCode>>,
}

const CONTENT: &[u8] = b"what the endpoint sends";

impl World {
    pub(crate) async fn new() -> Self {
        Self::sending(CONTENT).await
    }

    pub(crate) async fn sending(content: &[u8]) -> Self {
        Self::of(Operation::Send, content, DEADLINE).await
    }

    pub(crate) async fn receiving() -> Self {
        Self::of(Operation::Receive, CONTENT, DEADLINE).await
    }

    /// One that receives however much, and waits for so long.
    pub(crate) async fn receiving_anything(wait_timeout: Duration) -> Self {
        let config = |path| Config {
            wait_timeout,
            inbound_limit_bytes: u64::MAX,
            ..config(Operation::Receive, path)
        };
        Self::with(Operation::Receive, CONTENT, config).await
    }

    /// One that waits for so long.
    pub(crate) async fn waiting(wait_timeout: Duration) -> Self {
        Self::of(Operation::Send, CONTENT, wait_timeout).await
    }

    async fn of(operation: Operation, content: &[u8], wait_timeout: Duration) -> Self {
        let config = |path| Config {
            wait_timeout,
            ..config(operation, path)
        };
        Self::with(operation, content, config).await
    }

    async fn with(
        operation: Operation,
        content: &[u8],
        config: impl FnOnce(PathBuf) -> Config,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("source"), content).unwrap();
        let path = dir.path().join(match operation {
            Operation::Send => "source",
            Operation::Receive => "received",
        });
        let (stop, stopped) = watch::channel(None);
        let (tell, listening) = oneshot::channel();
        let (connections, connected) = mpsc::channel(64);
        let (losses, lost) = mpsc::channel(64);
        let mut tell = Some(tell);
        let notify = move |notice: Notice<'_>| match notice {
            Notice::Listening {
                address,
                coordinates,
            } => {
                tell.take()
                    .unwrap()
                    .send((address, coordinates.clone()))
                    .unwrap();
            }
            Notice::Connected { peer, .. } => connections.try_send(peer).unwrap(),
            Notice::Lost { .. } => losses.try_send(()).unwrap(),
            _ => {}
        };
        let served = tokio::spawn(serve(config(path), Arc::default(), notify, (), stopped));
        let (address, coordinates) = listening.await.unwrap();
        Self {
            dir,
            coordinates,
            address,
            served,
            connected,
            lost,
            _stop: stop,
        }
    }

    /// What the endpoint was told to send or to make, and what is beside it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until the endpoint has left, content.
    pub(crate) async fn assert_served(&mut self) -> Served {
        let served = tokio::time::timeout(DEADLINE, &mut self.served)
            .await
            .unwrap();
        served.unwrap().unwrap()
    }

    /// Waits until the endpoint has left, and why.
    pub(crate) async fn left(self) -> ServeError {
        let served = tokio::time::timeout(DEADLINE, self.served).await.unwrap();
        served.unwrap().unwrap_err()
    }

    /// A client that gets the file, after strangers.
    pub(crate) async fn assert_serves(mut self) {
        assert!(self.connected.try_recv().is_err(), "a stranger was served");
        self.assert_serves_after(0).await;
    }

    /// A client that gets the file, after so many that were served and left.
    pub(crate) async fn assert_serves_after(self, sessions: u32) {
        self.receive(ReceiverConfig::default()).await;
        assert_eq!(std::fs::read(self.path("target")).unwrap(), CONTENT);
        let served = tokio::time::timeout(DEADLINE, self.served).await.unwrap();
        assert_eq!(served.unwrap().unwrap().sessions, sessions + 1);
    }

    /// A client that receives into `target`, over QUIC.
    pub(crate) async fn receive(&self, config: ReceiverConfig) -> Transferred {
        self.try_receive(config).await.unwrap()
    }

    pub(crate) async fn try_receive(
        &self,
        config: ReceiverConfig,
    ) -> Result<Transferred, TransferError> {
        let dialled = dial(&self.coordinates, Choice::Quic, DEADLINE)
            .await
            .unwrap();
        let Dialled::Quic {
            endpoint,
            connection,
        } = dialled
        else {
            panic!("not over QUIC")
        };
        let control = connection.open_bi().await.unwrap();
        let (link, _lanes) = Link::quic(connection, control, SessionId([7; 16]), None);
        let progress = Arc::<Progress>::default();
        let place = Target::new(&self.path("target"), TargetPolicy::default());
        let received = receive::receive(link, place, config, progress, std::future::pending());
        let transferred = received.await;
        endpoint.close().await;
        transferred
    }
}

pub(crate) fn config(operation: Operation, path: PathBuf) -> Config {
    Config {
        host: "127.0.0.1".to_owned(),
        public_ips: vec!["127.0.0.1".to_owned()],
        ports: free_port(),
        wait_timeout: DEADLINE,
        inbound_limit_bytes: 100 << 20,
        existing: Existing::Refuse,
        secret: TransferSecret::generate().unwrap(),
        operation,
        path,
        allow_websocket: false,
    }
}

/// A range around a port that the system gave out for both protocols.
fn free_port() -> PortRange {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return PortRange::new(port, port.saturating_add(8)).unwrap();
        }
    }
}
