//! Slurm by its programs, run on the login node as the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer;
use super::shared::Shared;
use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError};
use crate::auth::Caller;
use crate::command::slurm::{
    self, Delimiter, JobQuery, ShownJob, SlurmCommand, SlurmError, WhichJobs,
};
use crate::executor::{BoxFuture, ExecError, Executor, Output, RunLimits};
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{AccountsModel, NodeModel, PartitionModel, ReservationModel};

/// Drives one Slurm cluster.
#[derive(Debug)]
pub struct SlurmCli {
    executor: Arc<dyn Executor>,
    limits: RunLimits,
    /// Whether the accounts keep the files of a job: Slurm 24.05 and newer.
    keeps_files: bool,
    listings: Shared<Question, Result<Arc<Vec<Job>>, Arc<SchedulerError>>>,
    /// Grows with each change, so that nobody is shown what was asked for before theirs.
    changes: AtomicU64,
}

/// Who asks for which jobs, after how many changes.
type Question = (String, WhichJobs, u64);

impl SlurmCli {
    /// Runs its programs by `executor`.
    pub fn new(executor: Arc<dyn Executor>, limits: RunLimits, version: &str) -> Self {
        Self {
            executor,
            limits,
            keeps_files: is_at_least(version, (24, 5)),
            listings: Shared::default(),
            changes: AtomicU64::new(0),
        }
    }

    async fn run<C>(&self, caller: &Caller, command: C) -> Result<C::Parsed, CliError>
    where
        C: SlurmCommand<Parsed: Send> + 'static,
    {
        self.run_within(caller, command, self.limits).await
    }

    /// As [`run`](Self::run), where what it prints grows with the system.
    async fn list<C>(&self, caller: &Caller, command: C) -> Result<C::Parsed, CliError>
    where
        C: SlurmCommand<Parsed: Send> + 'static,
    {
        let limits = self.limits.for_a_list();
        self.run_within(caller, command, limits).await
    }

    async fn run_within<C>(
        &self,
        caller: &Caller,
        command: C,
        limits: RunLimits,
    ) -> Result<C::Parsed, CliError>
    where
        C: SlurmCommand<Parsed: Send> + 'static,
    {
        let output = self.output(caller, &command, limits).await?;
        let read = answer::read(output.stdout.len(), move || command.read(&output));
        Ok(read.await?)
    }

    async fn output<C: SlurmCommand>(
        &self,
        caller: &Caller,
        command: &C,
        limits: RunLimits,
    ) -> Result<Output, CliError> {
        let (line, input) = (command.render(), command.input());
        let run = self.executor.run_with_input(caller, &line, input, limits);
        Ok(run.await?)
    }

    /// History and queue together. Identical questions at once share the two calls.
    async fn listing(&self, caller: &Caller, which: WhichJobs) -> Result<Vec<Job>, SchedulerError> {
        let user = caller.name().as_str().to_owned();
        let query = JobQuery {
            user: user.clone(),
            which: which.clone(),
            delimiter: Delimiter::random(),
        };
        let (history, queue) = (slurm::History(query.clone()), slurm::Queue(query));
        let question = (user, which, self.changes.load(Ordering::Acquire));
        let answer = self
            .listings
            .ask(question, async {
                let limits = self.limits.for_a_list();
                let (of_history, of_queue) = tokio::join!(
                    self.output(caller, &history, limits),
                    self.output(caller, &queue, limits)
                );
                let printed = [&of_history, &of_queue].into_iter().flatten();
                let bytes = printed.map(|output| output.stdout.len()).sum();
                let merged = answer::read(bytes, move || {
                    let history = history.read(&of_history?)?;
                    let queue = queue.read(&of_queue?)?;
                    Ok(slurm::merge(history, queue))
                });
                let merged: Result<_, CliError> = merged.await;
                let merged = merged.map(Arc::new);
                merged.map_err(|error| Arc::new(error.of_a_listing()))
            })
            .await;
        match answer {
            Ok(jobs) => Ok(Arc::unwrap_or_clone(jobs)),
            Err(error) => Err(Arc::try_unwrap(error).unwrap_or_else(SchedulerError::Shared)),
        }
    }

    /// What the controller says, and, once it has forgotten the job, what the accounts keep.
    async fn description(
        &self,
        caller: &Caller,
        id: &JobId,
    ) -> Result<Vec<JobMetadataModel>, SchedulerError> {
        if !id.is_slurm_number() {
            return Err(SchedulerError::NotFound);
        }
        let (show, script) = (slurm::Show(id.clone()), slurm::BatchScript(id.clone()));
        // An array has as many as it has tasks.
        let (shown, script) = tokio::join!(self.list(caller, show), self.run(caller, script));
        match shown {
            Ok(jobs) if !jobs.is_empty() => {
                let script = script.map_err(|error| error.about(id))?;
                Ok(jobs
                    .into_iter()
                    .map(|job| described(job, script.clone()))
                    .collect())
            }
            Ok(_) | Err(CliError::Slurm(SlurmError::NoJob)) => self.stored(caller, id).await,
            Err(error) => Err(error.about(id)),
        }
    }

    async fn stored(
        &self,
        caller: &Caller,
        id: &JobId,
    ) -> Result<Vec<JobMetadataModel>, SchedulerError> {
        let scripts = self.list(caller, slurm::StoredScript(id.clone())).await;
        let scripts = scripts.map_err(|error| error.about(id))?;
        let script_of = |job: &str| {
            let found = scripts.iter().find(|(id, _)| id == job);
            found.and_then(|(_, script)| script.clone())
        };
        let jobs = if self.keeps_files {
            let files = self
                .list(caller, slurm::StoredFiles(id.clone(), Delimiter::random()))
                .await;
            let files = files.map_err(|error| error.about(id))?;
            let described = files.into_iter().map(|job| {
                let script = script_of(&job.id);
                described(job, script)
            });
            described.collect()
        } else {
            let scripts = scripts
                .into_iter()
                .map(|(id, script)| described(nameless(id), script));
            scripts.collect::<Vec<_>>()
        };
        if jobs.is_empty() {
            Err(SchedulerError::NotFound)
        } else {
            Ok(jobs)
        }
    }
}

fn described(job: ShownJob, script: Option<String>) -> JobMetadataModel {
    JobMetadataModel {
        job_id: job.id,
        script,
        standard_input: job.input,
        standard_output: job.output,
        standard_error: job.error,
    }
}

/// A job of which only the script is kept.
fn nameless(id: String) -> ShownJob {
    ShownJob {
        id,
        input: None,
        output: None,
        error: None,
    }
}

/// Whether a version such as `24.11.0` is at least this one.
fn is_at_least(version: &str, least: (u32, u32)) -> bool {
    parse_version(version).is_some_and(|version| version >= least)
}

/// The first two numbers of a version, which maybe stands after a `v`.
pub(crate) fn parse_version(text: &str) -> Option<(u32, u32)> {
    let text = text.trim_start_matches(['v', 'V']);
    let (major, rest) = text.split_once('.').unwrap_or((text, ""));
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next();
    let minor = minor.and_then(|minor| minor.parse().ok());
    Some((major.parse().ok()?, minor.unwrap_or(0)))
}

/// A program could not run, or refused.
#[derive(Debug)]
enum CliError {
    Exec(ExecError),
    Slurm(SlurmError),
}

impl From<ExecError> for CliError {
    fn from(error: ExecError) -> Self {
        Self::Exec(error)
    }
}

impl From<SlurmError> for CliError {
    fn from(error: SlurmError) -> Self {
        Self::Slurm(error)
    }
}

impl CliError {
    /// In answer to a request about one job.
    fn about(self, id: &JobId) -> SchedulerError {
        let id = || id.as_str().to_owned();
        match self {
            Self::Slurm(SlurmError::NoJob) => SchedulerError::NotFound,
            Self::Slurm(SlurmError::Denied) => SchedulerError::NotOwner { id: id() },
            Self::Slurm(SlurmError::Ended) => SchedulerError::AlreadyEnded { id: id() },
            other => other.plain(),
        }
    }

    /// In answer to any other request.
    fn plain(self) -> SchedulerError {
        match self {
            Self::Exec(error) => error.into(),
            Self::Slurm(SlurmError::Quota(reason)) => SchedulerError::Quota { reason },
            Self::Slurm(error) => SchedulerError::Failed {
                message: error.to_string(),
                causes: Vec::new(),
            },
        }
    }

    /// Of one of the two programs that make a listing.
    fn of_a_listing(self) -> SchedulerError {
        match self {
            Self::Exec(error) => error.into(),
            Self::Slurm(error) => SchedulerError::Failed {
                message: "Error executing Slurm command.".to_owned(),
                causes: vec![error.to_string()],
            },
        }
    }
}

impl Scheduler for SlurmCli {
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        Box::pin(async move {
            job.check_inherited("sbatch", slurm::OWN_VARIABLES)?;
            let id = self.run(caller, slurm::Submit(job)).await;
            self.changes.fetch_add(1, Ordering::Release);
            id.map_err(CliError::plain)
        })
    }

    fn job<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        Box::pin(async move {
            if !id.is_slurm_number() {
                return Err(SchedulerError::NotFound);
            }
            let jobs = self.listing(caller, WhichJobs::One(id.clone())).await?;
            if jobs.is_empty() {
                Err(SchedulerError::NotFound)
            } else {
                Ok(jobs)
            }
        })
    }

    fn jobs<'a>(
        &'a self,
        caller: &'a Caller,
        filter: JobFilter,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        Box::pin(self.listing(caller, WhichJobs::Fitting(filter)))
    }

    fn cancel<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        Box::pin(async move {
            if !id.is_slurm_number() {
                return Err(SchedulerError::NotFound);
            }
            let cancelled = self.run(caller, slurm::Cancel(id.clone())).await;
            self.changes.fetch_add(1, Ordering::Release);
            cancelled.map_err(|error| error.about(id))
        })
    }

    fn metadata<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        Box::pin(self.description(caller, id))
    }

    fn attach<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
        command: &'a str,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        Box::pin(async move {
            if !id.is_slurm_number() {
                return Err(SchedulerError::NotFound);
            }
            let attach = slurm::Attach {
                job: id.clone(),
                command: command.to_owned(),
            };
            self.run(caller, attach)
                .await
                .map_err(|error| error.about(id))
        })
    }

    fn nodes<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<NodeModel>, SchedulerError>> {
        Box::pin(async move {
            self.list(caller, slurm::Nodes)
                .await
                .map_err(CliError::plain)
        })
    }

    fn partitions<'a>(
        &'a self,
        caller: &'a Caller,
        show_hidden: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        Box::pin(async move {
            let partitions = self.list(caller, slurm::Partitions { show_hidden }).await;
            partitions.map_err(CliError::plain)
        })
    }

    fn reservations<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        Box::pin(async move {
            let reservations = self.run(caller, slurm::Reservations).await;
            reservations.map_err(CliError::plain)
        })
    }

    fn accounts<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Option<Vec<AccountsModel>>, SchedulerError>> {
        Box::pin(async move {
            let user = || caller.name().as_str().to_owned();
            let (all, default) = (
                slurm::Accounts { user: user() },
                slurm::DefaultAccount { user: user() },
            );
            let (all, default) = tokio::join!(self.run(caller, all), self.run(caller, default));
            // The list is good without knowing the default.
            let default = default.ok().flatten();
            let account = |name: String| AccountsModel {
                default: default.as_ref() == Some(&name),
                name,
            };
            let accounts: Vec<_> = all
                .map_err(CliError::plain)?
                .into_iter()
                .map(account)
                .collect();
            Ok((!accounts.is_empty()).then_some(accounts))
        })
    }

    fn ping<'a>(
        &'a self,
        caller: &'a Caller,
        within: Duration,
    ) -> BoxFuture<'a, Result<Vec<Ping>, SchedulerError>> {
        Box::pin(async move {
            let limits = RunLimits {
                timeout: within,
                ..self.limits
            };
            let pings = self.run_within(caller, slurm::Ping, limits).await;
            pings.map_err(CliError::plain)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ShellLine;
    use crate::limits::ANSWER_READ_AT_ONCE_MAX_BYTES;
    use crate::scheduler::answer::tests::at_once;
    use std::sync::Mutex;

    /// Prints so many bytes, none that mean anything; remembers what was asked, and within what.
    #[derive(Debug, Default)]
    struct Silent(Mutex<Vec<(String, RunLimits)>>, usize);

    impl Executor for Silent {
        fn run_with_input<'a>(
            &'a self,
            _: &'a Caller,
            line: &'a ShellLine,
            _: &'a [u8],
            limits: RunLimits,
        ) -> BoxFuture<'a, Result<Output, ExecError>> {
            let asked = (line.as_str().to_owned(), limits);
            self.0.lock().unwrap().push(asked);
            Box::pin(async {
                Ok(Output {
                    exit_code: Some(0),
                    signal: None,
                    stdout: vec![b' '; self.1],
                    stderr: Vec::new(),
                })
            })
        }
    }

    const LIMITS: RunLimits = RunLimits {
        timeout: Duration::from_secs(5),
        output_bytes: 1000,
    };

    #[tokio::test]
    async fn lists_may_be_long_and_a_ping_has_its_own_time() {
        let silent = Arc::new(Silent::default());
        let executor: Arc<dyn Executor> = Arc::<Silent>::clone(&silent);
        let slurm = SlurmCli::new(executor, LIMITS, "24.11");
        let caller = Caller::for_tests("bob");
        let (id, minute) = (JobId::parse("7").unwrap(), Duration::from_secs(60));
        let _ = slurm.jobs(&caller, JobFilter::default()).await;
        let _ = slurm.nodes(&caller).await;
        let _ = slurm.partitions(&caller, false).await;
        let _ = slurm.metadata(&caller, &id).await;
        let mut lists = std::mem::take(&mut *silent.0.lock().unwrap());
        // One script.
        lists.retain(|(line, _)| !line.contains("write batch_script"));
        assert!(lists.len() > 5, "{lists:?}");
        for (line, limits) in lists {
            let expected = LIMITS.for_a_list();
            assert_eq!(limits.output_bytes, expected.output_bytes, "{line}");
            assert_eq!(limits.timeout, LIMITS.timeout, "{line}");
        }
        let _ = slurm.submit(&caller, JobDescription::default()).await;
        let _ = slurm.cancel(&caller, &id).await;
        let _ = slurm.attach(&caller, &id, "yes").await;
        let _ = slurm.ping(&caller, minute).await;
        let others = std::mem::take(&mut *silent.0.lock().unwrap());
        for (line, limits) in &others {
            assert_eq!(limits.output_bytes, LIMITS.output_bytes, "{line}");
        }
        let (line, limits) = others.last().unwrap();
        assert_eq!((line.as_str(), limits.timeout), ("scontrol ping", minute));
    }

    #[test]
    fn long_answers_keep_nobody_waiting() {
        let read_at_once = |bytes| {
            let executor = Arc::new(Silent(Mutex::default(), bytes));
            let limits = LIMITS.for_a_list();
            let slurm = SlurmCli::new(executor, limits, "24.11");
            let caller = Caller::for_tests("bob");
            let jobs = at_once(slurm.jobs(&caller, JobFilter::default()));
            (jobs.1, at_once(slurm.partitions(&caller, false)).1)
        };
        let long = ANSWER_READ_AT_ONCE_MAX_BYTES;
        assert_eq!(read_at_once(long / 2), (true, true));
        // Two answers make the list of jobs.
        assert_eq!(read_at_once(long / 2 + 1), (false, true));
        assert_eq!(read_at_once(long + 1), (false, false));
    }

    #[test]
    fn versions() {
        for (version, new) in [
            ("22.05", false),
            ("23.11.10", false),
            ("24.05.0", true),
            ("24.11", true),
            ("25.05rc1", true),
            ("24.05rc1", true),
            ("v24.11.0", true),
            ("v23.11", false),
            ("25", true),
            ("", false),
        ] {
            assert_eq!(is_at_least(version, (24, 5)), new, "{version}");
        }
    }
}
