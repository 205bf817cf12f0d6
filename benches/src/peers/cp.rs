//! `cp`, or `cp -r` for a tree: one process, no network; what the others are measured by.

use std::path::PathBuf;

use super::{Cost, Job, Missing, Peer, PeerError, find};
use crate::measure::Program;

/// `cp SOURCE TARGET`.
#[derive(Debug)]
pub struct Cp {
    cp: PathBuf,
}

impl Cp {
    /// Looks for the program.
    ///
    /// # Errors
    /// If it is not here.
    pub fn find() -> Result<Self, Missing> {
        Ok(Self {
            cp: find("cp", "coreutils")?,
        })
    }
}

impl Peer for Cp {
    fn run(&self, job: &Job<'_>) -> Result<Cost, PeerError> {
        let mut program = Program::new(&self.cp);
        if job.source.is_dir() {
            program = program.arg("-r");
        }
        let program = program.arg(job.source).arg(job.target);
        let client = job.meter.start("cp", &program)?.finish(job.limit)?;
        Ok(Cost {
            client,
            server: None,
        })
    }
}
