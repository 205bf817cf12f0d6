//! `ssh HOST tar c | tar x`: how a tree is moved by those who know.

use std::fs;
use std::path::PathBuf;

use super::sshd::{HOST, Openssh};
use super::{Cost, Job, Missing, Peer, PeerError, find};
use crate::measure::Program;

/// The pipe, as a script whose parameters are the ssh configuration, the host, the source
/// and the target. The source crosses a second shell; the directories are ours and need no
/// quoting. `pipefail` is not in every `sh`, so the two ends are checked through the tree.
const PIPE: &str = r#"ssh -F "$1" "$2" tar cf - -C "$3" . | tar xf - -C "$4""#;

/// `tar` over ssh, pulling.
#[derive(Debug)]
pub struct Tar {
    openssh: Openssh,
}

impl Tar {
    /// Looks for the programs.
    ///
    /// # Errors
    /// Names the first that is not here.
    pub fn find() -> Result<Self, Missing> {
        find("tar", "tar")?;
        find("ssh", "openssh-client")?;
        Ok(Self {
            openssh: Openssh::find()?,
        })
    }
}

impl Peer for Tar {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let server = self.openssh.serve(job)?;
        fs::create_dir(job.target).map_err(PeerError::prepare("the target directory"))?;
        let configuration: PathBuf = server.client_configuration();
        let program = Program::new("sh")
            .args(["-c", PIPE, "tar-over-ssh"])
            .arg(configuration)
            .arg(HOST)
            .arg(job.source)
            .arg(job.target);
        let client = job.start_client("tar", program)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: Some(server.stop()?),
        })
    }
}
