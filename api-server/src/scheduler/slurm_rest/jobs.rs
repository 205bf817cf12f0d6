//! Jobs as slurmdbd and slurmctld tell of them, and what both say together. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::model::jobs::{Job, JobStatus, JobTask, JobTime};
use crate::scheduler::phase::Phase;
use crate::scheduler::value::{Number, Text, Words};

/// Answer of `/slurmdb/…/job/{id}` and `/slurmdb/…/jobs`: the accounting's view, with steps.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DatabaseJobs {
    jobs: Vec<DatabaseJob>,
}

/// Answer of `/slurm/…/job/{id}` and `/slurm/…/jobs`: the controller's view.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ControllerJobs {
    jobs: Vec<ControllerJob>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DatabaseJob {
    job_id: Number,
    name: Text,
    user: Text,
    account: Text,
    allocation_nodes: Number,
    cluster: Text,
    group: Text,
    nodes: Text,
    partition: Text,
    priority: Number,
    kill_request_user: Text,
    working_directory: Text,
    state: DatabaseState,
    exit_code: ExitCode,
    time: DatabaseTime,
    steps: Vec<Step>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DatabaseState {
    current: Words,
    reason: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DatabaseTime {
    elapsed: Number,
    start: Number,
    end: Number,
    suspended: Number,
    limit: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    step: StepName,
    state: Words,
    exit_code: ExitCode,
    time: DatabaseTime,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StepName {
    /// `7.batch`, or before version 0.0.40 `batch` beside the id of the job.
    id: Text,
    job_id: Text,
    name: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ControllerJob {
    job_id: Number,
    name: Text,
    user_name: Text,
    account: Text,
    cluster: Text,
    group_name: Text,
    nodes: Text,
    node_count: Number,
    job_resources: Option<JobResources>,
    partition: Text,
    priority: Number,
    current_working_directory: Text,
    job_state: Words,
    state_reason: Text,
    exit_code: ExitCode,
    start_time: Number,
    end_time: Number,
    time_limit: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobResources {
    /// An object with a count, or before version 0.0.40 the names.
    nodes: Value,
    allocated_hosts: Number,
}

/// How it ended: an object, or of the controller before version 0.0.40 what `wait` said, in
/// version 0.0.39 as `{"set":…,"number":…}`.
#[derive(Debug, Default)]
struct ExitCode {
    code: Option<i32>,
    signal: Option<i32>,
}

impl<'de> Deserialize<'de> for ExitCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts {
            return_code: Number,
            signal: Signal,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Signal {
            id: Number,
            signal_id: Number,
        }
        let small = |number: Number| number.whole().and_then(|n| i32::try_from(n).ok());
        let value = Value::deserialize(deserializer)?;
        let waited = value.is_number() || value.get("number").is_some();
        if waited {
            let status = small(serde_json::from_value(value).unwrap_or_default());
            return Ok(status.map_or_else(Self::default, |status| Self {
                code: Some(status >> 8),
                signal: Some(status & 0x7f),
            }));
        }
        let parts: Parts = serde_json::from_value(value).unwrap_or_default();
        let signal = small(parts.signal.id).or_else(|| small(parts.signal.signal_id));
        Ok(Self {
            code: small(parts.return_code),
            signal: Some(signal.unwrap_or(0)),
        })
    }
}

/// Both views of the same jobs in order of their ids: accounting's, but the controller's for
/// jobs that wait, since accounting learns of changes to those late, and for those that
/// accounting does not know yet. Of a short job accounting knows only some at first, and
/// calls it [`PLACEHOLDER`]: then the controller tells all but its steps. Accounting by REST of
/// 22.05 gives 0 for every exit status; the controller knows it for as long as it knows the job.
pub(super) fn union(database: DatabaseJobs, controller: ControllerJobs) -> Vec<Job> {
    let mut jobs = BTreeMap::new();
    for job in database.jobs.into_iter().filter_map(DatabaseJob::view) {
        jobs.insert(number_of(&job), job);
    }
    for job in controller.jobs.into_iter().filter_map(ControllerJob::view) {
        let id = number_of(&job);
        match jobs.get_mut(&id) {
            Some(known) if known.name == PLACEHOLDER => {
                let (tasks, elapsed) = (known.tasks.take(), known.time.elapsed);
                *known = job;
                (known.tasks, known.time.elapsed) = (tasks, elapsed);
            }
            Some(known) if Phase::of_slurm(&job.status.state) == Phase::Queued => *known = job,
            Some(known) if known.status.exit_code.is_none() => {
                known.status.exit_code = job.status.exit_code;
            }
            Some(_) => {}
            None => {
                jobs.insert(id, job);
            }
        }
    }
    jobs.into_values().collect()
}

/// Name of jobs in the accounting of which only the end was told so far.
const PLACEHOLDER: &str = "allocation";

fn number_of(job: &Job) -> u64 {
    job.job_id.parse().unwrap_or(0)
}

fn status(state: Words, reason: Text, exit: ExitCode) -> JobStatus {
    let state = state.first();
    // A job that failed did not end with 0: then the status was not told.
    let told = state != "FAILED" || exit.signal.is_some_and(|signal| signal > 0);
    JobStatus {
        state,
        state_reason: reason.0,
        exit_code: exit.code.filter(|code| told || *code != 0),
        interrupt_signal: exit.signal,
    }
}

/// Limits are minutes there, seconds here.
fn limit(minutes: Number) -> Option<u64> {
    minutes.whole().map(|minutes| minutes.saturating_mul(60))
}

impl DatabaseTime {
    fn view(self) -> JobTime {
        JobTime {
            elapsed: self.elapsed.whole(),
            start: self.start.moment(),
            end: self.end.moment(),
            suspended: self.suspended.whole(),
            limit: limit(self.limit),
        }
    }
}

impl StepName {
    fn full_id(&self) -> String {
        match (&self.id.0, &self.job_id.0) {
            (Some(id), Some(job)) if !id.contains('.') => format!("{job}.{id}"),
            (Some(id), _) => id.clone(),
            (None, _) => String::new(),
        }
    }
}

impl Step {
    fn view(self) -> JobTask {
        JobTask {
            id: self.step.full_id(),
            name: self.step.name.or_empty(),
            status: status(self.state, Text::default(), self.exit_code),
            time: self.time.view(),
        }
    }
}

impl DatabaseJob {
    fn view(self) -> Option<Job> {
        Some(Job {
            job_id: self.job_id.whole()?.to_string(),
            name: self.name.or_empty(),
            status: status(self.state.current, self.state.reason, self.exit_code),
            tasks: Some(self.steps.into_iter().map(Step::view).collect()),
            time: self.time.view(),
            account: self.account.0,
            allocation_nodes: self.allocation_nodes.small().unwrap_or(0),
            cluster: self.cluster.or_empty(),
            group: self.group.0,
            nodes: self.nodes.or_empty(),
            partition: self.partition.or_empty(),
            kill_request_user: self.kill_request_user.0,
            user: self.user.or_empty(),
            working_directory: self.working_directory.or_empty(),
            priority: self.priority.whole(),
        })
    }
}

impl ControllerJob {
    fn view(self) -> Option<Job> {
        let count = self.node_count.small();
        let runs = self
            .job_state
            .0
            .first()
            .is_some_and(|state| Phase::of_slurm(state) == Phase::Running);
        let count = self.job_resources.and_then(JobResources::count).or(count);
        Some(Job {
            job_id: self.job_id.whole()?.to_string(),
            name: self.name.or_empty(),
            status: status(self.job_state, self.state_reason, self.exit_code),
            tasks: None,
            time: JobTime {
                elapsed: None,
                start: self.start_time.moment(),
                // Of one that runs, when its limit will be reached.
                end: self.end_time.moment().filter(|_| !runs),
                suspended: None,
                limit: limit(self.time_limit),
            },
            account: self.account.0,
            allocation_nodes: count.unwrap_or(0),
            cluster: self.cluster.or_empty(),
            group: self.group_name.0,
            nodes: self.nodes.or_empty(),
            partition: self.partition.or_empty(),
            kill_request_user: None,
            user: self.user_name.or_empty(),
            working_directory: self.current_working_directory.or_empty(),
            priority: self.priority.whole(),
        })
    }
}

impl JobResources {
    fn count(self) -> Option<u32> {
        let counted = self.nodes.get("count").and_then(Value::as_u64);
        let counted = counted.and_then(|count| u32::try_from(count).ok());
        counted.or_else(|| self.allocated_hosts.small())
    }
}
