//! `scp` with the fastest cipher, both directions, from and to an [`super::sshd`] of its own.

use std::path::PathBuf;

use super::sshd::{CIPHER, HOST, Openssh};
use super::{Cost, Direction, Job, Missing, Peer, PeerError, find};
use crate::measure::Program;

/// `scp -c aes128-gcm@openssh.com`.
#[derive(Debug)]
pub struct Scp {
    scp: PathBuf,
    openssh: Openssh,
    direction: Direction,
}

impl Scp {
    /// Looks for the programs.
    ///
    /// # Errors
    /// Names the first that is not here.
    pub fn find(direction: Direction) -> Result<Self, Missing> {
        let scp = find("scp", "openssh-client")?;
        Ok(Self {
            scp,
            openssh: Openssh::find()?,
            direction,
        })
    }
}

impl Peer for Scp {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let server = self.openssh.serve(job)?;
        let remote = |path: &std::path::Path| format!("{HOST}:{}", path.display());
        let program = Program::new(&self.scp)
            .args(["-q", "-c", CIPHER, "-F"])
            .arg(server.client_configuration());
        let program = match self.direction {
            Direction::Download => program.arg(remote(job.source)).arg(job.target),
            Direction::Upload => program.arg(job.source).arg(remote(job.target)),
        };
        let client = job.start_client("scp", program)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.stop()?),
        })
    }
}
