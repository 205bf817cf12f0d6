//! Slurm's programs as pure values: the line to run, and what their output means.
//!
//! Fields are asked for with a delimiter that nobody knows, and counted rather than split by
//! lines: names of jobs may hold anything.

mod accounts;
mod batch;
#[cfg(test)]
mod captured_24_11;
mod control;
mod history;
mod nodes;
mod partitions;
mod queue;
mod reservations;
mod row;
mod text;

pub use accounts::{Accounts, DefaultAccount};
pub(crate) use batch::OWN_VARIABLES;
pub use batch::Submit;
pub use control::{Attach, Cancel, Ping};
pub use history::History;
pub use nodes::Nodes;
pub use partitions::Partitions;
pub use queue::Queue;
pub use reservations::Reservations;
pub use row::{Delimiter, JobQuery, Row, WhichJobs, merge};
pub use text::{BatchScript, Show, ShownJob, StoredFiles, StoredScript};

use super::ShellLine;
use crate::executor::Output;

/// One program of Slurm, run as the caller.
pub trait SlurmCommand: Send + Sync {
    /// What its output means.
    type Parsed;

    /// The line to run; every argument quoted.
    fn render(&self) -> ShellLine;

    /// What it reads from its standard input.
    fn input(&self) -> &[u8] {
        &[]
    }

    /// Reads what it printed, whatever its exit status.
    ///
    /// # Errors
    /// When it failed, or printed something unknown.
    fn read(&self, output: &Output) -> Result<Self::Parsed, SlurmError>;
}

/// What a program of Slurm refused. The last one's words are what existing clients show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlurmError {
    /// The caller's account or quality of service allows no more.
    #[error("{0}")]
    Quota(String),
    /// There is no such job.
    #[error("no such job")]
    NoJob,
    /// The job is somebody else's.
    #[error("the job belongs to another user")]
    Denied,
    /// The job has ended.
    #[error("the job has ended")]
    Ended,
    /// Anything else.
    #[error("Unexpected Slurm command response. exit_status:{exit_status} std_err:{stderr}")]
    Unexpected {
        /// As the program exited; 128 + n when signal n ended it.
        exit_status: i32,
        /// What it said.
        stderr: String,
    },
}

/// The text a program printed, if it succeeded.
fn success(output: &Output) -> Result<String, SlurmError> {
    match output.exit_code {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        _ => Err(unexpected(output)),
    }
}

/// As [`success`], of a program that was asked about one job.
fn success_for_a_job(output: &Output) -> Result<String, SlurmError> {
    match output.exit_code {
        Some(0) => success(output),
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(of_a_job(&stderr).unwrap_or_else(|| unexpected(output)))
        }
    }
}

/// What Slurm's words say of the job that was asked about. In answer to anything else the same
/// words say something else: a plugin may refuse a submission with them.
fn of_a_job(words: &str) -> Option<SlurmError> {
    if words.contains("Invalid job id") || words.contains("Expired or invalid job") {
        return Some(SlurmError::NoJob);
    }
    if words.contains("Access/permission denied") {
        return Some(SlurmError::Denied);
    }
    words
        .contains("already completing or completed")
        .then_some(SlurmError::Ended)
}

/// The failure that output tells of, in its own words.
fn unexpected(output: &Output) -> SlurmError {
    let signal = output.signal.map(|signal| 128 + signal);
    SlurmError::Unexpected {
        exit_status: output.exit_code.or(signal).unwrap_or(-1),
        stderr: output.complaint(),
    }
}

/// A program of Slurm that prints moments in unix seconds.
fn with_unix_times(program: &str) -> ShellLine {
    ShellLine::new("env").args(["SLURM_TIME_FORMAT=%s", program])
}

/// Nothing for words by which Slurm says nothing.
fn given(text: &str) -> Option<String> {
    let nothing = ["", "(null)", "N/A", "None", "Unknown"].contains(&text);
    (!nothing).then(|| text.to_owned())
}

#[cfg(test)]
pub(crate) mod fixtures {
    use crate::executor::Output;

    /// A run that printed this and exited with 0.
    pub(crate) fn printed(stdout: &str) -> Output {
        Output {
            exit_code: Some(0),
            signal: None,
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
        }
    }

    /// A run that failed.
    pub(crate) fn failed(exit_code: i32, stderr: &str) -> Output {
        Output {
            exit_code: Some(exit_code),
            stderr: stderr.as_bytes().to_vec(),
            ..printed("")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_complaint_the_client_is_shown_the_beginning() {
        let max = crate::limits::QUOTED_ANSWER_MAX_BYTES;
        let long = format!("{}Invalid job id", "x".repeat(max));
        let failed = fixtures::failed(1, &long);
        let expected = SlurmError::Unexpected {
            exit_status: 1,
            stderr: "x".repeat(max),
        };
        assert_eq!(unexpected(&failed), expected);
        let sorted = success_for_a_job(&failed);
        assert_eq!(sorted, Err(SlurmError::NoJob), "all of it is looked at");
    }
}
