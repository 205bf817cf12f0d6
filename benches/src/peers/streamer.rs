//! Ours: `streamer server send|receive` and `streamer receive|send`, both directions.
//!
//! The server gets its secret and the client its coordinates by environment, as in a job.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use streamer_core::{Coordinates, Operation, PortRange, TransferSecret, Transport};

use super::{Cost, Direction, Job, Missing, Peer, PeerError, SERVER_LIMIT, free_port};
use crate::measure::Program;

/// The `streamer` binary of this workspace.
#[derive(Debug)]
pub struct Streamer {
    streamer: PathBuf,
    direction: Direction,
    environment: Vec<(OsString, OsString)>,
}

impl Streamer {
    /// Uses the binary `streamer`; `environment` is added at both ends, to try settings.
    ///
    /// # Errors
    /// If it is not here.
    pub fn find(
        streamer: &Path,
        direction: Direction,
        environment: &[(OsString, OsString)],
    ) -> Result<Self, Missing> {
        if streamer.is_file() {
            let (streamer, environment) = (streamer.to_owned(), environment.to_vec());
            return Ok(Self {
                streamer,
                direction,
                environment,
            });
        }
        Err(Missing {
            what: streamer.display().to_string(),
            install: "cargo build --release -p streamer-cli, or name it with --streamer".to_owned(),
        })
    }

    fn program(&self) -> Program {
        let program = Program::new(&self.streamer);
        self.environment
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    }

    /// Our endpoint, with these options besides.
    pub(super) fn server(
        &self,
        job: &Job<'_>,
        port: u16,
        coordinates: &Coordinates,
        options: &[&str],
    ) -> Program {
        let (verb, path) = match self.direction {
            Direction::Download => ("send", job.source),
            Direction::Upload => ("receive", job.target),
        };
        let (port, address) = (port.to_string(), job.network.server_address().to_string());
        self.program()
            .arg("server")
            .args(options)
            .args(["--host", &address, "--public-ips", &address])
            .args([
                "--port-range",
                &port,
                &port,
                "--wait-timeout",
                "60",
                "--json",
            ])
            .args(["--inbound-transfer-limit", &job.bytes.to_string()])
            .args([verb, "--path"])
            .arg(path)
            .env("STREAMER_SECRET", coordinates.secret.expose_text().as_str())
    }
}

impl Streamer {
    /// Our client, with these options besides.
    pub(super) fn client(&self, job: &Job<'_>, coordinates: &str, options: &[&str]) -> Program {
        let (verb, path) = match self.direction {
            Direction::Download => ("receive", job.target),
            Direction::Upload => ("send", job.source),
        };
        self.program()
            .args([verb, "--json", "--no-progress"])
            .args(options)
            .arg("--path")
            .arg(path)
            .env("STREAMER_COORDINATES", coordinates)
    }
}

impl Peer for Streamer {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let port = free_port().map_err(PeerError::prepare("a free port"))?;
        let operation = match self.direction {
            Direction::Download => Operation::Send,
            Direction::Upload => Operation::Receive,
        };
        let coordinates = loopback_coordinates(port, operation)?;
        let server = self.server(job, port, &coordinates, &[]);
        let mut server = job.start_server("server", server)?;
        server.wait_until("its coordinates", SERVER_LIMIT, |it| {
            it.stdout().is_ok_and(|text| announced(&text).is_some())
        })?;
        let coordinates = announced(&server.stdout()?).unwrap_or_default();
        let client = self.client(job, &coordinates, &[]);
        let client = job.start_client("client", client)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.finish(SERVER_LIMIT)?),
        })
    }
}

/// The coordinates in the `listening` line of an endpoint's output, once that line is whole.
pub(super) fn announced(output: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Announcement {
        message_type: String,
        coordinates: Option<String>,
    }
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<Announcement>(line).ok())
        .find(|line| line.message_type == "listening")?
        .coordinates
}

/// Coordinates of an endpoint that is about to listen on this one port.
pub(super) fn loopback_coordinates(
    port: u16,
    operation: Operation,
) -> Result<Coordinates, PeerError> {
    let secret = TransferSecret::generate()
        .map_err(|error| PeerError::prepare("a secret")(std::io::Error::other(error)))?;
    let ports = PortRange::new(port, port).ok_or_else(|| {
        PeerError::prepare("a port range")(std::io::Error::other("0 is not a port"))
    })?;
    Ok(Coordinates {
        ports,
        ips: vec!["127.0.0.1".to_owned()],
        secret,
        operation: Some(operation),
        transports: vec![Transport::Quic],
        job: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_taken_from_a_whole_listening_line_only() {
        let listening = r#"{"message_type":"listening","address":"a","coordinates":"abc"}"#;
        let status = r#"{"message_type":"status","coordinates":"no"}"#;
        let output = format!("noise\n{status}\n{listening}\n");
        assert_eq!(announced(&output).as_deref(), Some("abc"));
        assert_eq!(announced(&listening[..listening.len() - 3]), None);
        assert_eq!(announced(status), None);
    }
}
