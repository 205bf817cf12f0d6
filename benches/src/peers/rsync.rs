//! `rsync -a` over ssh, pulling, from an [`super::sshd`] of its own.

use std::ffi::OsString;
use std::path::PathBuf;

use super::sshd::{HOST, Openssh};
use super::{Cost, Job, Missing, Peer, PeerError, find};
use crate::measure::Program;

/// `rsync -a -e ssh`.
#[derive(Debug)]
pub struct Rsync {
    rsync: PathBuf,
    ssh: PathBuf,
    openssh: Openssh,
}

impl Rsync {
    /// Looks for the programs.
    ///
    /// # Errors
    /// Names the first that is not here.
    pub fn find() -> Result<Self, Missing> {
        Ok(Self {
            rsync: find("rsync", "rsync")?,
            ssh: find("ssh", "openssh-client")?,
            openssh: Openssh::find()?,
        })
    }
}

impl Peer for Rsync {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let server = self.openssh.serve(job)?;
        // rsync splits this at blanks; the directories are ours and have none.
        let mut shell = OsString::from(&self.ssh);
        shell.push(" -F ");
        shell.push(server.client_configuration());
        // A slash after both: the contents of the tree, not the tree inside the target.
        let slash = if job.source.is_dir() { "/" } else { "" };
        let program = Program::new(&self.rsync)
            .args(["-a", "-e"])
            .arg(shell)
            .arg(format!("{HOST}:{}{slash}", job.source.display()))
            .arg(format!("{}{slash}", job.target.display()));
        let client = job.start_client("rsync", program)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.stop()?),
        })
    }
}
