//! What every way of moving a large file has in common.

use streamer_core::{Coordinates, Operation};

use super::TransferError;
use crate::Secret;
use crate::command::{RemotePath, StatOutput};
use crate::executor::BoxFuture;
use crate::model::transfer::{TransferDirective, TransferDirectiveRequest, TransferMethodName};

/// One way for large files to travel.
pub trait TransferMethod: Send + Sync + std::fmt::Debug {
    /// Its name in requests.
    fn name(&self) -> TransferMethodName;

    /// Whether an upload may go to what is there already.
    fn takes_existing(&self, _: &TransferRequest, _: &StatOutput) -> bool {
        false
    }

    /// Whether there are clients that try once, as soon as the job runs.
    fn clients_try_once(&self) -> bool {
        false
    }

    /// Whether its job runs the `streamer` program.
    fn needs_program(&self) -> bool {
        true
    }

    /// Refuses what can never succeed by this method, before anything is asked of the system.
    ///
    /// # Errors
    /// When it cannot.
    fn check(&self, _: &TransferRequest) -> Result<(), TransferError> {
        Ok(())
    }

    /// What the job runs and what the client is told.
    ///
    /// # Errors
    /// When the request lacks something, or a service that takes part refuses.
    ///
    /// Cancel safety: what was made elsewhere (an unfinished object) stays there.
    fn plan<'a>(
        &'a self,
        request: &'a TransferRequest,
        job: &'a JobFiles,
    ) -> BoxFuture<'a, Result<TransferPlan, TransferError>>;
}

/// A transfer someone asked for.
#[derive(Debug, Clone)]
pub struct TransferRequest {
    /// What the job does: `Send` for a download, `Receive` for an upload.
    pub operation: Operation,
    /// The file on the system; absolute by the time a method sees it.
    pub path: RemotePath,
    /// What is charged.
    pub account: Option<String>,
    /// How it should travel.
    pub directive: TransferDirectiveRequest,
    /// Who asked.
    pub user: String,
    /// For a download, what the source was found to be.
    pub source: Option<StatOutput>,
}

/// Files that belong to one job, in a directory that only its user can open.
#[derive(Debug, Clone)]
pub struct JobFiles {
    /// The directory, absolute.
    pub directory: String,
    /// Name of the file that holds [`TransferPlan::private`]; the job removes it.
    pub private: String,
    /// The `streamer` program that the job runs.
    pub program: String,
    /// Name of the system: ids of jobs are its own, the directory may be shared with others.
    pub system: String,
}

impl JobFiles {
    /// The private file, absolute.
    pub fn private_path(&self) -> String {
        format!("{}/{}", self.directory, self.private)
    }

    /// Beginning of the virtual environment of Python programs, absolute. Nodes of another system may
    /// have another Python of the same version.
    pub fn environment(&self) -> String {
        format!("{}/venv-{}", self.directory, in_a_name(&self.system))
    }

    /// The file in which the job says how it stands, for [`ShellLine::job_arg`].
    ///
    /// [`ShellLine::job_arg`]: crate::command::ShellLine::job_arg
    pub fn state_prefix(&self) -> String {
        state_prefix(&self.directory, &self.system)
    }
}

/// All but the id of the job and the ending.
pub(super) fn state_prefix(directory: &str, system: &str) -> String {
    format!("{directory}/job-{}-", in_a_name(system))
}

/// The name of a system, for that of a file.
fn in_a_name(system: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let plain = |c| if plain(c) { c } else { '_' };
    system.chars().map(plain).collect()
}

/// What a method wants done.
#[derive(Debug)]
pub struct TransferPlan {
    /// Shell lines of the job.
    pub body: String,
    /// Content of the private file: what nobody but the job may see.
    pub private: Secret,
    /// For the client.
    pub directive: TransferDirective,
    /// For the client too, once the job has an id.
    pub coordinates: Option<Coordinates>,
}
