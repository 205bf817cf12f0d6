//! The life of an endpoint, from listening to leaving.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use streamer_core::error::ErrorCode;
use streamer_core::net::link::Link;
use streamer_core::net::{Progress, TransferError, Transferred, receive, send};
use streamer_core::session::ReceiverConfig;
use streamer_core::store::StoreError;
use streamer_core::store::source::SourceFile;
use streamer_core::store::target::{Target, TargetPolicy};
use streamer_core::{Coordinates, Operation};
use tokio::sync::watch;
use tokio::time::{Instant as TokioInstant, sleep_until};

use crate::admission::{Admission, admission, is_alive};
use crate::bind::{BindError, Bound, bind};
use crate::callers::{Caller, Callers};
use crate::config::Config;

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
}

/// Binds, announces, serves one transfer, leaves.
///
/// `stop` ends it early, with the code to tell the client: what arrived is made durable.
/// Not cancel-safe.
///
/// # Errors
/// When it cannot listen, its file cannot be used, nobody came in time, or it was stopped.
pub async fn serve(
    config: Config,
    progress: Arc<Progress>,
    mut notify: impl FnMut(Notice<'_>),
    stop: watch::Receiver<Option<ErrorCode>>,
) -> Result<Served, ServeError> {
    let file = EndpointFile::open(&config)?;
    let Bound {
        endpoint,
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
    let mut life = Life {
        callers: Callers::spawn(endpoint.clone()),
        file,
        progress,
        stop,
        wait_timeout: config.wait_timeout,
        sessions: 0,
        started: None,
    };
    let result = life.run(&mut notify).await;
    drop(life);
    endpoint.close().await;
    result
}

/// Why an endpoint ended without a receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It could not listen.
    #[error(transparent)]
    Bind(#[from] BindError),
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
enum EndpointFile {
    Source(Arc<SourceFile>),
    Target(Target, ReceiverConfig),
}

impl EndpointFile {
    fn open(config: &Config) -> Result<Self, StoreError> {
        match config.operation {
            Operation::Send => Ok(Self::Source(Arc::new(SourceFile::open(&config.path)?))),
            Operation::Receive => {
                let target = Target::new(&config.path, TargetPolicy::default());
                target.check()?;
                let inbound_limit_bytes = Some(config.inbound_limit_bytes);
                Ok(Self::Target(
                    target,
                    ReceiverConfig {
                        inbound_limit_bytes,
                    },
                ))
            }
        }
    }
}

struct Life {
    callers: Callers,
    file: EndpointFile,
    progress: Arc<Progress>,
    stop: watch::Receiver<Option<ErrorCode>>,
    wait_timeout: Duration,
    sessions: u32,
    started: Option<Instant>,
}

type Session = Result<Transferred, TransferError>;

impl Life {
    async fn run(&mut self, notify: &mut impl FnMut(Notice<'_>)) -> Result<Served, ServeError> {
        let mut caller = None;
        loop {
            let next = match caller.take() {
                Some(caller) => caller,
                None => self.wait().await?,
            };
            let started = *self.started.get_or_insert_with(Instant::now);
            self.sessions += 1;
            notify(Notice::Connected {
                peer: next.link.connection.remote_address(),
            });
            let (session, replaced_by) = self.serve_caller(next, notify).await;
            caller = replaced_by;
            match session {
                Ok(transferred) => {
                    let (sessions, elapsed) = (self.sessions, started.elapsed());
                    return Ok(Served {
                        transferred,
                        sessions,
                        elapsed,
                    });
                }
                Err(error) => {
                    if let Some(code) = *self.stop.borrow() {
                        return Err(ServeError::Stopped(code));
                    }
                    notify(Notice::Lost { error: &error });
                }
            }
        }
    }

    async fn wait(&mut self) -> Result<Caller, ServeError> {
        let deadline = TokioInstant::now() + self.wait_timeout;
        // All arms are cancel-safe.
        tokio::select! {
            caller = self.callers.next() => Ok(caller),
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
        let connection = caller.link.connection.clone();
        let session = self.session(caller.link);
        tokio::pin!(session);
        let mut contender: Option<Caller> = None;
        loop {
            let asking = contender.is_some();
            // `session` is kept across turns; the other arms are cancel-safe.
            tokio::select! {
                result = &mut session => return (result, contender),
                caller = self.callers.next() => {
                    match admission(served, caller.hello.session, asking) {
                        Admission::Admit => {
                            return (Self::replace(&connection, session).await, Some(caller));
                        }
                        Admission::Ask => contender = Some(caller),
                        Admission::Refuse => refuse(caller, notify),
                    }
                }
                alive = is_alive(&connection), if asking => {
                    match (alive, contender.take()) {
                        (true, Some(caller)) => refuse(caller, notify),
                        (false, caller) => {
                            return (Self::replace(&connection, session).await, caller);
                        }
                        (true, None) => {}
                    }
                }
            }
        }
    }

    /// Ends a session whose client is elsewhere now, and waits until its files are put away.
    async fn replace(
        connection: &quinn::Connection,
        session: impl Future<Output = Session>,
    ) -> Session {
        connection.close(quinn::VarInt::from_u32(0), &[]);
        session.await
    }

    fn session(&self, link: Link) -> impl Future<Output = Session> + use<> {
        let progress = Arc::clone(&self.progress);
        let stop = stopped(self.stop.clone());
        let file = match &self.file {
            EndpointFile::Source(source) => EndpointFile::Source(Arc::clone(source)),
            EndpointFile::Target(target, config) => EndpointFile::Target(target.clone(), *config),
        };
        async move {
            match file {
                EndpointFile::Source(source) => send::send(link, source, progress, stop).await,
                EndpointFile::Target(target, config) => {
                    receive::receive(link, target, config, progress, stop).await
                }
            }
        }
    }
}

/// Pending until the endpoint is asked to leave.
async fn stopped(mut stop: watch::Receiver<Option<ErrorCode>>) -> ErrorCode {
    match stop.wait_for(Option::is_some).await.map(|code| *code) {
        Ok(Some(code)) => code,
        // Whoever could ask is gone: nobody will.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

fn refuse(caller: Caller, notify: &mut impl FnMut(Notice<'_>)) {
    let connection = caller.link.connection;
    notify(Notice::Refused {
        peer: connection.remote_address(),
    });
    connection.close(
        quinn::VarInt::from(u32::from(ErrorCode::Busy.number())),
        &[],
    );
}
