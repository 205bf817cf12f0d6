//! The life of an endpoint, from listening to leaving.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamer_core::error::ErrorCode;
use streamer_core::net::link::{Connection, Link};
use streamer_core::net::send::SenderConfig;
use streamer_core::net::stop::{Stop, stopped};
use streamer_core::net::tcp::Acceptor;
use streamer_core::net::tls::IdentityError;
use streamer_core::net::ws::{self, PlainLink};
use streamer_core::net::{Progress, TransferError, Transferred, receive, send};
use streamer_core::secret::SecretError;
use streamer_core::session::{ReceiverConfig, SessionError};
use streamer_core::store::StoreError;
use streamer_core::store::source::Pinned;
use streamer_core::store::target::{Target, TargetPolicy};
use streamer_core::websocket::bearer::BearerCheck;
use streamer_core::wire::message::Role;
use streamer_core::{Coordinates, Operation, Transport, limits};
use tokio::task::spawn_blocking;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};

use crate::admission::{Admission, admission, is_alive};
use crate::bind::{BindError, Bound, bind};
use crate::callers::{Arrival, Caller, Callers, PlainDoor};
use crate::config::Config;
use crate::lobby::Lobby;
use crate::pace::{Pace, drive};

/// What an endpoint says while it lives.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// It listens.
    Listening {
        /// Where.
        address: SocketAddr,
        /// What a client needs: a secret.
        coordinates: &'a Coordinates,
    },
    /// A client is served.
    Connected {
        /// Who.
        peer: SocketAddr,
        /// How.
        transport: Transport,
    },
    /// Another client was told that the endpoint is busy.
    Refused {
        /// Who.
        peer: SocketAddr,
    },
    /// The client is gone; the endpoint waits for it to come back.
    Lost {
        /// Why.
        error: &'a TransferError,
    },
}

/// How an endpoint ended after a receipt was given.
#[derive(Debug)]
pub struct Served {
    /// The session that ended with the receipt.
    pub transferred: Transferred,
    /// Sessions that it took.
    pub sessions: u32,
    /// From the first session's start to the receipt.
    pub elapsed: Duration,
    /// Of the last session.
    pub transport: Transport,
}

impl Served {
    /// Entries that did not arrive.
    fn failed(&self) -> u32 {
        self.transferred.conclusion.receipt.failed
    }
}

/// Binds, announces, serves one transfer, leaves.
///
/// `stop` ends it early, with the code to tell the client: what arrived is made durable. A session rests while
/// `pace` has no room; others are answered meanwhile. Not cancel-safe.
///
/// # Errors
/// When it cannot listen, its file cannot be used, nobody came in time, or it was stopped.
pub async fn serve(
    config: Config,
    progress: Arc<Progress>,
    mut notify: impl FnMut(Notice<'_>),
    pace: impl Pace,
    stop: Stop,
) -> Result<Served, ServeError> {
    let file = open(&config, &stop).await?;
    let acceptor = Acceptor::new(&config.secret)?;
    let door = plain_door(&config)?;
    let Bound {
        endpoint,
        listener,
        address,
        coordinates,
    } = bind(&config).await?;
    notify(Notice::Listening {
        address,
        coordinates: &coordinates,
    });
    if endpoint.buffers().are_small() {
        let granted = endpoint.buffers();
        tracing::warn!(
            ?granted,
            "UDP socket buffers are small; raise net.core.rmem_max and wmem_max"
        );
    }
    let life = Life {
        lobby: Lobby::new(Callers::spawn(
            endpoint.clone(),
            listener,
            acceptor,
            door.clone(),
        )),
        door,
        path: config.path.clone(),
        file,
        progress,
        pace,
        stop,
        wait_timeout: config.wait_timeout,
        sessions: 0,
        started: None,
        unheard: None,
        unmended: None,
    };
    let result = life.run(&mut notify).await;
    endpoint.close().await;
    result
}

/// Opens what is moved, unless it is told to stop first: a file system may hang.
async fn open(config: &Config, stop: &Stop) -> Result<EndpointFile, ServeError> {
    let config = config.clone();
    let opening = spawn_blocking(move || EndpointFile::open(&config));
    tokio::select! {
        opened = opening => {
            let opened = opened.unwrap_or_else(|error| resume_unwind(error.into_panic()));
            Ok(opened?)
        }
        code = stopped(stop.clone()) => Err(ServeError::Stopped(code)),
    }
}

fn plain_door(config: &Config) -> Result<Option<Arc<PlainDoor>>, SecretError> {
    if !config.allow_websocket {
        return Ok(None);
    }
    let bearer = BearerCheck::new(&config.secret)?;
    Ok(Some(Arc::new(PlainDoor::new(bearer))))
}

/// Why an endpoint ended without a receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It could not listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Its identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Its file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No client came within the wait timeout.
    #[error("no client came within {} s", .0.as_secs())]
    NobodyCame(Duration),
    /// A client came, was lost, and did not come back.
    #[error("the client was lost and did not come back within {} s", .0.as_secs())]
    DidNotComeBack(Duration),
    /// Asked to leave.
    #[error("{0}")]
    Stopped(ErrorCode),
}

/// Source or target, by operation.
#[derive(Clone)]
enum EndpointFile {
    Source(Pinned),
    Target(Target, ReceiverConfig),
}

impl EndpointFile {
    fn open(config: &Config) -> Result<Self, StoreError> {
        match config.operation {
            Operation::Send => Ok(Self::Source(Pinned::open(&config.path)?)),
            Operation::Receive => {
                let target = Target::new(
                    &config.path,
                    TargetPolicy {
                        existing: config.existing,
                        restart: false,
                    },
                );
                target.check()?;
                let inbound_limit_bytes = Some(config.inbound_limit_bytes);
                Ok(Self::Target(
                    target,
                    ReceiverConfig {
                        inbound_limit_bytes,
                        ..ReceiverConfig::default()
                    },
                ))
            }
        }
    }
}

struct Life<P> {
    lobby: Lobby,
    /// For WebSockets, where they are allowed.
    door: Option<Arc<PlainDoor>>,
    path: PathBuf,
    file: EndpointFile,
    progress: Arc<Progress>,
    pace: P,
    stop: Stop,
    wait_timeout: Duration,
    sessions: u32,
    started: Option<Instant>,
    /// A transfer that is complete, whose client may have missed the receipt.
    unheard: Option<Served>,
    /// Why the last client could not be served, which it can mend, and come back.
    unmended: Option<StoreError>,
}

type Session = Result<Transferred, TransferError>;

impl<P: Pace> Life<P> {
    async fn run(mut self, notify: &mut impl FnMut(Notice<'_>)) -> Result<Served, ServeError> {
        let mut waiting = None;
        let result = self.serve_all(&mut waiting, notify).await;
        let code = match &result {
            Err(ServeError::Stopped(code)) => *code,
            Err(ServeError::Store(error)) => error.code,
            Ok(_) | Err(_) => ErrorCode::TransferOver,
        };
        self.lobby.close(waiting, code).await;
        result
    }

    /// Serves until nothing is left to be served. Who waits for its turn then is left in `caller`.
    async fn serve_all(
        &mut self,
        caller: &mut Option<Caller>,
        notify: &mut impl FnMut(Notice<'_>),
    ) -> Result<Served, ServeError> {
        loop {
            let next = match caller.take() {
                Some(caller) => Arrival::Proven(caller),
                None => match self.wait().await {
                    Ok(arrival) => arrival,
                    // Nobody asked for the receipt again: what arrived is in place.
                    Err(error) => {
                        let error = self.ended_by(error);
                        return self.unheard.take().ok_or(error);
                    }
                },
            };
            let started = *self.started.get_or_insert_with(Instant::now);
            self.sessions += 1;
            self.unmended = None;
            let (peer, transport) = match &next {
                Arrival::Proven(caller) => (caller.peer(), caller.transport()),
                Arrival::Plain(link) => (link.peer(), Transport::Ws),
            };
            notify(Notice::Connected { peer, transport });
            self.set_busy(true);
            let (session, replaced_by) = match next {
                Arrival::Proven(caller) => self.serve_caller(caller, notify).await,
                Arrival::Plain(link) => (self.serve_plain(*link, notify).await, None),
            };
            self.set_busy(false);
            *caller = replaced_by;
            match session {
                Ok(transferred) => {
                    let (sessions, elapsed) = (self.sessions, started.elapsed());
                    let is_settled = transferred.is_settled;
                    let served = Served {
                        transferred,
                        sessions,
                        elapsed,
                        transport,
                    };
                    let served = match self.unheard.take() {
                        // What was complete stays so, whatever is found by who comes after it.
                        Some(earlier) if earlier.failed() < served.failed() => earlier,
                        _ => served,
                    };
                    if is_settled {
                        return Ok(served);
                    }
                    self.unheard = Some(served);
                    let error = TransferError::Lost("the receipt was not heard".to_owned());
                    notify(Notice::Lost { error: &error });
                }
                Err(error) if self.unheard.is_some() => notify(Notice::Lost { error: &error }),
                Err(error) => {
                    if let Some(code) = *self.stop.borrow() {
                        return Err(ServeError::Stopped(code));
                    }
                    let error = match error {
                        TransferError::Store(error) if !can_be_mended(&error, transport) => {
                            return Err(error.into());
                        }
                        error => error,
                    };
                    notify(Notice::Lost { error: &error });
                    if let TransferError::Store(error) = error {
                        self.unmended = Some(error);
                    }
                }
            }
        }
    }

    /// When nobody mended it, that is why.
    fn ended_by(&mut self, error: ServeError) -> ServeError {
        match (error, self.unmended.take()) {
            (ServeError::DidNotComeBack(_), Some(unmended)) => unmended.into(),
            (error, _) => error,
        }
    }

    fn set_busy(&self, busy: bool) {
        if let Some(door) = &self.door {
            door.set_busy(busy);
        }
    }

    async fn wait(&mut self) -> Result<Arrival, ServeError> {
        let patience = match self.unheard {
            Some(_) => limits::RECEIPT_PATIENCE.min(self.wait_timeout),
            None => self.wait_timeout,
        };
        let deadline = TokioInstant::now() + patience;
        // All arms are cancel-safe.
        tokio::select! {
            caller = self.lobby.next_control() => Ok(caller),
            () = sleep_until(deadline) => Err(match self.started {
                None => ServeError::NobodyCame(self.wait_timeout),
                Some(_) => ServeError::DidNotComeBack(self.wait_timeout),
            }),
            code = stopped(self.stop.clone()) => Err(ServeError::Stopped(code)),
        }
    }

    /// Serves one caller to its end, or until another one takes its place.
    async fn serve_caller(
        &mut self,
        caller: Caller,
        notify: &mut impl FnMut(Notice<'_>),
    ) -> (Session, Option<Caller>) {
        let served = caller.hello.session;
        let (link, lanes) = caller.into_link();
        let connection = link.connection.clone();
        for lane in self.lobby.lanes_of(served) {
            // The channel holds as many as a session may have.
            let _ = lanes.try_send(lane.into_lane());
        }
        let session = self.session(link);
        tokio::pin!(session);
        let mut contender: Option<Caller> = None;
        let progress = Arc::clone(&self.progress);
        let alive = is_alive(&connection, &progress);
        tokio::pin!(alive);
        let mut rests = false;
        loop {
            // `session` and `alive` are kept across turns; the other arms are cancel-safe.
            tokio::select! {
                driven = drive(session.as_mut(), &self.pace), if !rests => match driven {
                    Some(result) => return (result, contender),
                    None => rests = true,
                },
                () = self.pace.room(), if rests => rests = false,
                arrival = self.lobby.next() => {
                    let caller = match arrival {
                        Arrival::Proven(caller) => caller,
                        Arrival::Plain(link) => {
                            refuse_plain(*link, self.role(), notify);
                            continue;
                        }
                    };
                    if caller.hello.lane > 0 {
                        let session = caller.hello.session;
                        let is_next = |next: &Caller| next.hello.session == session;
                        if session == served {
                            // More than a session may have are dropped, which closes them.
                            let _ = lanes.try_send(caller.into_lane());
                        } else if contender.as_ref().is_some_and(is_next) {
                            self.lobby.keep(caller);
                        }
                        continue;
                    }
                    match admission(served, caller.hello.session) {
                        Admission::Admit => {
                            contender.take().into_iter().for_each(|other| refuse(other, notify));
                            return self.replace(&connection, session, Some(caller), notify).await;
                        }
                        // The latest one is the one whose user still waits.
                        Admission::Ask => {
                            // It may have been left, which it hears in a turn.
                            rests = false;
                            let earlier = contender.replace(caller);
                            earlier.into_iter().for_each(|earlier| refuse(earlier, notify));
                        }
                    }
                }
                there = &mut alive, if contender.is_some() => match (there, contender.take()) {
                    (false, caller) => {
                        return self.replace(&connection, session, caller, notify).await;
                    }
                    (true, caller) => {
                        caller.into_iter().for_each(|caller| refuse(caller, notify));
                        alive.set(is_alive(&connection, &progress));
                    }
                },
            }
        }
    }

    /// Serves one WebSocket to its end. Whoever calls meanwhile is refused: this protocol
    /// cannot say that it is the same client who comes back.
    async fn serve_plain(
        &mut self,
        link: PlainLink,
        notify: &mut impl FnMut(Notice<'_>),
    ) -> Session {
        let session = self.plain_session(link);
        tokio::pin!(session);
        loop {
            // `session` is kept across turns; the other arm is cancel-safe.
            tokio::select! {
                result = &mut session => return result,
                arrival = self.lobby.next() => match arrival {
                    Arrival::Plain(link) => refuse_plain(*link, self.role(), notify),
                    Arrival::Proven(caller) if caller.hello.lane == 0 => refuse(caller, notify),
                    Arrival::Proven(_) => {}
                },
            }
        }
    }

    fn plain_session(&self, link: PlainLink) -> impl Future<Output = Session> + use<P> {
        let progress = Arc::clone(&self.progress);
        let stop = self.stop.clone();
        let path = self.path.clone();
        let file = self.file.clone();
        async move {
            match file {
                EndpointFile::Source(source) => {
                    let opened = ws::send::open(link, &source, stopped(stop.clone())).await;
                    let (link, file) = opened.map_err(|error| match error {
                        // Of this client; another one may speak what can carry a tree.
                        TransferError::Store(error) if error.code == ErrorCode::UnsupportedType => {
                            SessionError::Ours(error.code).into()
                        }
                        error => error,
                    })?;
                    ws::send::send(link, file, &path, progress, stopped(stop)).await
                }
                EndpointFile::Target(target, config) => {
                    ws::receive::receive(link, target, config, progress, stopped(stop)).await
                }
            }
        }
    }

    fn role(&self) -> Role {
        match self.file {
            EndpointFile::Source(_) => Role::Sender,
            EndpointFile::Target(..) => Role::Receiver,
        }
    }

    /// Ends a session whose client is elsewhere now, and waits until its files are put away. Who is
    /// served then: `next`, if it waits for that.
    async fn replace(
        &mut self,
        connection: &Connection,
        session: Pin<&mut impl Future<Output = Session>>,
        next: Option<Caller>,
        notify: &mut impl FnMut(Notice<'_>),
    ) -> (Session, Option<Caller>) {
        connection.close(None);
        let ours = self.role();
        let tell_busy = |arrival| match arrival {
            Arrival::Proven(caller) => refuse(caller, notify),
            Arrival::Plain(link) => refuse_plain(*link, ours, notify),
        };
        self.lobby.until_ended(session, next, tell_busy).await
    }

    fn session(&self, link: Link) -> impl Future<Output = Session> + use<P> {
        let progress = Arc::clone(&self.progress);
        let stop = stopped(self.stop.clone());
        let file = self.file.clone();
        async move {
            match file {
                EndpointFile::Source(source) => {
                    send::send(link, source, SenderConfig::default(), progress, stop).await
                }
                EndpointFile::Target(target, config) => {
                    receive::receive(link, target, config, progress, stop).await
                }
            }
        }
    }
}

/// Whether somebody can mend it, after which the same client goes on: make room, wait for another
/// transfer, move away what has a name that is needed, send with `--restart`. Over a WebSocket it does not.
fn can_be_mended(error: &StoreError, transport: Transport) -> bool {
    let codes = [
        ErrorCode::NoSpace,
        ErrorCode::SourceChanged,
        ErrorCode::TargetBusy,
        ErrorCode::NameTaken,
    ];
    codes.contains(&error.code) && transport != Transport::Ws
}

/// Tells a caller that it is not served, without waiting for it.
fn refuse(caller: Caller, notify: &mut impl FnMut(Notice<'_>)) {
    notify(Notice::Refused {
        peer: caller.peer(),
    });
    drop(tokio::spawn(caller.line.refuse(ErrorCode::Busy)));
}

/// Tells a WebSocket that it is not served. Most are told before they open; this one came as
/// another did.
fn refuse_plain(link: PlainLink, ours: Role, notify: &mut impl FnMut(Notice<'_>)) {
    notify(Notice::Refused { peer: link.peer() });
    drop(tokio::spawn(timeout(
        REFUSAL,
        link.refuse(ErrorCode::Busy, ours),
    )));
}

/// Longest time for telling a caller that it is not served.
const REFUSAL: Duration = Duration::from_secs(2);
