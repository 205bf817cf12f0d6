//! OpenPBS and PBS Professional by their command line. `jobs`, `nodes`, `json` and `text` read
//! what it prints, and are pure.
//!
//! Times are asked for in UTC: the clients of PBS print them in the time zone they run in.

mod jobs;
mod json;
mod nodes;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;

use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError, Script, answer};
use crate::auth::Caller;
use crate::command::{HIDDEN, ShellLine};
use crate::executor::{BoxFuture, ExecError, Executor, Output, RunLimits};
use crate::limits;
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{NodeModel, PartitionModel, ReservationModel};
use jobs::Jobs;
use nodes::{Nodes, Queues, Servers};

/// Drives one PBS through the commands on a login node.
#[derive(Debug)]
pub struct PbsCommandLine {
    executor: Arc<dyn Executor>,
    limits: RunLimits,
}

impl PbsCommandLine {
    /// Runs the commands with this executor, each within these limits.
    pub fn new(executor: Arc<dyn Executor>, limits: RunLimits) -> Self {
        Self { executor, limits }
    }

    /// What the program printed, if it succeeded. `job` is the one it was asked about.
    async fn run(
        &self,
        caller: &Caller,
        program: &str,
        job: Option<&JobId>,
        line: ShellLine,
        input: &[u8],
    ) -> Result<String, SchedulerError> {
        let output = self
            .executor
            .run_with_input(caller, &line, input, self.limits)
            .await?;
        if output.exit_code == Some(0) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(failure(program, job, &output))
    }

    async fn ask<T: DeserializeOwned + 'static, V: Send + 'static>(
        &self,
        caller: &Caller,
        (program, arguments): (&str, &[&str]),
        limits: RunLimits,
        view: fn(T) -> V,
    ) -> Result<V, SchedulerError> {
        let line = in_utc(program).args(arguments);
        let output = self.executor.run(caller, &line, limits).await?;
        answer(program, output, view).await
    }

    /// What a program says of jobs that wait, run and ended, and the options by which it does. A
    /// server that keeps no history refuses to tell of those that ended, and its programs exit with
    /// 0; it is asked again for the others.
    async fn with_history(
        &self,
        caller: &Caller,
        limits: RunLimits,
        line: impl Fn(History) -> ShellLine,
    ) -> Result<(Output, History), SchedulerError> {
        let executor = &self.executor;
        let (all, others): (History, History) = (&["-x"], &[]);
        let output = executor.run(caller, &line(all), limits).await?;
        if !keeps_no_history(&output) {
            return Ok((output, all));
        }
        let output = executor.run(caller, &line(others), limits).await?;
        Ok((output, others))
    }

    /// This job, or all.
    async fn query<V: Send + 'static>(
        &self,
        caller: &Caller,
        id: Option<&str>,
        view: fn(Jobs) -> V,
    ) -> Result<V, SchedulerError> {
        let line = |history| qstat(history).args(id);
        let limits = match id {
            Some(_) => self.limits,
            None => self.limits.for_a_list(),
        };
        let (output, _) = self.with_history(caller, limits, line).await?;
        answer("qstat", output, view).await
    }

    /// The jobs of the caller. All of everybody's are too many to be looked through for those.
    async fn own(&self, caller: &Caller) -> Result<Vec<Job>, SchedulerError> {
        let time = self.limits.timeout * limits::LIST_COMMAND_TIMES;
        let jobs = tokio::time::timeout(time, self.selected(caller)).await;
        jobs.unwrap_or_else(|_| Err(ExecError::Timeout.into()))
    }

    /// Those that `qselect` names. All answers together may be as long as one list.
    async fn selected(&self, caller: &Caller) -> Result<Vec<Job>, SchedulerError> {
        let user = caller.name().as_str();
        let line = |history| ShellLine::new("qselect").args(history).args(["-u", user]);
        let mut limits = self.limits.for_a_list();
        let (output, history) = self.with_history(caller, limits, line).await?;
        if output.exit_code != Some(0) {
            return Err(failure("qselect", None, &output));
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        limits.output_bytes = limits.output_bytes.saturating_sub(printed.len());
        let names = selected(&printed);
        let ids: Vec<_> = names
            .iter()
            .map(|name| jobs::before_the_server(name))
            .collect();
        let mut found = self.named(caller, history, &ids, &mut limits).await?;
        // Perhaps the server that `qstat` asks is not the one that `qselect` asked.
        if found.is_none() && !names.is_empty() {
            found = self.named(caller, history, &names, &mut limits).await?;
        }
        let mut jobs = found.unwrap_or_default();
        jobs::in_order(&mut jobs);
        Ok(jobs)
    }

    /// These jobs; `None` if PBS knows none of them.
    async fn named(
        &self,
        caller: &Caller,
        history: History,
        names: &[&str],
        limits: &mut RunLimits,
    ) -> Result<Option<Vec<Job>>, SchedulerError> {
        let mut jobs = None;
        for some in names.chunks(JOBS_AT_ONCE) {
            // By `-E` they are one question to the server.
            let line = qstat(history).arg("-E").args(some);
            let output = self.executor.run(caller, &line, *limits).await?;
            limits.output_bytes = limits.output_bytes.saturating_sub(output.stdout.len());
            match answer("qstat", output, Jobs::view).await {
                Ok(more) => jobs.get_or_insert_with(Vec::new).extend(more),
                // All of them have gone meanwhile. Of some it says nothing.
                Err(SchedulerError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(jobs)
    }

    async fn find<V: Send + 'static>(
        &self,
        caller: &Caller,
        id: &JobId,
        view: fn(Jobs) -> V,
    ) -> Result<V, SchedulerError> {
        match self.query(caller, Some(known(id)?), view).await {
            Err(SchedulerError::NotFound) => self.query(caller, Some(&array(id)), view).await,
            found => found,
        }
    }
}

/// What a server says that `qmgr -c "set server job_history_enable=True"` was not told.
const NO_HISTORY: &str = "not configured to maintain job history";

/// Most jobs that one call asks for by their ids.
const JOBS_AT_ONCE: usize = 500;

/// Options of `qstat` and `qselect` by which jobs that ended are among the others.
type History = &'static [&'static str];

fn keeps_no_history(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains(NO_HISTORY)
}

fn qstat(history: History) -> ShellLine {
    in_utc("qstat").args(["-F", "json", "-f"]).args(history)
}

/// Jobs that `qselect` printed, one a line. They are asked for by what is before the name of the
/// server: `qstat -E` takes that for another's unless it is the one that the configuration of PBS has.
fn selected(printed: &str) -> Vec<&str> {
    let is_id = |id: &str| {
        id.starts_with(|c: char| c.is_ascii_digit())
            && id.chars().all(|c| c.is_ascii_digit() || "[]".contains(c))
    };
    let names = printed.lines().map(str::trim);
    names
        .filter(|name| is_id(jobs::before_the_server(name)))
        .collect()
}

fn in_utc(program: &str) -> ShellLine {
    ShellLine::new("env").arg("TZ=UTC0").arg(program)
}

/// What a program printed, if it succeeded.
async fn answer<T: DeserializeOwned + 'static, V: Send + 'static>(
    program: &str,
    output: Output,
    view: fn(T) -> V,
) -> Result<V, SchedulerError> {
    if output.exit_code != Some(0) {
        return Err(failure(program, None, &output));
    }
    let printed = output.stdout;
    let read = answer::read(printed.len(), move || {
        json::read(&String::from_utf8_lossy(&printed)).map(view)
    });
    read.await.ok_or_else(|| SchedulerError::Failed {
        message: format!("Unexpected output of {program}"),
        causes: Vec::new(),
    })
}

/// An id as PBS numbers jobs: 12 digits at most (`max_job_sequence_id`).
fn known(id: &JobId) -> Result<&str, SchedulerError> {
    let text = id.as_str();
    let number = text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    number.then_some(text).ok_or(SchedulerError::NotFound)
}

/// How PBS knows a job that its script made an array (`#PBS -J`). `qsub` prints that too, but
/// ids are letters and digits here.
fn array(id: &JobId) -> String {
    format!("{}[]", id.as_str())
}

/// A run that did not exit with 0, sorted by its words. They and the numbers are of OpenPBS.
fn failure(program: &str, job: Option<&JobId>, output: &Output) -> SchedulerError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let id = || job.map_or_else(String::new, |id| id.as_str().to_owned());
    let says = |words: &[&str]| words.iter().any(|words| stderr.contains(words));
    if says(&["Unknown Job Id"]) {
        return SchedulerError::NotFound;
    }
    // The second while it ends.
    if program == "qdel" && says(&["Job has finished", "Request invalid for state of job"]) {
        return SchedulerError::AlreadyEnded { id: id() };
    }
    if program == "qdel" && says(&["Unauthorized Request"]) {
        return SchedulerError::NotOwner { id: id() };
    }
    let code = output
        .exit_code
        .map_or_else(|| "None".to_owned(), |code| code.to_string());
    let stderr = output.complaint();
    let stderr = stderr.trim();
    SchedulerError::Failed {
        message: format!("Unexpected PBS {program} response. exit_status:{code} std_err:{stderr}"),
        causes: Vec::new(),
    }
}

/// How variables begin that qsub reads itself.
const OWN_VARIABLES: &[&str] = &["LD_", "PBS_"];

/// What qsub needs to know of the login: who and where it is, and which PBS it is to speak to.
const KEPT_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "MAIL",
    "TZ",
    "PWD",
    "KRB5CCNAME",
    "PBS_CONF_FILE",
    "PBS_DEFAULT",
    "PBS_SERVER",
    "PBS_PRIMARY",
    "PBS_SECONDARY",
    "PBS_BATCH_SERVICE_PORT",
    "PBS_EXEC",
    "PBS_HOME",
    "PBS_TMPDIR",
    "PBS_LEAF_NAME",
    "PBS_LEAF_ROUTERS",
    "PBS_AUTH_METHOD",
    "PBS_ENCRYPT_METHOD",
];

/// `qsub` with the variables of a job. Without any the job has those of the login (`-V`). What `-v`
/// cannot list comes by `-V` too, which quotes it: of the login it has then only what qsub needs,
/// and nothing twice, since the last counts.
fn qsub(job: &JobDescription) -> ShellLine {
    let (listed, inherited) = job.listed_and_inherited();
    let exports = listed.is_empty();
    let mut line = match inherited.is_empty() {
        true => ShellLine::for_a_job().arg("qsub"),
        false => {
            let given = |name: &str| job.environment.contains_key(name);
            let kept = KEPT_VARIABLES.iter().copied().filter(|name| !given(name));
            let line = ShellLine::with_only(kept);
            let set = |line: ShellLine, (name, value): &(&str, &str)| {
                line.arg_shown_as(&format!("{name}={value}"), &format!("{name}={HIDDEN}"))
            };
            inherited.iter().fold(line, set).found("qsub")
        }
    };
    if exports || !inherited.is_empty() {
        line = line.arg("-V");
    }
    if !listed.is_empty() {
        let list = |of: &dyn Fn(&(&str, &str)) -> String| -> String {
            listed.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let all = list(&|(name, value)| format!("{name}={value}"));
        let shown = list(&|(name, _)| format!("{name}={HIDDEN}"));
        line = line.arg("-v").arg_shown_as(&all, &shown);
    }
    line
}

/// The line that submits, and what goes to its standard input.
fn submission(job: &JobDescription) -> Result<(ShellLine, String), SchedulerError> {
    let rejected = |reason: &str| {
        let reason = reason.to_owned();
        Err(SchedulerError::Rejected { reason })
    };
    if job
        .standard_input
        .as_deref()
        .is_some_and(|file| file != "/dev/null")
    {
        return rejected("PBS gives jobs no standard input");
    }
    if job.constraints.is_some() {
        return rejected("constraints are not known to PBS; use #PBS -l in the script");
    }
    job.check_inherited("qsub", OWN_VARIABLES)?;
    let mut line = qsub(job);
    let options = [
        ("-N", &job.name),
        (
            "-q",
            if job.reservation.is_some() {
                &job.reservation
            } else {
                &job.partition
            },
        ),
        ("-P", &job.account),
        ("-e", &job.standard_error),
        ("-o", &job.standard_output),
    ];
    for (option, value) in options {
        if let Some(value) = value {
            line = line.arg(option).arg(value);
        }
    }
    let script = match &job.script {
        Script::Text(text) => text.clone(),
        Script::Path(path) => {
            // Nothing that begins like an option.
            let name = if path.starts_with('/') { "" } else { "./" };
            line = line.arg(format!("{name}{path}"));
            String::new()
        }
    };
    let place = ShellLine::new("cd").arg("--").arg(&job.working_directory);
    Ok((place.and(&line), script))
}

/// The number of `7.pbs` or `7[].pbs`, which is the last that was printed: before it may stand what
/// a login shell printed, perhaps on the same line.
fn submitted(printed: &str) -> Option<JobId> {
    let mut words = printed.rsplit(|c: char| c.is_whitespace() || c.is_control());
    let name = words.find(|word| !word.is_empty())?;
    let mut digits = name.split(|c: char| !c.is_ascii_digit());
    JobId::parse(digits.find(|digits| !digits.is_empty())?)
}

impl Scheduler for PbsCommandLine {
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        Box::pin(async move {
            let (line, script) = submission(&job)?;
            let printed = self
                .run(caller, "qsub", None, line, script.as_bytes())
                .await?;
            submitted(&printed).ok_or_else(|| SchedulerError::Failed {
                message: "Unable to submit new job".to_owned(),
                causes: vec![printed.trim().to_owned()],
            })
        })
    }

    fn job<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        Box::pin(async move {
            match self.find(caller, id, Jobs::view).await? {
                jobs if jobs.is_empty() => Err(SchedulerError::NotFound),
                jobs => Ok(jobs),
            }
        })
    }

    fn jobs<'a>(
        &'a self,
        caller: &'a Caller,
        filter: JobFilter,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        Box::pin(async move {
            let mut jobs = match filter.all_users {
                true => self.query(caller, None, Jobs::view).await?,
                false => self.own(caller).await?,
            };
            jobs.retain(|job| {
                (filter.all_users || job.user == caller.name().as_str())
                    && filter.name.as_ref().is_none_or(|name| job.name == *name)
                    && (filter.account.is_none() || job.account == filter.account)
            });
            Ok(jobs)
        })
    }

    /// Who asks the same at the same time does not share an answer.
    fn pause(&self) -> Duration {
        Duration::from_millis(250)
    }

    fn cancel<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        Box::pin(async move {
            let delete = |name: &str| {
                let line = ShellLine::new("qdel").arg(name);
                self.run(caller, "qdel", Some(id), line, &[])
            };
            let done = match delete(known(id)?).await {
                Err(SchedulerError::NotFound) => delete(&array(id)).await,
                done => done,
            };
            done.map(|_| ())
        })
    }

    fn metadata<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        Box::pin(async move {
            match self.find(caller, id, Jobs::metadata).await? {
                jobs if jobs.is_empty() => Err(SchedulerError::NotFound),
                jobs => Ok(jobs),
            }
        })
    }

    fn nodes<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<NodeModel>, SchedulerError>> {
        Box::pin(async move {
            let limits = self.limits.for_a_list();
            let program = ("pbsnodes", &["-a", "-F", "json"][..]);
            self.ask(caller, program, limits, Nodes::view).await
        })
    }

    fn partitions<'a>(
        &'a self,
        caller: &'a Caller,
        _: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        Box::pin(async move {
            let limits = self.limits.for_a_list();
            let program = ("qstat", &["-F", "json", "-f", "-Q"][..]);
            self.ask(caller, program, limits, Queues::view).await
        })
    }

    fn reservations<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        Box::pin(async move {
            let line = in_utc("pbs_rstat").arg("-Sf");
            let text = self.run(caller, "pbs_rstat", None, line, &[]).await?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(nodes::reservations(&text, now.as_secs()))
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
            let program = ("qstat", &["-F", "json", "-f", "-B"][..]);
            self.ask(caller, program, limits, Servers::view).await
        })
    }
}
