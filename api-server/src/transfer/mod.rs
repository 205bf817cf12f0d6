//! Transfers: checks, one job on the system, and what the client needs to reach it.

mod script;
mod streamer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use script::{DirectiveError, batch_script};
pub use streamer::StreamerMethod;
use streamer_core::Operation;

use crate::Secret;
use crate::auth::Caller;
use crate::command::{self, CommandError, PathError, RemotePath, Stat};
use crate::executor::{Executor, RunLimits};
use crate::model::transfer::{
    TransferDirective, TransferDirectiveRequest, TransferJob, TransferJobLogs, TransferMethodName,
};
use crate::scheduler::{JobDescription, Scheduler, SchedulerError, Script};

/// One way for large files to travel.
pub trait TransferMethod: Send + Sync + std::fmt::Debug {
    /// Its name in requests.
    fn name(&self) -> TransferMethodName;

    /// What the job runs and what the client is told. Pure but for randomness.
    ///
    /// # Errors
    /// When the request lacks something, or this build cannot do it.
    fn plan(&self, request: &TransferRequest) -> Result<TransferPlan, TransferError>;
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
}

/// What a method wants done.
#[derive(Debug)]
pub struct TransferPlan {
    /// Shell lines of the job.
    pub body: String,
    /// Variables for the job's eyes only.
    pub secret_environment: Vec<(&'static str, Secret)>,
    /// For the client.
    pub directive: TransferDirective,
}

/// Why there is no transfer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Another method is configured for the system.
    #[error("Requested transfer method is not available.")]
    MethodNotAvailable,
    /// The method is configured, but this build does not know it yet.
    #[error("This version of the server does not offer transfers by {method} yet.")]
    NotDriven {
        /// Which.
        method: &'static str,
    },
    /// An upload never replaces a file.
    #[error("Target file '{path}' already exists.")]
    TargetExists {
        /// Which.
        path: String,
    },
    /// The configured batch directives need an account.
    #[error("Account parameter is required on this system.")]
    AccountRequired,
    /// The account would break out of its line in the job script.
    #[error("The account contains characters that are not allowed.")]
    BadAccount,
    /// The path is none.
    #[error("The provided path is not valid: {source}.")]
    BadPath {
        /// Why.
        #[from]
        source: PathError,
    },
    /// The configuration names no place for transfer jobs.
    #[error("The system {system} has no filesystem defined as default_work_dir")]
    NoWorkDirectory {
        /// Which system.
        system: String,
    },
    /// The operating system's generator failed.
    #[error("no secret could be made")]
    NoRandomness,
    /// The check on the system failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The job was not taken.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
}

/// Transfers on one system.
#[derive(Debug)]
pub struct Transfers {
    /// Name of the system.
    pub system: String,
    /// `<this>/<user>` is where jobs run.
    pub work_directory: Option<String>,
    /// Lines at the top of each job script.
    pub directives: Vec<String>,
    /// Time for one command on the system.
    pub command_timeout: Duration,
    /// Most bytes of its output.
    pub command_output_bytes: usize,
    /// The configured method.
    pub method: Arc<dyn TransferMethod>,
}

impl Transfers {
    /// Checks, queues the job, and says what the client does now.
    ///
    /// # Errors
    /// When a check fails or the job is not taken. Not cancel-safe: a job may have been queued.
    pub async fn start(
        &self,
        caller: &Caller,
        executor: &dyn Executor,
        scheduler: &dyn Scheduler,
        mut request: TransferRequest,
    ) -> Result<(TransferJob, TransferDirective), TransferError> {
        if request.directive.transfer_method != self.method.name() {
            return Err(TransferError::MethodNotAvailable);
        }
        let work_directory = self.work_directory_of(caller)?;
        request.path = request.path.under(&work_directory);
        self.check(caller, executor, &request).await?;
        let plan = self.method.plan(&request)?;
        let (job, logs) = self.job(&request, work_directory, &plan)?;
        let working_directory = job.working_directory.clone();
        let id = scheduler.submit(caller, job).await?;
        let job_id = id.as_str().to_owned();
        let job = TransferJob {
            job_id,
            system: self.system.clone(),
            working_directory,
            logs,
        };
        Ok((job, plan.directive))
    }

    fn work_directory_of(&self, caller: &Caller) -> Result<String, TransferError> {
        match &self.work_directory {
            Some(path) => Ok(format!("{}/{}", path.trim_end_matches('/'), caller.name())),
            None => Err(TransferError::NoWorkDirectory {
                system: self.system.clone(),
            }),
        }
    }

    /// A download needs its source, an upload must not have its target.
    async fn check(
        &self,
        caller: &Caller,
        executor: &dyn Executor,
        request: &TransferRequest,
    ) -> Result<(), TransferError> {
        let stat = Stat {
            path: request.path.clone(),
            dereference: true,
        };
        let limits = RunLimits {
            timeout: self.command_timeout,
            output_bytes: self.command_output_bytes,
        };
        match (
            request.operation,
            command::run(executor, caller, limits, &stat).await,
        ) {
            (Operation::Send, Ok(_)) => Ok(()),
            (Operation::Receive, Ok(_)) => Err(TransferError::TargetExists {
                path: request.path.as_str().to_owned(),
            }),
            (Operation::Receive, Err(error)) if error.is_not_found() => Ok(()),
            (_, Err(error)) => Err(error.into()),
        }
    }

    fn job(
        &self,
        request: &TransferRequest,
        working_directory: String,
        plan: &TransferPlan,
    ) -> Result<(JobDescription, TransferJobLogs), TransferError> {
        let id = uuid::Uuid::new_v4();
        let logs = TransferJobLogs {
            output_log: format!("{working_directory}/.f7t_file_handling_job_{id}.log"),
            error_log: format!("{working_directory}/.f7t_file_handling_job_error_{id}.log"),
        };
        let name = match request.operation {
            Operation::Send => "OutgressFileTransfer",
            Operation::Receive => "IngressFileTransfer",
        };
        let script = batch_script(&self.directives, request.account.as_deref(), &plan.body)?;
        let path = (
            "PATH".to_owned(),
            "/bin:/usr/bin/:/usr/local/bin/".to_owned(),
        );
        let job = JobDescription {
            name: Some(name.to_owned()),
            working_directory,
            standard_input: Some("/dev/null".to_owned()),
            standard_output: Some(logs.output_log.clone()),
            standard_error: Some(logs.error_log.clone()),
            environment: BTreeMap::from([path]),
            secret_environment: plan.secret_environment.clone(),
            account: request.account.clone(),
            script: Script::Text(script),
            ..JobDescription::default()
        };
        Ok((job, logs))
    }
}

impl From<DirectiveError> for TransferError {
    fn from(error: DirectiveError) -> Self {
        match error {
            DirectiveError::AccountRequired => Self::AccountRequired,
            DirectiveError::BadAccount => Self::BadAccount,
        }
    }
}

/// A method that is configured and shown, and that this build does not know yet.
#[derive(Debug)]
pub struct MethodNotDriven {
    /// Its name in requests.
    pub name: TransferMethodName,
    /// Its name for people.
    pub word: &'static str,
}

impl TransferMethod for MethodNotDriven {
    fn name(&self) -> TransferMethodName {
        self.name
    }

    fn plan(&self, _: &TransferRequest) -> Result<TransferPlan, TransferError> {
        Err(TransferError::NotDriven { method: self.word })
    }
}

#[cfg(test)]
mod tests;
