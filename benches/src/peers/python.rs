//! The existing Python `firecrest-streamer` from PyPI, both directions.
//!
//! It takes its secret on the command line only; the secret here is made for one run on the
//! loopback address. The receiver appends the 98 bytes of the sender's end-of-file message
//! to every file, never checks the hash, and leaves with 0 whatever happened: the comparison
//! with the source is what tells whether it worked.

use std::path::{Path, PathBuf};

use streamer_core::{Coordinates, Operation};

use super::{Cost, Direction, Job, Missing, Peer, PeerError, SERVER_LIMIT, free_port};
use crate::measure::Program;
use crate::peers::streamer::loopback_coordinates;
use crate::workload::Trailer;

/// Room above the size: its limit counts 5 MiB for every message, the last ones too.
const LIMIT_SLACK_BYTES: u64 = 16 << 20;

/// The client, with a library that does not offer to compress.
const UNCOMPRESSED_CLIENT: &str = "\
import functools, sys, websockets
websockets.connect = functools.partial(websockets.connect, compression=None)
from streamer.__main__ import cli
sys.exit(cli())";

/// `streamer` of the Python package.
#[derive(Debug)]
pub struct Python {
    bin: PathBuf,
    direction: Direction,
    compression: Compression,
}

/// Whether its client offers to compress, which its endpoint agrees to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it comes.
    On,
    /// By one keyword to the library that it uses; nothing else is different.
    Off,
}

impl Python {
    /// Looks for the command in a virtual environment.
    ///
    /// # Errors
    /// If it is not here.
    pub fn find(
        venv: &Path,
        direction: Direction,
        compression: Compression,
    ) -> Result<Self, Missing> {
        let bin = venv.join("bin");
        if bin.join("streamer").is_file() {
            return Ok(Self {
                bin,
                direction,
                compression,
            });
        }
        Err(Missing {
            what: format!("the Python firecrest-streamer in {}", venv.display()),
            install: format!(
                "benches/setup.sh {0}, or: python3 -m venv {0} && {0}/bin/pip install \
                 firecrest-streamer",
                venv.display()
            ),
        })
    }

    /// Its endpoint.
    pub(super) fn server(&self, job: &Job<'_>, port: u16, coordinates: &Coordinates) -> Program {
        let (verb, path) = match self.direction {
            Direction::Download => ("send", job.source),
            Direction::Upload => ("receive", job.target),
        };
        let port = port.to_string();
        let program = Program::new(self.bin.join("streamer"))
            .arg("server")
            .arg(format!("--secret={}", *coordinates.secret.bearer()))
            .args(["--host", "127.0.0.1", "--public-ips", "127.0.0.1"])
            .args(["--port-range", &port, &port, "--wait-timeout", "60"])
            .arg("--inbound-transfer-limit")
            .arg((job.bytes + LIMIT_SLACK_BYTES).to_string())
            .args([verb, "--path"])
            .arg(path);
        // Otherwise the line that says it listens stays in a buffer.
        program.env("PYTHONUNBUFFERED", "1")
    }

    /// Its client.
    pub(super) fn client(&self, job: &Job<'_>, coordinates: &Coordinates) -> Program {
        let (verb, path) = match self.direction {
            Direction::Download => ("receive", job.target),
            Direction::Upload => ("send", job.source),
        };
        let program = match self.compression {
            Compression::On => Program::new(self.bin.join("streamer")),
            Compression::Off => {
                Program::new(self.bin.join("python")).args(["-c", UNCOMPRESSED_CLIENT])
            }
        };
        let coordinates = coordinates.encode();
        program
            .args([verb, "--coordinates", coordinates.as_str(), "--path"])
            .arg(path)
    }
}

impl Peer for Python {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let port = free_port().map_err(PeerError::prepare("a free port"))?;
        let operation = match self.direction {
            Direction::Download => Operation::Send,
            Direction::Upload => Operation::Receive,
        };
        let coordinates = loopback_coordinates(port, operation)?;
        let mut server = job
            .meter
            .start("server", &self.server(job, port, &coordinates))?;
        server.wait_until("listening", SERVER_LIMIT, |it| {
            it.printed("Server is listening")
        })?;
        let client = self.client(job, &coordinates);
        let client = job.start_client("client", client)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.finish(SERVER_LIMIT)?),
        })
    }

    fn trailer(&self) -> Trailer {
        Trailer::PythonEof
    }
}
