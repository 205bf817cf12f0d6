//! From an endpoint that was found to something that a session runs over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use streamer_core::TransferSecret;
use streamer_core::net::TransferError;
use streamer_core::net::control::write_message;
use streamer_core::net::dial::Dialled;
use streamer_core::net::limit::RateLimit;
use streamer_core::net::link::{Carrier, Lane, Link};
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::{Connector, TlsStream};
use streamer_core::session::hello;
use streamer_core::wire::message::{Message, Role, SessionId};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

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
    /// there are cores wait for each other. Under a limit each has to get something of it.
    pub(crate) fn tls(self, limit_rate: Option<u64>) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = match self {
            // Local invariant: clamped to 16 bits.
            Self::Auto => cores().clamp(2, TLS_LANES_AUTO) as u16,
            Self::Count(count) => count,
        };
        let shares = limit_rate.map_or(u64::MAX, |rate| (rate / TLS_LANE_MIN_RATE).max(1));
        u16::try_from(shares).map_or(count, |shares| count.min(shares))
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
    /// Makes what each lane says first.
    fn greeter(&self) -> impl Fn(u16) -> Message + Send + Sync + use<> {
        let (role, session) = (self.role, self.session);
        move |lane| Message::Hello(hello(role, session, lane))
    }
}

/// A link, and what has to live as long as it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) link: Link,
    /// Over QUIC.
    pub(crate) endpoint: Option<Endpoint>,
    /// Keeps the other lanes; dropping it ends that.
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
        let numbers = Numbers::default();
        match dialled {
            Dialled::Quic {
                endpoint,
                connection,
            } => {
                let control = connection.open_bi().await?;
                let peer = connection.remote_address();
                let (mut link, more) = Link::quic(connection, control, purpose.session, None);
                link.limit.clone_from(&purpose.limit);
                for _ in 1..purpose.connections.quic() {
                    let rate = purpose.limit.as_ref().map(|limit| limit.bytes_per_second());
                    let (secret, greeting) = (purpose.secret.clone(), purpose.greeter());
                    let dial = async move |lane, _| {
                        let endpoint = Endpoint::slow_dialer(peer, &secret, rate).ok()?;
                        dial_quic(&endpoint, peer, &greeting(lane)).await
                    };
                    lanes.spawn(keep_lane(dial, numbers.clone(), more.clone()));
                }
                Ok(Self {
                    link,
                    endpoint: Some(endpoint),
                    lanes,
                })
            }
            Dialled::Tls {
                connector,
                stream,
                spare,
                ..
            } => {
                let peer = stream.peer();
                let (mut link, more) = Link::tls(*stream, purpose.session, None);
                link.limit.clone_from(&purpose.limit);
                let spare = Arc::new(Mutex::new(spare));
                let rate = purpose.limit.as_ref().map(|limit| limit.bytes_per_second());
                for _ in 0..purpose.connections.tls(rate) {
                    let (connector, greeting) = (connector.clone(), purpose.greeter());
                    let spare = Arc::clone(&spare);
                    let dial = async move |lane, was_lost| {
                        let open = spare.lock().await.join_next().await;
                        let open = open.and_then(|begun| begun.ok().flatten());
                        // What was too large for the path may have broken the last one.
                        let connector = connector.clone().with_small_segments(was_lost);
                        dial_tls(&connector, peer, open, &greeting(lane)).await
                    };
                    lanes.spawn(keep_lane(dial, numbers.clone(), more.clone()));
                }
                Ok(Self {
                    link,
                    endpoint: None,
                    lanes,
                })
            }
        }
    }
}

/// Keeps one lane of a session, however often it is lost: `dial` makes one of this number, and knows
/// whether the last one was lost early. One that cannot be dialled is one less for a while; without any the
/// session says so.
async fn keep_lane(
    dial: impl AsyncFn(u16, bool) -> Option<Carrier>,
    numbers: Numbers,
    more: mpsc::Sender<Lane>,
) {
    let (mut pause, mut was_lost) = (REDIAL_PAUSE, false);
    // The session's own `Hello` goes first: a whole round trip waits for it.
    tokio::task::yield_now().await;
    while let Some(number) = numbers.next() {
        if let Ok(Some(carrier)) = timeout(DIAL_TIMEOUT, dial(number, was_lost)).await {
            let (ended, end) = oneshot::channel();
            let lane = Lane {
                number,
                carrier,
                ended: Some(ended),
            };
            if more.send(lane).await.is_err() {
                // The session is over.
                return;
            }
            let begun = Instant::now();
            // Never sent: dropped with the lane.
            let _ = end.await;
            was_lost = begun.elapsed() < YOUNG;
            if begun.elapsed() > REDIAL_PAUSE_MAX {
                pause = REDIAL_PAUSE;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(REDIAL_PAUSE_MAX);
    }
}

/// The numbers of a session's lanes, from 1 on: none is used twice.
#[derive(Debug, Clone, Default)]
struct Numbers(Arc<AtomicU16>);

impl Numbers {
    fn next(&self) -> Option<u16> {
        let next = |last: u16| last.checked_add(1);
        let last = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next)
    }
}

/// Over a connection that is open, if there is one.
async fn dial_tls(
    connector: &Connector,
    peer: SocketAddr,
    open: Option<TlsStream>,
    greeting: &Message,
) -> Option<Carrier> {
    let mut stream = match open {
        Some(open) => open,
        None => connector.connect(peer).await.ok()?,
    };
    write_message(&mut stream, greeting).await.ok()?;
    Some(Carrier::Tls(Box::new(stream)))
}

/// From a socket of its own, each time another one: the way of the last one may be lost for good.
/// Its control stream says this only.
async fn dial_quic(endpoint: &Endpoint, peer: SocketAddr, greeting: &Message) -> Option<Carrier> {
    let connection = endpoint.connect(peer).ok()?.await.ok()?;
    let (mut stream, _) = connection.open_bi().await.ok()?;
    write_message(&mut stream, greeting).await.ok()?;
    Some(Carrier::Quic(connection))
}

/// Longest for one dial: what a middlebox swallowed is tried again.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Before a lost lane is dialled again, and most after it was lost again and again.
const REDIAL_PAUSE: Duration = Duration::from_millis(100);
const REDIAL_PAUSE_MAX: Duration = Duration::from_secs(5);

/// A lane that is lost before this age may never have carried anything: longer than it is waited for
/// what it says first.
const YOUNG: Duration = Duration::from_secs(40);

/// TCP connections for data at most, unless asked for: four fill what one does not after a
/// loss.
const TLS_LANES_AUTO: usize = 4;

/// Bytes a second for a TCP connection, at least. A kernel opens the window of one that is read
/// slowly again when up to 64 KiB are free, and the peer may wait for that for two minutes.
const TLS_LANE_MIN_RATE: u64 = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_is_not_shared_by_more_connections_than_it_feeds() {
        let lanes = |rate| Connections::Count(8).tls(rate);
        assert_eq!([None, Some(u64::MAX), Some(40_000)].map(lanes), [8; 3]);
        assert_eq!([Some(1), Some(9_000)].map(lanes), [1, 2]);
        assert_eq!(Connections::Auto.tls(Some(1)), 1);
    }
}
