//! The `local` scheduler: jobs are child processes of this service, each in its own session and
//! process group, running as its user.
//!
//! `table` decides (pure, time as argument), `process` moves. Every job has one task in the
//! tracker; it owns the child and is the only one that signals or reaps it. Jobs end when the
//! service stops. Descendants that leave the session (setsid) are not followed.

mod file_name;
mod process;
mod table;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batch::Batch;
use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError, Script};
use crate::auth::Caller;
use crate::command::ShellLine;
use crate::executor::{Accounts, BoxFuture, ExecError, Executor, LocalExecutor, RunLimits};
use crate::limits;
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{
    NodeModel, NodeState, PartitionModel, PartitionState, ReservationModel,
};
use process::Launch;
use table::{JobRecord, JobTable, PARTITION};

/// Bounds of a local system.
#[derive(Debug, Clone)]
pub struct LocalLimits {
    /// Longest time a job may run, and what it gets unless it asks for less.
    pub wall_time: Duration,
    /// Jobs running at once.
    pub max_running: usize,
    /// Ended jobs remembered.
    pub max_history: usize,
    /// Time between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
}

/// Runs jobs as child processes on this machine.
#[derive(Debug)]
pub struct LocalScheduler {
    system: String,
    limits: LocalLimits,
    accounts: Arc<Accounts>,
    executor: LocalExecutor,
    spool: TempDir,
    table: Arc<Mutex<JobTable>>,
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl LocalScheduler {
    /// A scheduler for the system of this name.
    ///
    /// # Errors
    /// When its spool directory cannot be made.
    pub fn new(
        system: &str,
        limits: LocalLimits,
        accounts: Arc<Accounts>,
    ) -> std::io::Result<Self> {
        let spool = tempfile::Builder::new()
            .prefix("firecrest-spool-")
            .tempdir()?;
        // Users reach their own script by name, and cannot list anybody's.
        process::set_mode(spool.path(), 0o711)?;
        // Ids of the last run must not name other people's jobs now.
        let table = JobTable::new(unix_now(), limits.max_history);
        Ok(Self {
            system: system.to_owned(),
            executor: LocalExecutor::new(Arc::clone(&accounts)),
            accounts,
            spool,
            table: Arc::new(Mutex::new(table)),
            slots: Arc::new(Semaphore::new(limits.max_running)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            limits,
        })
    }

    fn table(&self) -> MutexGuard<'_, JobTable> {
        lock(&self.table)
    }

    async fn script_text(&self, caller: &Caller, script: Script) -> Result<String, SchedulerError> {
        match script {
            Script::Text(text) if text.len() > limits::JOB_SCRIPT_MAX_BYTES => {
                Err(rejected("the script is too long"))
            }
            Script::Text(text) => Ok(text),
            Script::Path(path) => self.read_script(caller, &path).await,
        }
    }

    /// As sbatch: the script is copied at submission, read as the caller.
    async fn read_script(&self, caller: &Caller, path: &str) -> Result<String, SchedulerError> {
        let limits = RunLimits {
            timeout: Duration::from_secs(5),
            output_bytes: limits::JOB_SCRIPT_MAX_BYTES,
        };
        let line = ShellLine::new("cat").args(["--", path]);
        let output = self.executor.run(caller, &line, limits).await?;
        if output.exit_code != Some(0) {
            return Err(rejected(format!("unable to open file {path}")));
        }
        String::from_utf8(output.stdout).map_err(|_| rejected("the script is not UTF-8"))
    }

    async fn submit_job(
        &self,
        caller: &Caller,
        mut job: JobDescription,
    ) -> Result<JobId, SchedulerError> {
        let run_as = self
            .accounts
            .resolve(caller.name())
            .await
            .map_err(ExecError::from)?;
        let script = self
            .script_text(caller, std::mem::take(&mut job.script))
            .await?;
        let mut batch = Batch::parse(&script).map_err(|error| rejected(error.to_string()))?;
        batch.add_to(&mut job);
        job.name.get_or_insert_with(|| "batch".to_owned());
        process::check(&job).map_err(rejected)?;
        let wall_time = batch
            .time_limit
            .map_or(self.limits.wall_time, |t| t.min(self.limits.wall_time));
        if self.stop.is_cancelled() {
            return Err(SchedulerError::Stopping);
        }
        let script: Arc<str> = script.into();
        let account = run_as.account();
        let record = JobRecord::new(&job, Arc::clone(&script), caller.name(), account, wall_time);
        let cancel = self.stop.child_token();
        let id = self
            .table()
            .insert(record, cancel.clone(), limits::LOCAL_PENDING_JOBS_MAX)
            .ok_or(SchedulerError::QueueFull {
                max: limits::LOCAL_PENDING_JOBS_MAX,
            })?;
        let launch = Launch {
            id,
            job,
            script,
            interpreter: batch.interpreter,
            run_as,
        };
        self.tasks.spawn(self.supervise(launch, cancel, wall_time));
        // Local invariant: numbers are alphanumeric.
        JobId::parse(&id.to_string()).ok_or(SchedulerError::NotFound)
    }

    /// The life of one job, from waiting for a slot to its end. Owns everything it needs.
    fn supervise(
        &self,
        launch: Launch,
        cancel: CancellationToken,
        wall_time: Duration,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (table, slots) = (Arc::clone(&self.table), Arc::clone(&self.slots));
        let (grace, spool) = (self.limits.kill_grace, self.spool.path().to_owned());
        async move {
            let id = launch.id;
            // Acquiring is first come, first served; dropping it gives the place up.
            let slot = tokio::select! {
                slot = slots.acquire_owned() => slot.ok(),
                () = cancel.cancelled() => None,
            };
            if slot.is_none() {
                lock(&table).on_ended(id, table::End::Cancelled, unix_now());
                return;
            }
            let end = match process::start(&launch, &spool).await {
                Ok(running) => {
                    lock(&table).on_started(id, unix_now());
                    running.finish(&cancel, wall_time, grace).await
                }
                Err(error) => {
                    tracing::warn!(job = id, %error, "a job could not be started");
                    table::End::NotStarted("JobLaunchFailure")
                }
            };
            lock(&table).on_ended(id, end, unix_now());
            tracing::info!(job = id, ?end, "job ended");
        }
    }
}

impl Scheduler for LocalScheduler {
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        Box::pin(self.submit_job(caller, job))
    }

    fn job<'a>(
        &'a self,
        _: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        Box::pin(async move {
            let table = self.table();
            let record = table.find(id).ok_or(SchedulerError::NotFound)?;
            Ok(vec![record.view(&self.system, unix_now())])
        })
    }

    fn jobs<'a>(
        &'a self,
        caller: &'a Caller,
        filter: JobFilter,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        Box::pin(async move {
            let now = unix_now();
            let table = self.table();
            let fits = table
                .iter()
                .filter(|record| record.fits(&filter, caller.name(), now));
            Ok(fits.map(|record| record.view(&self.system, now)).collect())
        })
    }

    fn cancel<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        Box::pin(async move {
            let table = self.table();
            let record = table.find(id).ok_or(SchedulerError::NotFound)?;
            let id = || id.as_str().to_owned();
            if record.user() != caller.name() {
                return Err(SchedulerError::NotOwner { id: id() });
            }
            if record.has_ended() {
                return Err(SchedulerError::AlreadyEnded { id: id() });
            }
            record.cancel();
            Ok(())
        })
    }

    fn metadata<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        Box::pin(async move {
            let table = self.table();
            let record = table.find(id).ok_or(SchedulerError::NotFound)?;
            Ok(vec![record.metadata(caller.name())])
        })
    }

    fn nodes<'a>(&'a self, _: &'a Caller) -> BoxFuture<'a, Result<Vec<NodeModel>, SchedulerError>> {
        Box::pin(async move {
            let free = self.slots.available_permits();
            Ok(vec![this_machine(free, self.limits.max_running)])
        })
    }

    fn partitions<'a>(
        &'a self,
        _: &'a Caller,
        _: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        Box::pin(async move {
            Ok(vec![PartitionModel {
                name: PARTITION.to_owned(),
                cpus: Some(cpus()),
                total_nodes: Some(1),
                partition: PartitionState::Word("UP".to_owned()),
            }])
        })
    }

    fn reservations<'a>(
        &'a self,
        _: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn ping<'a>(
        &'a self,
        _: &'a Caller,
        _: Duration,
    ) -> BoxFuture<'a, Result<Vec<Ping>, SchedulerError>> {
        Box::pin(async move {
            let pinged = if self.stop.is_cancelled() {
                "DOWN"
            } else {
                "UP"
            };
            Ok(vec![Ping {
                mode: Some("primary".to_owned()),
                hostname: hostname(),
                pinged: pinged.to_owned(),
            }])
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        })
    }
}

impl Drop for LocalScheduler {
    /// Without `shutdown` too, every job is told to end.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock(table: &Mutex<JobTable>) -> MutexGuard<'_, JobTable> {
    // The table has no broken in-between states; a panic elsewhere does not spoil it.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This machine as the only node; `free` of `slots` jobs could start on it now.
fn this_machine(free: usize, slots: usize) -> NodeModel {
    let state = match free {
        0 => NodeState::Allocated,
        free if free < slots => NodeState::Mixed,
        _ => NodeState::Idle,
    };
    let hostname = hostname();
    NodeModel {
        cpus: cpus(),
        name: hostname.clone().unwrap_or_else(|| "localhost".to_owned()),
        hostname,
        state: vec![state],
        partitions: Some(vec![PARTITION.to_owned()]),
        ..NodeModel::default()
    }
}

fn cpus() -> u32 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(u32::MAX)
}

fn hostname() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned)
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn rejected(reason: impl AsRef<str>) -> SchedulerError {
    SchedulerError::Rejected {
        reason: reason.as_ref().to_owned(),
    }
}
