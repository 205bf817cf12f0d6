//! Where callers are between their greeting and a session.

use std::pin::Pin;
use std::time::Duration;

use streamer_core::wire::message::SessionId;
use streamer_core::{ErrorCode, limits};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::callers::{Arrival, Caller, Callers};

/// Callers who have greeted. What it keeps of them is bounded, and let go of once they leave.
#[derive(Debug)]
pub(crate) struct Lobby {
    callers: Callers,
    /// Lanes that arrived before the session that they belong to.
    early_lanes: Vec<Caller>,
}

impl Lobby {
    pub(crate) fn new(callers: Callers) -> Self {
        Self {
            callers,
            early_lanes: Vec::new(),
        }
    }

    /// The next caller, lanes included. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Arrival {
        self.callers.next().await
    }

    /// The next caller who opens a session; lanes wait for theirs. Cancel-safe.
    pub(crate) async fn next_control(&mut self) -> Arrival {
        loop {
            match self.callers.next().await {
                Arrival::Proven(caller) if caller.hello.lane > 0 => self.keep(caller),
                opens => return opens,
            }
        }
    }

    /// Tells whoever waits, and `next`, why there is nothing left to come for. Bounded in time, as each
    /// refusal is and the number of those who wait.
    pub(crate) async fn close(mut self, next: Option<Caller>, code: ErrorCode) {
        let mut refusals = JoinSet::new();
        let mut waiting = next.map(Arrival::Proven);
        for _ in 0..HEARD_AT_THE_END {
            let Some(arrival) = waiting.take().or_else(|| self.callers.try_next()) else {
                break;
            };
            match arrival {
                Arrival::Proven(caller) if caller.hello.lane == 0 => {
                    refusals.spawn(caller.line.refuse(code));
                }
                // The plaintext protocol has no word for it; a lane's session is over.
                Arrival::Proven(_) | Arrival::Plain(_) => {}
            }
            // There is room now for one who waited to be heard.
            tokio::task::yield_now().await;
        }
        refusals.join_all().await;
    }

    /// The lanes of a session that begins. Those of any other are let go of.
    pub(crate) fn lanes_of(&mut self, session: SessionId) -> impl Iterator<Item = Caller> {
        let lanes = std::mem::take(&mut self.early_lanes).into_iter();
        lanes.filter(move |lane| lane.hello.session == session)
    }

    /// Waits until a session has ended, whose files a disk may keep for hours, and looks after who calls
    /// meanwhile: `heir` is served next unless it leaves; whoever comes while it is there is given to
    /// `refuse`. Not cancel-safe.
    ///
    /// Returns what the session came to, and who is served next.
    pub(crate) async fn until_ended<T>(
        &mut self,
        mut session: Pin<&mut impl Future<Output = T>>,
        heir: Option<Caller>,
        mut refuse: impl FnMut(Arrival),
    ) -> (T, Option<Caller>) {
        let mut heir = heir;
        loop {
            // `session` is kept across turns; the other arms are cancel-safe.
            tokio::select! {
                ended = &mut session => {
                    self.let_go();
                    return (ended, heir.filter(|heir| !heir.has_left()));
                }
                arrival = self.next_control() => {
                    heir = heir.filter(|heir| !heir.has_left());
                    match arrival {
                        Arrival::Proven(caller) if is_succeeded(heir.as_ref(), &caller) => {
                            heir = Some(caller);
                        }
                        other => refuse(other),
                    }
                }
                () = sleep(GLANCE) => {
                    self.let_go();
                    heir = heir.filter(|heir| !heir.has_left());
                }
            }
        }
    }

    /// Keeps a lane for a session that may begin. More than a session may have are dropped, which closes
    /// them: their client dials others.
    pub(crate) fn keep(&mut self, lane: Caller) {
        self.let_go();
        if self.early_lanes.len() < limits::LANES_MAX {
            self.early_lanes.push(lane);
        }
    }

    /// Of lanes whose client has left.
    fn let_go(&mut self) {
        self.early_lanes.retain(|lane| !lane.has_left());
    }
}

/// Whether a caller takes the place of the one that waits: the same client has come back then, and the
/// place it called from before may not have noticed.
fn is_succeeded(heir: Option<&Caller>, caller: &Caller) -> bool {
    heir.is_none_or(|heir| heir.hello.session == caller.hello.session)
}

/// Most callers who hear why nobody is served any more.
const HEARD_AT_THE_END: usize = 64;

/// Between two looks at who has left.
const GLANCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::pin::pin;

    use streamer_core::TransferSecret;
    use streamer_core::net::tcp::{Acceptor, Connector, TlsStream};
    use streamer_core::session::hello;
    use streamer_core::wire::message::Role;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::{mpsc, oneshot};
    use tokio::time::timeout;

    use super::*;
    use crate::callers::Line;

    struct World {
        listener: TcpListener,
        acceptor: Acceptor,
        connector: Connector,
    }

    impl World {
        async fn new() -> Self {
            let secret = TransferSecret::generate().unwrap();
            Self {
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                acceptor: Acceptor::new(&secret).unwrap(),
                connector: Connector::new(&secret).unwrap(),
            }
        }

        /// A caller, and its own end of the connection.
        async fn call(&self, session: u8, lane: u16) -> (Caller, TlsStream) {
            let address = self.listener.local_addr().unwrap();
            let accept = async {
                let (stream, _) = self.listener.accept().await.unwrap();
                self.acceptor.accept(stream).await.unwrap()
            };
            let (accepted, connected) = tokio::join!(accept, self.connector.connect(address));
            let caller = Caller {
                hello: hello(Role::Receiver, SessionId([session; 16]), lane),
                line: Line::Tls(Box::new(accepted)),
            };
            (caller, connected.unwrap())
        }
    }

    /// Who waits, what came of the session, and who was refused, as a disk that hangs sees them.
    struct Hanging {
        arrivals: mpsc::Sender<Arrival>,
        refused: mpsc::Receiver<SocketAddr>,
        disk: oneshot::Sender<()>,
        ended: tokio::task::JoinHandle<(Lobby, Option<Caller>)>,
    }

    impl Hanging {
        fn begin(heir: Caller) -> Self {
            let (arrivals, arrived) = mpsc::channel(1);
            let (refusals, refused) = mpsc::channel(8);
            let (disk, answers) = oneshot::channel();
            let ended = tokio::spawn(async move {
                let mut lobby = Lobby::new(Callers::of(arrived));
                let refuse = |arrival| match arrival {
                    Arrival::Proven(caller) => refusals.try_send(caller.peer()).unwrap(),
                    Arrival::Plain(_) => unreachable!(),
                };
                let session = pin!(answers);
                let (_, heir) = lobby.until_ended(session, Some(heir), refuse).await;
                (lobby, heir)
            });
            Self {
                arrivals,
                refused,
                disk,
                ended,
            }
        }

        async fn arrive(&self, caller: Caller) {
            self.arrivals
                .send(Arrival::Proven(caller))
                .await
                .ok()
                .unwrap();
        }
    }

    /// Waits until the endpoint has closed its end.
    async fn assert_closed(client: &mut TlsStream) {
        let mut byte = [0];
        let read = client.read(&mut byte);
        let read = timeout(Duration::from_secs(20), read).await.unwrap();
        assert!(!matches!(read, Ok(1..)), "{read:?}");
    }

    /// Ends what this side says, and listens on.
    async fn leave(client: &mut TlsStream) {
        client.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn whoever_leaves_while_a_disk_hangs_is_let_go() {
        let world = World::new().await;
        let (heir, mut client) = world.call(2, 0).await;
        let (lane, mut lane_client) = world.call(2, 1).await;
        let hanging = Hanging::begin(heir);
        hanging.arrive(lane).await;
        for client in [&mut client, &mut lane_client] {
            leave(client).await;
            assert_closed(client).await;
        }
        hanging.disk.send(()).unwrap();
        let (lobby, heir) = hanging.ended.await.unwrap();
        assert!(heir.is_none() && lobby.early_lanes.is_empty());
    }

    #[tokio::test]
    async fn whoever_calls_while_a_disk_hangs_hears_who_is_next() {
        let world = World::new().await;
        let (heir, _client) = world.call(2, 0).await;
        let mut hanging = Hanging::begin(heir);
        let (other, _other_client) = world.call(3, 0).await;
        let peer = other.peer();
        hanging.arrive(other).await;
        assert_eq!(hanging.refused.recv().await, Some(peer));
        let (again, mut again_client) = world.call(2, 0).await;
        let peer = again.peer();
        hanging.arrive(again).await;
        // Once it has left as well, anybody may come next.
        leave(&mut again_client).await;
        assert_closed(&mut again_client).await;
        assert!(hanging.refused.try_recv().is_err(), "{peer} was refused");
        let (other, _other_client) = world.call(3, 0).await;
        let peer = other.peer();
        hanging.arrive(other).await;
        let (lane, _lane_client) = world.call(3, 1).await;
        hanging.arrive(lane).await;
        // The channel holds one: this one is heard after all the others.
        let (last, _last_client) = world.call(4, 0).await;
        hanging.arrive(last).await;
        hanging.refused.recv().await.unwrap();
        hanging.disk.send(()).unwrap();
        let (mut lobby, heir) = hanging.ended.await.unwrap();
        assert_eq!(heir.map(|heir| heir.peer()), Some(peer));
        assert_eq!(lobby.lanes_of(SessionId([3; 16])).count(), 1);
    }
}
