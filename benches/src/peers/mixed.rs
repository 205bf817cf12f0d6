//! One end ours, the other the Python streamer's, over the WebSocket protocol. Ours neither
//! offers nor agrees to compress.

use streamer_core::Operation;

use super::python::Python;
use super::streamer::{Streamer, announced, loopback_coordinates};
use super::{Cost, Direction, Job, Peer, PeerError, SERVER_LIMIT, free_port};

/// Which end is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ours {
    /// The program that the user types.
    Client,
    /// The program in the job.
    Endpoint,
}

/// A pair of both.
#[derive(Debug)]
pub struct Mixed {
    /// Our programs.
    pub streamer: Streamer,
    /// Theirs.
    pub python: Python,
    /// Which is which.
    pub ours: Ours,
    /// Which way the bytes go.
    pub direction: Direction,
}

impl Peer for Mixed {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let port = free_port().map_err(PeerError::prepare("a free port"))?;
        let operation = match self.direction {
            Direction::Download => Operation::Send,
            Direction::Upload => Operation::Receive,
        };
        let coordinates = loopback_coordinates(port, operation)?;
        let (program, client) = match self.ours {
            Ours::Client => (
                self.python.server(job, port, &coordinates),
                self.streamer
                    .client(job, &coordinates.encode(), &["--transport", "ws"]),
            ),
            Ours::Endpoint => (
                self.streamer
                    .server(job, port, &coordinates, &["--allow-websocket"]),
                self.python.client(job, &coordinates),
            ),
        };
        let mut server = job.start_server("server", program)?;
        server.wait_until("listening", SERVER_LIMIT, |it| {
            it.printed("Server is listening")
                || it.stdout().is_ok_and(|text| announced(&text).is_some())
        })?;
        let client = job.start_client("client", client)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.finish(SERVER_LIMIT)?),
        })
    }
}
