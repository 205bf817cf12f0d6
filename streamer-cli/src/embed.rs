//! One client transfer for a program that is not ours: nothing is printed, no signal is
//! watched, and failures are values.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use streamer_core::net::Progress;
use streamer_core::net::dial::Choice;
use streamer_core::net::send::SenderConfig;
use streamer_core::net::stop::Stop;
use streamer_core::net::ws::dial::Plaintext;
use streamer_core::store::source::Pinned;
use streamer_core::store::target::{Target, TargetPolicy};
use streamer_core::wire::message::Wanted;
use streamer_core::{Coordinates, Hash, Operation, Transport};
use zeroize::Zeroizing;

use crate::client::{ClientError, Connections, Local, Notice, Options, Outcome, transfer};
use crate::exit::ExitStatus;
use crate::ui::{chain, failure_text, hint};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the endpoint is; see [`coordinates`].
    pub coordinates: Coordinates,
    /// What this side does.
    pub operation: Operation,
    /// Source or target.
    pub path: PathBuf,
    /// How long an endpoint that does not answer is tried.
    pub wait: Duration,
    /// Whether plaintext may be spoken to an endpoint that understands nothing else.
    pub plaintext: Plaintext,
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// How it travelled.
    pub transport: Transport,
    /// BLAKE3 of the file.
    pub root: Option<Hash>,
}

/// Why it was not.
#[derive(Debug, Clone)]
pub struct Failed {
    /// What failed, on what, why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<&'static str>,
    /// How the command would have exited.
    pub status: ExitStatus,
}

/// Reads coordinates, as the API gave them.
///
/// # Errors
/// When they are none.
pub fn coordinates(text: String) -> Result<Coordinates, Failed> {
    Coordinates::parse(&Zeroizing::new(text)).map_err(|error| Failed::from(&error.into()))
}

/// Does it, on a runtime of its own; returns when it is done. `on_connected` is called for
/// each connection, before a byte of the file travels.
///
/// # Errors
/// When the file is not in place at its receiver, verified.
pub fn run(
    request: &Request,
    progress: &Arc<Progress>,
    stop: Stop,
    on_connected: impl Fn(Transport),
) -> Result<Done, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failed {
            message: format!("cannot start: {source}"),
            hint: None,
            status: ExitStatus::Failure,
        })?;
    let result = runtime.block_on(client(request, progress, stop, on_connected));
    // A thread may be waiting in a read of a file system that hangs.
    runtime.shutdown_timeout(crate::SHUTDOWN);
    let outcome = result.map_err(|error| Failed::from(&error))?;
    match outcome.transferred.conclusion.failures.first() {
        None => Ok(Done {
            bytes: outcome.transferred.conclusion.receipt.bytes,
            transport: outcome.transport,
            root: outcome.transferred.root,
        }),
        Some(failure) => Err(Failed {
            message: failure_text(&outcome.transferred, failure.code),
            hint: hint::of_code(failure.code),
            status: ExitStatus::from(&outcome.transferred),
        }),
    }
}

async fn client(
    request: &Request,
    progress: &Arc<Progress>,
    stop: Stop,
    on_connected: impl Fn(Transport),
) -> Result<Outcome, ClientError> {
    let local = local(request.operation, &request.path)?;
    let options = Options {
        wait: request.wait,
        transport: Choice::Auto,
        plaintext: request.plaintext,
        connections: Connections::Auto,
        limit_rate: None,
        api: None,
    };
    let notify = |notice: Notice<'_>| {
        if let Notice::Connected(_, transport) = notice {
            on_connected(transport);
        }
    };
    let path = &request.path;
    transfer(
        &request.coordinates,
        &local,
        path,
        options,
        progress,
        notify,
        stop,
    )
    .await
}

fn local(operation: Operation, path: &Path) -> Result<Local, ClientError> {
    Ok(match operation {
        Operation::Send => Local::Source(Pinned::open(path)?, SenderConfig::default()),
        Operation::Receive => {
            let target = Target::new(path, TargetPolicy::default());
            target.check()?;
            Local::Target(target, Wanted::default())
        }
    })
}

impl From<&ClientError> for Failed {
    fn from(error: &ClientError) -> Self {
        Self {
            message: chain(error),
            hint: hint::of(error),
            status: error.into(),
        }
    }
}
