//! A transfer as the user sees it: one source or target, as many connections as it takes.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use streamer_core::net::dial::{Choice, DialOptions, Dialled};
use streamer_core::net::limit::RateLimit;
use streamer_core::net::link::Link;
use streamer_core::net::progress::Snapshot;
use streamer_core::net::send::SenderConfig;
use streamer_core::net::stop::{Stop, stopped};
use streamer_core::net::ws::dial::{FindError, Found, Plaintext, find};
use streamer_core::net::ws::{self, PlainLink};
use streamer_core::net::{Progress, TransferError, Transferred, receive, send};
use streamer_core::session::ReceiverConfig;
use streamer_core::store::filter::Filter;
use streamer_core::store::source::Pinned;
use streamer_core::store::target::Target;
use streamer_core::wire::message::{Role, SessionId, Wanted};
use streamer_core::{Coordinates, Operation, Transport, limits};

mod error;
mod patience;

pub use self::error::ClientError;
use self::error::not_found;
use self::patience::{Patience, RETRY_PAUSE};
use crate::job::{ApiAccess, JobState, JobWatch, News};
pub use crate::line::Connections;
use crate::line::{Line, Purpose};

/// What this side has.
#[derive(Debug, Clone)]
pub enum Local {
    /// To be sent.
    Source(Pinned, SenderConfig),
    /// To be received, as far as it is wanted.
    Target(Target, Wanted),
}

impl Local {
    fn role(&self) -> Role {
        match self {
            Self::Source(..) => Role::Sender,
            Self::Target(..) => Role::Receiver,
        }
    }

    /// Whether only some files are wanted.
    pub fn selects(&self) -> bool {
        match self {
            Self::Source(_, config) => config.filter.as_ref().is_some_and(Filter::selects),
            Self::Target(_, wanted) => !wanted.include.is_empty(),
        }
    }

    /// Whether the plaintext protocol can carry it, as far as is known.
    fn fits_plaintext(&self, path: &Path) -> Result<(), ClientError> {
        match self {
            Self::Source(source, _) if source.is_tree() => Err(ClientError::PlainTree {
                path: path.to_owned(),
            }),
            Self::Source(..) | Self::Target(..) => Ok(()),
        }
    }

    /// What the client does.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Source(..) => Operation::Send,
            Self::Target(..) => Operation::Receive,
        }
    }
}

/// What happens before the end.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Looking for the endpoint.
    Dialling,
    /// Found it.
    Connected(SocketAddr, Transport),
    /// Lost it; trying again.
    Lost(&'a TransferError),
    /// Not found yet; this is heard of its job.
    Job(News<'a>),
    /// All is in place, and the endpoint could not be told.
    Unheard,
}

/// How a transfer ended that has moved everything.
#[derive(Debug)]
pub struct Outcome {
    /// The session that did.
    pub transferred: Transferred,
    /// What had been moved by then.
    pub moved: Snapshot,
    /// Connections that were lost on the way.
    pub retries: u32,
    /// From the first connection to the end of that session.
    pub elapsed: Duration,
    /// The endpoint of that session.
    pub peer: SocketAddr,
    /// Of that session.
    pub transport: Transport,
    /// Why it was this one.
    pub reason: &'static str,
}

/// How a transfer is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long an endpoint that does not answer is tried.
    pub wait: Duration,
    /// What may be used.
    pub transport: Choice,
    /// Whether plaintext may be used too.
    pub plaintext: Plaintext,
    /// How many connections carry records.
    pub connections: Connections,
    /// Bytes a second at most.
    pub limit_rate: Option<u64>,
    /// Who can say how the endpoint's job stands.
    pub api: Option<ApiAccess>,
}

impl Options {
    /// `stuck`: the transport over which sessions were lost that brought nothing.
    fn dial(&self, stuck: Option<Transport>) -> DialOptions {
        DialOptions {
            choice: self.transport,
            bytes_per_second: self.limit_rate,
            tls_lanes: self.connections.tls(self.limit_rate),
            small_segments: stuck.is_some(),
            avoid: stuck,
        }
    }
}

/// Moves `local`, which is at `path`, to or from the endpoint that `coordinates` lead to. A lost connection is
/// dialled again, for as long as the options say; what was proven is not moved twice. When only the receipt is
/// lost, the endpoint is looked for a little longer, and the transfer is over whether it is found or not.
///
/// Not cancel-safe; `stop` ends it early and tells the endpoint.
///
/// # Errors
/// When the endpoint is not found, a side gives up, or `stop` says so.
pub async fn transfer(
    coordinates: &Coordinates,
    local: &Local,
    path: &Path,
    options: Options,
    progress: &Arc<Progress>,
    notify: impl FnMut(Notice<'_>),
    stop: Stop,
) -> Result<Outcome, ClientError> {
    let operation = local.operation();
    if coordinates.operation == Some(operation) {
        return Err(ClientError::WrongDirection { operation });
    }
    if options.plaintext == Plaintext::Only {
        local.fits_plaintext(path)?;
    }
    let limit = options
        .limit_rate
        .map(|rate| Arc::new(RateLimit::new(rate)));
    let mut attempts = Attempts {
        coordinates,
        local,
        path,
        progress,
        notify,
        stop,
        session: new_session()?,
        limit,
        retries: 0,
        started: None,
        patience: Patience::new(options.wait, local.role()),
        stuck: None,
        watch: watch(&options, coordinates)?,
        options,
    };
    let outcome = attempts.complete().await?;
    if outcome.transferred.is_settled {
        return Ok(outcome);
    }
    Ok(attempts.pass_receipt(outcome).await)
}

/// One transfer, as often as it is tried.
struct Attempts<'a, N> {
    coordinates: &'a Coordinates,
    local: &'a Local,
    path: &'a Path,
    options: Options,
    progress: &'a Arc<Progress>,
    notify: N,
    stop: Stop,
    session: SessionId,
    limit: Option<Arc<RateLimit>>,
    /// Connections that were lost.
    retries: u32,
    /// When the first one was made.
    started: Option<Instant>,
    patience: Patience,
    /// The transport over which sessions brought nothing.
    stuck: Option<Transport>,
    watch: Option<JobWatch>,
}

/// How one try ended.
enum Attempt {
    /// Nothing is left to be moved.
    Over(Box<Outcome>),
    /// The next one goes on from there.
    Lost(TransferError, Transport),
}

impl<N: FnMut(Notice<'_>)> Attempts<'_, N> {
    /// Tries until nothing is left to be moved.
    async fn complete(&mut self) -> Result<Outcome, ClientError> {
        loop {
            match self.attempt(self.options.wait).await? {
                Attempt::Over(outcome) => return Ok(*outcome),
                Attempt::Lost(error, transport) => {
                    self.on_lost(&error);
                    let row = self
                        .patience
                        .on_lost(&self.progress.snapshot(), Instant::now());
                    if row.is_stuck {
                        self.stuck = Some(transport);
                    }
                    let Some(pause) = row.pause else {
                        return Err(error.into());
                    };
                    self.pause(pause).await?;
                }
            }
        }
    }

    /// Before the next try, unless somebody asks to stop. Cancel-safe.
    async fn pause(&self, pause: Duration) -> Result<(), ClientError> {
        // Both arms are cancel-safe.
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            _ = stopped(self.stop.clone()) => Err(ClientError::Interrupted),
        }
    }

    /// All is in place on the side that receives, and the other one may wait to hear of it.
    async fn pass_receipt(&mut self, outcome: Outcome) -> Outcome {
        let patience = limits::RECEIPT_PATIENCE.min(self.options.wait);
        let deadline = Instant::now() + patience;
        let mut lost = TransferError::Lost(UNHEARD.to_owned());
        loop {
            self.on_lost(&lost);
            let left = deadline.saturating_duration_since(Instant::now());
            let is_hopeless = left.is_zero() || self.stop.borrow().is_some();
            if is_hopeless || self.has_left(outcome.peer).await {
                break (self.notify)(Notice::Unheard);
            }
            match self.attempt(left).await {
                Ok(Attempt::Over(again)) if again.transferred.is_settled => break,
                Ok(Attempt::Over(_)) => lost = TransferError::Lost(UNHEARD.to_owned()),
                Ok(Attempt::Lost(error, _)) => lost = error,
                // What is in place stays so.
                Err(_) => break (self.notify)(Notice::Unheard),
            }
            if self.pause(RETRY_PAUSE).await.is_err() {
                break (self.notify)(Notice::Unheard);
            }
        }
        if let Local::Target(target, _) = self.local
            && let Err(error) = target.forget()
        {
            tracing::warn!(%error, "a journal is left");
        }
        Outcome {
            retries: self.retries,
            ..outcome
        }
    }

    /// Whether there is nobody to wait for: whoever asks to stop waits for nobody. Cancel-safe.
    async fn has_left(&self, endpoint: SocketAddr) -> bool {
        // Both arms are cancel-safe: a connection that is dropped was for looking only.
        tokio::select! {
            has_left = has_left(endpoint) => has_left,
            _ = stopped(self.stop.clone()) => true,
        }
    }

    fn on_lost(&mut self, error: &TransferError) {
        (self.notify)(Notice::Lost(error));
        self.retries += 1;
    }

    /// Looks for the endpoint, for that long, and runs one session with it.
    async fn attempt(&mut self, wait: Duration) -> Result<Attempt, ClientError> {
        // Looked at meanwhile, by a thread of its own: the file system may be slow.
        let vacancy = vacancy(self.local);
        let found = self.find(wait).await?;
        let started = *self.started.get_or_insert_with(Instant::now);
        match found {
            Found::Proven(dialled) => {
                let is_vacant = vacancy.await;
                self.run_proven(dialled, is_vacant, started).await
            }
            Found::Plain(link) => self.run_plain(*link, started).await,
        }
    }

    async fn find(&mut self, wait: Duration) -> Result<Found, ClientError> {
        (self.notify)(Notice::Dialling);
        let (options, coordinates) = (&self.options, self.coordinates);
        let dial = options.dial(self.stuck);
        let found = tokio::select! {
            found = find(coordinates, dial, options.plaintext, wait) => found,
            state = until_over(&mut self.watch, &mut self.notify) => {
                return Err(ClientError::JobOver { state: Box::new(state) });
            }
            _ = stopped(self.stop.clone()) => return Err(ClientError::Interrupted),
        };
        found.map_err(FindError::into_dial).or_else(|busy_or| {
            let last = self.watch.as_ref().and_then(JobWatch::last);
            let (plaintext, retries) = (options.plaintext, self.retries);
            Err(not_found(busy_or?, coordinates, plaintext, retries, last))
        })
    }

    async fn run_plain(
        &mut self,
        link: PlainLink,
        started: Instant,
    ) -> Result<Attempt, ClientError> {
        self.local.fits_plaintext(self.path)?;
        let peer = link.peer();
        (self.notify)(Notice::Connected(peer, Transport::Ws));
        let stop = self.stop.clone();
        match run_plain(link, self.local, self.path, self.progress, stop).await {
            Ok(transferred) => Ok(Attempt::Over(Box::new(Outcome {
                transferred,
                moved: self.progress.snapshot(),
                retries: self.retries,
                elapsed: started.elapsed(),
                peer,
                transport: Transport::Ws,
                reason: match self.options.plaintext {
                    Plaintext::Only => "it was asked for",
                    Plaintext::Allowed | Plaintext::Never => {
                        "plaintext was allowed, and nothing else answered"
                    }
                },
            }))),
            Err(_) if self.stop.borrow().is_some() => Err(ClientError::Interrupted),
            // Nothing is resumed over this protocol: whether to start over is the user's choice.
            Err(error) => Err(ClientError::Plain(error)),
        }
    }

    async fn run_proven(
        &mut self,
        dialled: Dialled,
        is_vacant: bool,
        started: Instant,
    ) -> Result<Attempt, ClientError> {
        let reason = dialled.reason(&self.options.dial(self.stuck));
        let transport = dialled.transport();
        let purpose = Purpose {
            session: self.session,
            role: self.local.role(),
            secret: &self.coordinates.secret,
            connections: self.options.connections,
            limit: self.limit.clone(),
        };
        let line = match Line::open(dialled, &purpose).await {
            Ok(line) => line,
            Err(error) => return Ok(Attempt::Lost(error, transport)),
        };
        let peer = line.link.connection.peer();
        (self.notify)(Notice::Connected(peer, transport));
        let (local, progress, stop) = (self.local, self.progress, self.stop.clone());
        let result = run_session(line.link, local, is_vacant, progress, stop).await;
        let elapsed = started.elapsed();
        drop(line.lanes);
        if let Some(endpoint) = line.endpoint {
            endpoint.close().await;
        }
        match result {
            Ok(transferred) => Ok(Attempt::Over(Box::new(Outcome {
                transferred,
                moved: self.progress.snapshot(),
                retries: self.retries,
                elapsed,
                peer,
                transport,
                reason,
            }))),
            Err(_) if self.stop.borrow().is_some() => Err(ClientError::Interrupted),
            Err(error) if error.is_lost() => Ok(Attempt::Lost(error, transport)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether nobody listens any more where an endpoint did: it has heard what it waited for, or
/// was killed. Silence says nothing.
async fn has_left(endpoint: SocketAddr) -> bool {
    let connect = tokio::net::TcpStream::connect(endpoint);
    let answer = tokio::time::timeout(LISTENS_WITHIN, connect).await;
    matches!(answer, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether a file that is offered will be wanted, all of it. Not a future that has to be polled:
/// the look at the target begins at once.
fn vacancy(local: &Local) -> impl Future<Output = bool> + use<> {
    let target = match local {
        Local::Target(target, _) => Some(target.clone()),
        Local::Source(..) => None,
    };
    let look = target.map(|target| tokio::task::spawn_blocking(move || target.is_vacant()));
    async {
        match look {
            Some(look) => tokio::time::timeout(LOOKED_WITHIN, look)
                .await
                .is_ok_and(|vacant| vacant.unwrap_or(false)),
            None => false,
        }
    }
}

/// Where somebody can be asked and the coordinates say what about.
fn watch(options: &Options, coordinates: &Coordinates) -> Result<Option<JobWatch>, ClientError> {
    let both = options.api.clone().zip(coordinates.job.clone());
    let watch = both.map(|(access, job)| JobWatch::new(access, job));
    watch.transpose().map_err(ClientError::Ask)
}

/// Never ends where nobody can be asked.
async fn until_over(watch: &mut Option<JobWatch>, notify: &mut impl FnMut(Notice<'_>)) -> JobState {
    match watch {
        Some(watch) => watch.until_over(|news| notify(Notice::Job(news))).await,
        None => std::future::pending().await,
    }
}

async fn run_plain(
    link: PlainLink,
    local: &Local,
    path: &Path,
    progress: &Arc<Progress>,
    stop: Stop,
) -> Result<Transferred, TransferError> {
    let progress = Arc::clone(progress);
    match local {
        Local::Source(source, _) => {
            let opened = ws::send::open(link, source, stopped(stop.clone())).await;
            let (link, file) = opened?;
            ws::send::send(link, file, path, progress, stopped(stop)).await
        }
        Local::Target(target, _) => {
            let config = ReceiverConfig::default();
            ws::receive::receive(link, target.clone(), config, progress, stopped(stop)).await
        }
    }
}

async fn run_session(
    link: Link,
    local: &Local,
    is_vacant: bool,
    progress: &Arc<Progress>,
    stop: Stop,
) -> Result<Transferred, TransferError> {
    let (progress, stop) = (Arc::clone(progress), stopped(stop));
    match local {
        Local::Source(source, config) => {
            send::send(link, source.clone(), config.clone(), progress, stop).await
        }
        Local::Target(target, wanted) => {
            let config = ReceiverConfig {
                wanted: wanted.clone(),
                vacant: is_vacant,
                ..ReceiverConfig::default()
            };
            receive::receive(link, target.clone(), config, progress, stop).await
        }
    }
}

fn new_session() -> Result<SessionId, ClientError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ClientError::NoRandomness)?;
    Ok(SessionId(bytes))
}

/// What is lost when all is in place.
const UNHEARD: &str = "all is in place, and the other side may not know yet";

/// Longest wait for a look at the target: a round trip is all that it can save.
const LOOKED_WITHIN: Duration = Duration::from_millis(50);

/// Longest wait for a sign that nobody listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(1);
