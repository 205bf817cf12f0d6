//! What runs jobs: a trait, and its implementations.

mod answer;
mod batch;
mod environment;
mod hybrid;
pub mod local;
mod not_driven;
mod pbs;
pub(crate) mod phase;
mod sbatch;
pub(crate) mod shared;
mod slurm_cli;
mod slurm_rest;
mod slurm_state;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use batch::{BatchError, is_no_time_limit, parse_time_limit};
pub use hybrid::Hybrid;
pub use local::{LocalLimits, LocalScheduler};
pub use not_driven::NotDriven;
pub use pbs::PbsCommandLine;
pub use slurm_cli::SlurmCli;
pub(crate) use slurm_cli::parse_version as parse_program_version;
pub use slurm_rest::SlurmRest;
pub(crate) use slurm_rest::parse_version as parse_api_version;

use crate::auth::Caller;
use crate::command::CommandError;
use crate::executor::{BoxFuture, ExecError};
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{AccountsModel, NodeModel, PartitionModel, ReservationModel};

/// Runs jobs on one system as the caller.
pub trait Scheduler: Send + Sync + fmt::Debug {
    /// Queues a job. Cancel safety: not cancel-safe; run it in a task of its own.
    ///
    /// # Errors
    /// When the scheduler does not take it.
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>>;

    /// One job, anybody's; several when it is an array. Cancel-safe.
    ///
    /// # Errors
    /// [`SchedulerError::NotFound`] when there is none.
    fn job<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>>;

    /// Jobs that fit a filter, oldest first. Cancel-safe.
    ///
    /// # Errors
    /// When the scheduler cannot be asked.
    fn jobs<'a>(
        &'a self,
        caller: &'a Caller,
        filter: JobFilter,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>>;

    /// Ends a job of the caller. Cancel safety: not cancel-safe.
    ///
    /// # Errors
    /// When there is no such job, it has ended, or it is somebody else's.
    fn cancel<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>>;

    /// What a job was submitted with. Cancel-safe.
    ///
    /// # Errors
    /// [`SchedulerError::NotFound`] when there is no such job.
    fn metadata<'a>(
        &'a self,
        _caller: &'a Caller,
        _id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        unsupported("job metadata")
    }

    /// Runs a command inside of a running job. Cancel safety: not cancel-safe.
    ///
    /// # Errors
    /// When the job does not run, or the command fails.
    fn attach<'a>(
        &'a self,
        _caller: &'a Caller,
        _id: &'a JobId,
        _command: &'a str,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        unsupported("attaching to jobs")
    }

    /// The nodes that jobs run on. Cancel-safe.
    ///
    /// # Errors
    /// When the scheduler cannot be asked.
    fn nodes<'a>(
        &'a self,
        _caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<NodeModel>, SchedulerError>> {
        unsupported("a list of nodes")
    }

    /// The partitions or queues, also hidden ones when those are asked for. Cancel-safe.
    ///
    /// # Errors
    /// When the scheduler cannot be asked.
    fn partitions<'a>(
        &'a self,
        _caller: &'a Caller,
        _show_hidden: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        unsupported("a list of partitions")
    }

    /// The reservations. Cancel-safe.
    ///
    /// # Errors
    /// When the scheduler cannot be asked.
    fn reservations<'a>(
        &'a self,
        _caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        unsupported("a list of reservations")
    }

    /// What the caller may charge; `None` where accounts are not kept. Cancel-safe.
    ///
    /// # Errors
    /// When the scheduler cannot be asked.
    fn accounts<'a>(
        &'a self,
        _caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Option<Vec<AccountsModel>>, SchedulerError>> {
        Box::pin(async { Ok(None) })
    }

    /// Which controllers answer within this time. Cancel-safe.
    ///
    /// # Errors
    /// When the scheduler cannot be asked.
    fn ping<'a>(
        &'a self,
        _caller: &'a Caller,
        _within: Duration,
    ) -> BoxFuture<'a, Result<Vec<Ping>, SchedulerError>> {
        unsupported("a ping")
    }

    /// How long whoever waits for a job to change waits before asking again.
    fn pause(&self) -> Duration {
        Duration::from_millis(20)
    }

    /// Stops what the service itself runs. Schedulers elsewhere go on without us.
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn unsupported<'a, T: Send + 'a>(what: &'static str) -> BoxFuture<'a, Result<T, SchedulerError>> {
    Box::pin(async move { Err(SchedulerError::Unsupported { what }) })
}

/// What one controller of a scheduler said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    /// `primary`, `backup`, or whatever the scheduler calls its role.
    pub mode: Option<String>,
    /// Where it runs.
    pub hostname: Option<String>,
    /// `UP` when it is well.
    pub pinged: String,
}

/// What to run.
#[derive(Clone, Default)]
pub struct JobDescription {
    /// Name shown in listings.
    pub name: Option<String>,
    /// Where it starts.
    pub working_directory: String,
    /// File for standard input; absent: nothing.
    pub standard_input: Option<String>,
    /// File for standard output, with Slurm's patterns; absent: the scheduler's default.
    pub standard_output: Option<String>,
    /// File for standard error; absent: with standard output.
    pub standard_error: Option<String>,
    /// Variables. No secrets: schedulers show and store them.
    pub environment: BTreeMap<String, String>,
    /// What is charged.
    pub account: Option<String>,
    /// Where it runs.
    pub partition: Option<String>,
    /// Reservation it uses.
    pub reservation: Option<String>,
    /// Features it needs.
    pub constraints: Option<String>,
    /// The text to run.
    pub script: Script,
}

/// Without what users may have put passwords into: values of variables, and the script.
impl fmt::Debug for JobDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            working_directory,
            standard_input,
            standard_output,
            standard_error,
            environment,
            account,
            partition,
            reservation,
            constraints,
            script,
        } = self;
        f.debug_struct("JobDescription")
            .field("name", name)
            .field("working_directory", working_directory)
            .field("standard_input", standard_input)
            .field("standard_output", standard_output)
            .field("standard_error", standard_error)
            .field("environment", &environment.keys())
            .field("account", account)
            .field("partition", partition)
            .field("reservation", reservation)
            .field("constraints", constraints)
            .field("script", script)
            .finish()
    }
}

impl JobDescription {
    /// Whether schedulers can be given it.
    ///
    /// # Errors
    /// With the variable whose name is none: one could smuggle in others.
    pub fn check(&self) -> Result<(), SchedulerError> {
        match self.environment.keys().find(|name| !is_variable(name)) {
            Some(name) => Err(SchedulerError::Rejected {
                reason: format!("'{name}' cannot be the name of a variable"),
            }),
            None => Ok(()),
        }
    }
}

/// Whether a text can name a variable: letters, digits and underscores.
fn is_variable(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes()
        .next()
        .is_some_and(|first| word(first) && !first.is_ascii_digit())
        && name.bytes().all(word)
}

/// The script of a job.
#[derive(Clone)]
pub enum Script {
    /// Its text.
    Text(String),
    /// A file on the system.
    Path(String),
}

/// Without its text.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "Text({} bytes)", text.len()),
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// An id as schedulers issue them and routes accept them: ASCII letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobId(String);

impl JobId {
    /// `None` unless the text matches `^[a-zA-Z0-9]+$`, up to 64 characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be a job of Slurm, which numbers them from 1 on in 32 bits. What cannot is not
    /// asked for: slurmrestd of 22.05 dies of it, and 0, also what is one in 32 bits, means all jobs
    /// to `sacct`.
    pub(crate) fn is_slurm_number(&self) -> bool {
        let digits = self.0.bytes().all(|b| b.is_ascii_digit());
        // The two highest mean that there is none.
        let number = self.0.parse::<u32>();
        digits && number.is_ok_and(|number| (1..u32::MAX - 1).contains(&number))
    }
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct JobFilter {
    /// Everybody's, not only the caller's.
    pub all_users: bool,
    /// Only this account.
    pub account: Option<String>,
    /// Only this name.
    pub name: Option<String>,
    /// Ended jobs no older than this, in seconds.
    pub history_seconds: u64,
}

/// Why a scheduler did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// No such job. Clients look for these words.
    #[error("Job not found.")]
    NotFound,
    /// It belongs to somebody else.
    #[error("Job {id} belongs to another user.")]
    NotOwner {
        /// Which job.
        id: String,
    },
    /// It cannot be cancelled any more.
    #[error("Job {id} has already ended.")]
    AlreadyEnded {
        /// Which job.
        id: String,
    },
    /// The job is not acceptable.
    #[error("Job submission rejected: {reason}")]
    Rejected {
        /// Why.
        reason: String,
    },
    /// Too many jobs wait.
    #[error("Job submission rejected: {max} jobs are waiting already.")]
    QueueFull {
        /// The bound.
        max: usize,
    },
    /// The service is going away.
    #[error("The service is stopping and takes no jobs.")]
    Stopping,
    /// This kind of scheduler has no such thing.
    #[error("This system's scheduler does not offer {what}.")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// The caller may not use as much as the job asks for.
    #[error("Job submission rejected: accounting/QOS policy limit exceeded. {reason}")]
    Quota {
        /// What the scheduler said.
        reason: String,
    },
    /// It takes the command line, and the configuration allows REST only.
    #[error("Scheduler can't handle this request when configured to use rest connection mode")]
    NotByRest,
    /// A scheduler's program or service answered with a failure, or with something unknown.
    #[error("{message}")]
    Failed {
        /// What clients are told.
        message: String,
        /// Messages of the failures behind it, outermost first.
        causes: Vec<String>,
    },
    /// Configured, but not driven by this build.
    #[error("This version of the server does not drive {scheduler} systems yet.")]
    NotDriven {
        /// Which kind.
        scheduler: &'static str,
    },
    /// A program could not be run as the caller.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A program run as the caller failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Somebody else asked the same at the same time, and this came of it.
    #[error(transparent)]
    Shared(Arc<Self>),
    /// A file of the scheduler's own could not be written.
    #[error("the job could not be prepared")]
    Io {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_are_checked() {
        let check = |name: &str| {
            let environment = BTreeMap::from([(name.to_owned(), String::new())]);
            let job = JobDescription {
                environment,
                ..JobDescription::default()
            };
            job.check().is_ok()
        };
        for name in ["", "1A", "A B", "A=B", "A,B", "\u{e9}"] {
            assert!(!check(name), "{name}");
        }
        assert!(check("_a1"));
    }

    #[test]
    fn what_is_printed_of_a_job_holds_no_password() {
        let job = JobDescription {
            environment: BTreeMap::from([("TOKEN".to_owned(), "sesame".to_owned())]),
            script: Script::Text("curl -u me:sesame".to_owned()),
            ..JobDescription::default()
        };
        let text = format!("{job:?}");
        assert!(
            text.contains("TOKEN") && text.contains("17 bytes"),
            "{text}"
        );
        assert!(!text.contains("sesame"), "{text}");
    }
}
