//! The tools that are compared; one file for each.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt, io};

use thiserror::Error;

use crate::measure::{MeasureError, Meter, Program, Running, Usage};
use crate::network::Network;
use crate::workload::Trailer;

pub mod cp;
pub mod curl;
pub mod mixed;
pub mod python;
pub mod rsync;
pub mod scp;
pub mod sshd;
pub mod streamer;
pub mod tar;

/// How long a server may take until it listens, and to end after its client has.
const SERVER_LIMIT: Duration = Duration::from_secs(30);

/// A tool that moves a [`crate::workload::Load`] from one path to another.
pub trait Peer {
    /// Moves `job.source` to `job.target`, which does not exist yet.
    ///
    /// # Errors
    /// If either end fails; the message holds the end of its output.
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError>;

    /// What the tool leaves after the bytes of the file.
    fn trailer(&self) -> Trailer {
        Trailer::None
    }
}

/// One run of one peer.
#[derive(Debug)]
pub struct Job<'a> {
    /// What to move.
    pub source: &'a Path,
    /// Where to; only its parent exists.
    pub target: &'a Path,
    /// Bytes of all files of `source`.
    pub bytes: u64,
    /// Starts programs.
    pub meter: &'a Meter,
    /// Between the two ends.
    pub network: &'a Network,
    /// A directory for this run's configuration, keys and logs, empty at first.
    pub scratch: &'a Path,
    /// How long the run may take.
    pub limit: Duration,
}

impl Job<'_> {
    fn start_client(&self, name: &str, program: Program) -> Result<Running, MeasureError> {
        self.meter.start(name, &self.network.at_client(program))
    }

    fn start_server(&self, name: &str, program: Program) -> Result<Running, MeasureError> {
        self.meter.start(name, &self.network.at_server(program))
    }
}

/// What a run cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// The program the user types; its wall time is the run's.
    pub client: Usage,
    /// The other end, if there is one. Its start and end are part of its figures.
    pub server: Option<Usage>,
}

/// Which way the bytes go, seen from the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    Download,
    /// From the client to the server.
    Upload,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

/// Why a run failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// One end did.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// Its files or ports could not be prepared.
    #[error("cannot prepare {what}: {source}")]
    Prepare {
        /// What.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// A program that prepares something (keys, certificates) failed.
    #[error("{program} failed: {stderr}")]
    Helper {
        /// Its name.
        program: String,
        /// What it printed.
        stderr: String,
    },
}

impl PeerError {
    fn prepare(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| Self::Prepare { what, source }
    }
}

/// A program that a peer needs and that is not here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} is missing; {install}")]
pub struct Missing {
    /// Which.
    pub what: String,
    /// How to get it.
    pub install: String,
}

/// The path of `program`, looked up in `PATH` and where Debian keeps daemons.
///
/// # Errors
/// Names the Debian package to install.
pub fn find(program: &str, package: &str) -> Result<PathBuf, Missing> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Missing {
            what: program.to_owned(),
            install: format!("apt-get install {package}, or benches/setup.sh for all"),
        })
}

/// A port of the loopback address that was free just now, over TCP and UDP.
///
/// # Errors
/// If there is none.
fn free_port() -> io::Result<u16> {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs a program that prepares something, such as `ssh-keygen`.
fn help(command: &mut std::process::Command) -> Result<(), PeerError> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(PeerError::prepare(&program))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PeerError::Helper { program, stderr })
}
