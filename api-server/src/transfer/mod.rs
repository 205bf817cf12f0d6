//! Transfers: checks, one job on the system, and what the client needs to reach it.

mod error;
mod file_job;
mod install;
mod listening;
mod method;
mod private_files;
mod room;
mod s3;
mod script;
mod state;
mod streamer;
mod wormhole;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use error::TransferError;
pub use file_job::{Check, FileJob, Put};
pub use install::Installer;
pub use method::{JobFiles, TransferMethod, TransferPlan, TransferRequest};
pub use private_files::PrivateFiles;
pub use s3::S3Method;
pub use script::{DirectiveError, batch_script};
pub use streamer::StreamerMethod;
use streamer_core::{JobName, Operation};
pub use wormhole::WormholeMethod;

use crate::auth::Caller;
use crate::command::{
    self, CommandError, FailureKind, ReadPrivate, Readable, RemoteCommand, RemotePath,
    RemovePrivate, Stat, StatOutput, WritableDirectory, WritePrivate,
};
use crate::executor::{Executor, RunLimits};
use crate::model::jobs::Job;
use crate::model::transfer::{
    ExistingTarget, TransferDirective, TransferJob, TransferJobLogs, TransferState,
};
use crate::scheduler::{JobDescription, JobId, Scheduler, SchedulerError, Script};

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
    /// The configured methods; requests choose.
    pub methods: Vec<Arc<dyn TransferMethod>>,
    /// The program that jobs run.
    pub program: Program,
    /// What is to be removed with which job.
    pub private_files: PrivateFiles,
}

/// Where the `streamer` program that jobs run comes from.
#[derive(Debug)]
pub enum Program {
    /// It is on the system, under this name.
    There(String),
    /// The service installs it.
    Installed(Installer),
}

/// A caller on a system, and what acts for them there.
#[derive(Debug, Clone, Copy)]
pub struct OnSystem<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// Runs commands as them.
    pub executor: &'a dyn Executor,
    /// Runs jobs as them.
    pub scheduler: &'a dyn Scheduler,
}

impl Transfers {
    /// Checks, queues the job, and says what the client does now.
    ///
    /// # Errors
    /// When a check fails or the job is not taken. Not cancel-safe: a job may have been queued.
    pub async fn start(
        &self,
        on: OnSystem<'_>,
        mut request: TransferRequest,
    ) -> Result<(TransferJob, TransferDirective), TransferError> {
        let wanted = request.directive.transfer_method;
        let method = self.methods.iter().find(|method| method.name() == wanted);
        let method = method.ok_or(TransferError::MethodNotAvailable)?;
        let work_directory = self.work_directory_of(on.caller)?;
        request.path = request.path.under(&work_directory);
        // What the directives ask of the request is known before anything is done.
        batch_script(&self.directives, request.account.as_deref(), "")?;
        method.check(&request)?;
        let directory = format!("{work_directory}/{PRIVATE_DIRECTORY}");
        // At the same time: each is a round trip to the system.
        let found = async {
            let (source, ()) = tokio::try_join!(
                self.check_transfer(on, &request, method.as_ref()),
                self.check_work_directory(on, &work_directory),
            )?;
            let program = match method.needs_program() {
                true => self.program(on, &directory).await?,
                false => String::new(),
            };
            Ok((source, program))
        };
        let ((source, program), ()) = tokio::try_join!(found, self.check_room(on, &request))?;
        request.source = source;
        let files = JobFiles {
            program,
            private: format!("private-{}", uuid::Uuid::new_v4().simple()),
            directory,
            system: self.system.clone(),
        };
        let plan = method.plan(&request, &files).await?;
        self.write_private(on, &files, &plan).await?;
        let name = match request.operation {
            Operation::Send => OUTGRESS,
            Operation::Receive => INGRESS,
        };
        let account = request.account.as_deref();
        match self.submit(on, name, account, &plan.body).await {
            Ok(job) => {
                let path = files.private_path();
                self.private_files.insert(&job.job_id, on.caller, path);
                if method.clients_try_once() {
                    self.wait_until_listening(on, &job.job_id, &files.directory)
                        .await;
                }
                Ok((job.clone(), directive(plan, &job)))
            }
            Err(error) => {
                self.remove_private(on, files.private_path()).await;
                Err(error)
            }
        }
    }

    /// Ends a job of the caller, and removes its private file: a job that never runs does not, nor
    /// does one that a signal ends.
    ///
    /// # Errors
    /// When the scheduler does not do it. Not cancel-safe.
    pub async fn cancel(&self, on: OnSystem<'_>, id: &JobId) -> Result<(), SchedulerError> {
        on.scheduler.cancel(on.caller, id).await?;
        if let Some(path) = self.private_files.take(id.as_str(), on.caller) {
            self.remove_private(on, path).await;
        }
        Ok(())
    }

    /// Leaves it to the client where that cannot be told.
    async fn wait_until_listening(&self, on: OnSystem<'_>, id: &str, directory: &str) {
        let status = state_file(directory, &self.system, id);
        if let (Some(id), Ok(status)) = (JobId::parse(id), RemotePath::parse(&status)) {
            listening::wait(on, self.limits(), &id, &status).await;
        }
    }

    /// Before `job`, which somebody asked about, is shown to them: where its endpoint is about
    /// to listen, waits until it does. Clients of the plaintext protocol take RUNNING for that.
    ///
    /// Cancel-safe.
    pub async fn let_listen(&self, on: OnSystem<'_>, job: &Job) {
        let once = self.methods.iter().any(|method| method.clients_try_once());
        let own = job.user == on.caller.name().as_str();
        if !once || !own || !listening::is_about_to(job) {
            return;
        }
        if let Ok(directory) = self.work_directory_of(on.caller) {
            let directory = format!("{directory}/{PRIVATE_DIRECTORY}");
            self.wait_until_listening(on, &job.job_id, &directory).await;
        }
    }

    /// Checks, and queues a job that works on files where they are.
    ///
    /// # Errors
    /// When a check fails or the job is not taken. Not cancel-safe: a job may have been queued.
    pub async fn start_file_job(
        &self,
        on: OnSystem<'_>,
        job: FileJob,
        account: Option<String>,
    ) -> Result<TransferJob, TransferError> {
        let work_directory = self.work_directory_of(on.caller)?;
        batch_script(&self.directives, account.as_deref(), "")?;
        tokio::try_join!(
            self.check_work_directory(on, &work_directory),
            self.check_all(on, &job.checks),
        )?;
        let title = format!("{} as a job of {}", job.name, on.caller.name());
        let body = command::reported(&job.command, &title, job.done);
        self.submit(on, job.name, account.as_deref(), &body).await
    }

    /// How the transfer of a job stands.
    ///
    /// # Errors
    /// When there is no such job, or the system cannot be asked. Cancel-safe.
    pub async fn state(
        &self,
        on: OnSystem<'_>,
        id: &JobId,
    ) -> Result<TransferState, TransferError> {
        let directory = format!("{}/{PRIVATE_DIRECTORY}", self.work_directory_of(on.caller)?);
        let file = ReadPrivate {
            path: state_file(&directory, &self.system, id.as_str()),
        };
        let (jobs, file) = tokio::join!(on.scheduler.job(on.caller, id), self.run(on, &file));
        let job = jobs?.into_iter().next().ok_or(SchedulerError::NotFound)?;
        let file = match file {
            // Of somebody else's job nothing is known here.
            Ok(text) if job.user == on.caller.name().as_str() => state::JobFile::parse(&text),
            Ok(_) => None,
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                tracing::debug!(%error, "the state of a transfer cannot be read");
                None
            }
        };
        Ok(state::state(&self.system, &job, file))
    }

    /// Where the jobs of a caller run, without a slash at its end.
    ///
    /// # Errors
    /// When the configuration names no place.
    pub fn work_directory_of(&self, caller: &Caller) -> Result<String, TransferError> {
        match &self.work_directory {
            Some(path) => Ok(format!("{}/{}", path.trim_end_matches('/'), caller.name())),
            None => Err(TransferError::NoWorkDirectory {
                system: self.system.clone(),
            }),
        }
    }

    /// A download needs its source, an upload a place for its target. What the source is.
    async fn check_transfer(
        &self,
        on: OnSystem<'_>,
        request: &TransferRequest,
        method: &dyn TransferMethod,
    ) -> Result<Option<StatOutput>, TransferError> {
        let path = &request.path;
        if request.operation == Operation::Send {
            let source = self.source(on, path, true).await?;
            return match source.is_regular() || source.is_directory() {
                true => Ok(Some(source)),
                false => Err(TransferError::NotAFile {
                    path: path.as_str().to_owned(),
                }),
            };
        }
        let directory = path.parent();
        let (itself, found, there, writable) = tokio::join!(
            self.stat(on, path, false),
            self.stat(on, path, true),
            self.check_directory(on, &directory),
            self.check_writable(on, &directory),
        );
        let itself = match itself {
            Ok(itself) => itself,
            Err(error) if error.is_not_found() => {
                there?;
                writable?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        // Of a link, what it leads to: nothing can be put where one leads nowhere.
        let found = match found {
            Ok(found) => Some(found).filter(|found| method.takes_existing(request, found)),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let found = found.ok_or_else(|| TransferError::TargetExists {
            path: path.as_str().to_owned(),
        })?;
        there?;
        // What a directory takes in, and what a link leads to, is written elsewhere.
        if found.is_regular()
            && !itself.is_symlink()
            && request.directive.existing != ExistingTarget::Skip
        {
            writable?;
        }
        Ok(None)
    }

    async fn check_all(&self, on: OnSystem<'_>, checks: &[Check]) -> Result<(), TransferError> {
        for check in checks {
            match check {
                Check::Exists(path) => drop(self.stat(on, path, false).await?),
                Check::Readable { path, dereference } => {
                    self.source(on, path, *dereference).await?;
                }
                Check::Place(path, put) => self.check_place(on, path, *put).await?,
                Check::Directory(path) => self.check_directory(on, path).await?,
            }
        }
        Ok(())
    }

    async fn check_place(
        &self,
        on: OnSystem<'_>,
        path: &RemotePath,
        put: Put,
    ) -> Result<(), TransferError> {
        let directory = path.parent();
        let (itself, found, there, writable) = tokio::join!(
            self.stat(on, path, false),
            self.stat(on, path, true),
            self.check_directory(on, &directory),
            self.check_writable(on, &directory),
        );
        there?;
        let (itself, found) = (seen(itself)?, seen(found)?);
        match (itself, found) {
            (_, Some(found)) if found.is_directory() => match put {
                Put::Move | Put::Copy => self.check_writable(on, path).await?,
                // The command has the better words.
                Put::Replace => {}
            },
            // It is written where it is, or its link leads there.
            (Some(_), _) if put == Put::Copy => {}
            (Some(itself), _) if itself.is_symlink() && put == Put::Replace => {}
            _ => writable?,
        }
        Ok(())
    }

    async fn check_writable(
        &self,
        on: OnSystem<'_>,
        directory: &RemotePath,
    ) -> Result<(), CommandError> {
        let path = directory.as_str().to_owned();
        self.run(on, &WritableDirectory { path }).await
    }

    async fn check_directory(
        &self,
        on: OnSystem<'_>,
        path: &RemotePath,
    ) -> Result<(), TransferError> {
        match self.stat(on, path, true).await?.is_directory() {
            true => Ok(()),
            false => Err(TransferError::NotADirectory {
                path: path.as_str().to_owned(),
            }),
        }
    }

    async fn check_work_directory(
        &self,
        on: OnSystem<'_>,
        directory: &str,
    ) -> Result<(), TransferError> {
        let command = WritableDirectory {
            path: directory.to_owned(),
        };
        self.run(on, &command)
            .await
            .map_err(|source| TransferError::WorkDirectory {
                user: on.caller.name().to_string(),
                source,
            })
    }

    async fn stat(
        &self,
        on: OnSystem<'_>,
        path: &RemotePath,
        dereference: bool,
    ) -> Result<StatOutput, CommandError> {
        let path = path.clone();
        self.run(on, &Stat { path, dereference }).await
    }

    /// What something is that a job will read. That it is missing comes before that it is closed.
    async fn source(
        &self,
        on: OnSystem<'_>,
        path: &RemotePath,
        dereference: bool,
    ) -> Result<StatOutput, CommandError> {
        let readable = Readable {
            path: path.clone(),
            dereference,
        };
        let stat = self.stat(on, path, dereference);
        let (stat, readable) = tokio::join!(stat, self.run(on, &readable));
        let stat = stat?;
        readable?;
        Ok(stat)
    }

    async fn program(&self, on: OnSystem<'_>, directory: &str) -> Result<String, TransferError> {
        match &self.program {
            Program::There(path) => Ok(path.clone()),
            Program::Installed(installer) => installer.install(on, directory, self.limits()).await,
        }
    }

    async fn write_private(
        &self,
        on: OnSystem<'_>,
        files: &JobFiles,
        plan: &TransferPlan,
    ) -> Result<(), TransferError> {
        let command = WritePrivate {
            directory: files.directory.clone(),
            name: files.private.clone(),
            content: plan.private.clone(),
        };
        Ok(self.run(on, &command).await?)
    }

    /// Of a job that will not run. It is harmless by now: nothing listens.
    async fn remove_private(&self, on: OnSystem<'_>, path: String) {
        if let Err(error) = self.run(on, &RemovePrivate { path }).await {
            tracing::warn!(%error, "the private file of a job that does not run stays");
        }
    }

    async fn run<C: RemoteCommand>(
        &self,
        on: OnSystem<'_>,
        command: &C,
    ) -> Result<C::Parsed, CommandError> {
        command::run(on.executor, on.caller, self.limits(), command).await
    }

    fn limits(&self) -> RunLimits {
        RunLimits {
            timeout: self.command_timeout,
            output_bytes: self.command_output_bytes,
        }
    }

    async fn submit(
        &self,
        on: OnSystem<'_>,
        name: &str,
        account: Option<&str>,
        body: &str,
    ) -> Result<TransferJob, TransferError> {
        let working_directory = self.work_directory_of(on.caller)?;
        let id = uuid::Uuid::new_v4();
        let logs = TransferJobLogs {
            output_log: format!("{working_directory}/.f7t_file_handling_job_{id}.log"),
            error_log: format!("{working_directory}/.f7t_file_handling_job_error_{id}.log"),
        };
        let script = batch_script(&self.directives, account, body)?;
        let path = "/bin:/usr/bin/:/usr/local/bin/".to_owned();
        let job = JobDescription {
            name: Some(name.to_owned()),
            working_directory: working_directory.clone(),
            standard_input: Some("/dev/null".to_owned()),
            standard_output: Some(logs.output_log.clone()),
            standard_error: Some(logs.error_log.clone()),
            environment: BTreeMap::from([("PATH".to_owned(), path)]),
            // Charged is whom the directives say, as by the Python service: some name the account there.
            account: None,
            script: Script::Text(script),
            ..JobDescription::default()
        };
        let id = on.scheduler.submit(on.caller, job).await?;
        Ok(TransferJob {
            job_id: id.as_str().to_owned(),
            system: self.system.clone(),
            working_directory,
            logs,
        })
    }
}

/// What is there, if anything that can be looked at. Where it could not be asked, nothing is known.
fn seen(stat: Result<StatOutput, CommandError>) -> Result<Option<StatOutput>, CommandError> {
    use FailureKind::{NotFound, Other, PermissionDenied};
    match stat {
        Ok(found) => Ok(Some(found)),
        Err(CommandError::Failed {
            kind: NotFound | PermissionDenied | Other,
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the client is told, with the name of the job, so that it can ask how that stands.
fn directive(plan: TransferPlan, job: &TransferJob) -> TransferDirective {
    let mut directive = plan.directive;
    directive.coordinates = plan.coordinates.map(|mut coordinates| {
        coordinates.job = JobName::new(&job.system, &job.job_id);
        coordinates.encode().to_string()
    });
    directive
}

fn state_file(directory: &str, system: &str, id: &str) -> String {
    format!("{}{id}.json", method::state_prefix(directory, system))
}

/// Names of jobs that move files out and in.
const OUTGRESS: &str = "OutgressFileTransfer";
const INGRESS: &str = "IngressFileTransfer";

/// In the directory of a user's jobs: private files, states, the program. Only they can open it.
const PRIVATE_DIRECTORY: &str = ".f7t_transfers";

#[cfg(test)]
mod tests;
