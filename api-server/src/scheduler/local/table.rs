//! What is known about each job. Pure: unix seconds are arguments.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::file_name::Names;
use super::process::Streams;
use crate::auth::UserName;
use crate::executor::Account;
use crate::limits;
use crate::model::jobs::{Job, JobMetadataModel, JobStatus, JobTime};
use crate::scheduler::{JobDescription, JobFilter, JobId};

/// The only partition.
pub(super) const PARTITION: &str = "local";

/// All jobs that wait or run, and the last ones that ended.
#[derive(Debug)]
pub(super) struct JobTable {
    next: u64,
    max_history: usize,
    jobs: BTreeMap<u64, JobRecord>,
}

/// One job.
#[derive(Debug)]
pub(super) struct JobRecord {
    id: u64,
    name: String,
    user: UserName,
    /// Whom it runs as.
    account: String,
    group_id: u32,
    charged: Option<String>,
    working_directory: String,
    streams: Streams,
    /// Gone where ended jobs have too much of them together.
    script: Option<Arc<str>>,
    wall_time: Duration,
    state: State,
    cancel: CancellationToken,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// It never began, for this reason.
    NotStarted(&'static str),
    /// At its user's wish, or because the service stopped.
    Cancelled,
    /// It ran longer than its wall time.
    TimedOut,
}

/// ```text
/// Pending ──on_started──► Running ──on_ended──► Ended
///    └───────────────on_ended (cancelled)────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Running {
        since: u64,
    },
    Ended {
        started: Option<u64>,
        at: u64,
        end: End,
    },
}

impl JobTable {
    /// Numbers jobs from `first` on.
    pub(super) fn new(first: u64, max_history: usize) -> Self {
        Self {
            next: first,
            max_history,
            jobs: BTreeMap::new(),
        }
    }

    /// Takes a job in and numbers it; `None` when too many wait already.
    pub(super) fn insert(
        &mut self,
        mut record: JobRecord,
        cancel: CancellationToken,
        max_pending: usize,
    ) -> Option<u64> {
        let pending = self
            .jobs
            .values()
            .filter(|job| job.state == State::Pending)
            .count();
        if pending >= max_pending {
            return None;
        }
        let id = self.next;
        self.next += 1;
        (record.id, record.cancel) = (id, cancel);
        self.jobs.insert(id, record);
        Some(id)
    }

    pub(super) fn on_started(&mut self, id: u64, now: u64) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.state = State::Running { since: now };
        }
    }

    pub(super) fn on_ended(&mut self, id: u64, end: End, now: u64) {
        if let Some(job) = self.jobs.get_mut(&id) {
            let started = match job.state {
                State::Running { since } => Some(since),
                _ => None,
            };
            job.state = State::Ended {
                started,
                at: now,
                end,
            };
        }
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        let ended = self.jobs.values().filter_map(|job| match job.state {
            State::Ended { at, .. } => Some((at, job.id)),
            _ => None,
        });
        let mut ended: Vec<(u64, u64)> = ended.collect();
        // Jobs do not end in the order in which they came.
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(self.max_history);
        for (_, id) in &ended[..surplus] {
            self.jobs.remove(id);
        }
        let mut kept = 0;
        for (_, id) in ended[surplus..].iter().rev() {
            let Some(job) = self.jobs.get_mut(id) else {
                continue;
            };
            kept += job.script.as_ref().map_or(0, |script| script.len());
            if kept > limits::LOCAL_SCRIPTS_MAX_BYTES {
                job.script = None;
            }
        }
    }

    pub(super) fn find(&self, id: &JobId) -> Option<&JobRecord> {
        self.jobs.get(&id.as_str().parse().ok()?)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.values()
    }
}

impl JobRecord {
    pub(super) fn new(
        job: &JobDescription,
        script: Arc<str>,
        user: &UserName,
        account: &Account,
        wall_time: Duration,
    ) -> Self {
        Self {
            id: 0,
            name: job.name.clone().unwrap_or_default(),
            user: user.clone(),
            account: account.name.clone(),
            group_id: account.gid,
            charged: job.account.clone(),
            working_directory: job.working_directory.clone(),
            streams: Streams::of(job),
            script: Some(script),
            wall_time,
            state: State::Pending,
            cancel: CancellationToken::new(),
        }
    }

    pub(super) fn user(&self) -> &UserName {
        &self.user
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(super) fn fits(&self, filter: &JobFilter, caller: &UserName, now: u64) -> bool {
        let recent = match self.state {
            State::Ended { at, .. } => now.saturating_sub(at) <= filter.history_seconds,
            _ => true,
        };
        recent
            && (filter.all_users || &self.user == caller)
            && filter.account.as_ref().is_none_or(|wanted| {
                let charged = self.charged.as_ref();
                charged.is_some_and(|charged| charged.eq_ignore_ascii_case(wanted))
            })
            && filter.name.as_ref().is_none_or(|name| *name == self.name)
    }

    /// The job as the API shows it.
    pub(super) fn view(&self, system: &str, now: u64) -> Job {
        let (start, end) = match self.state {
            State::Pending => (None, None),
            State::Running { since } => (Some(since), None),
            State::Ended { started, at, .. } => (started, Some(at)),
        };
        let elapsed = start.map_or(0, |start| end.unwrap_or(now).saturating_sub(start));
        let placed = start.is_some();
        Job {
            job_id: self.id.to_string(),
            name: self.name.clone(),
            status: self.status(),
            tasks: Some(Vec::new()),
            time: JobTime {
                elapsed: Some(elapsed),
                start,
                end,
                suspended: Some(0),
                limit: Some(self.wall_time.as_secs()),
            },
            account: self.charged.clone(),
            allocation_nodes: u32::from(placed),
            cluster: system.to_owned(),
            group: Some(self.group_id.to_string()),
            nodes: if placed { "localhost" } else { "None assigned" }.to_owned(),
            partition: PARTITION.to_owned(),
            kill_request_user: None,
            user: self.user.as_str().to_owned(),
            working_directory: self.working_directory.clone(),
            priority: Some(1),
        }
    }

    /// What it was submitted with; its script for its user only, as `scontrol` has it.
    pub(super) fn metadata(&self, caller: &UserName) -> JobMetadataModel {
        let names = Names {
            id: self.id,
            name: &self.name,
            user: &self.account,
            host: &super::hostname().unwrap_or_default(),
        };
        let Streams {
            input,
            output,
            error,
        } = self.streams.expand(&names);
        let file = |name: &str| match name.starts_with('/') {
            true => name.to_owned(),
            false => format!("{}/{name}", self.working_directory.trim_end_matches('/')),
        };
        let script = self.script.as_ref().filter(|_| &self.user == caller);
        JobMetadataModel {
            job_id: self.id.to_string(),
            script: script.map(|script| script.to_string()),
            standard_input: Some(file(&input)),
            standard_output: Some(file(&output)),
            standard_error: Some(file(error.as_ref().unwrap_or(&output))),
        }
    }

    fn status(&self) -> JobStatus {
        let (state, reason, code, signal) = match self.state {
            State::Pending => ("PENDING", "Resources", None, None),
            State::Running { .. } => ("RUNNING", "None", Some(0), Some(0)),
            State::Ended { end, .. } => match end {
                End::Exited { code: Some(0), .. } => ("COMPLETED", "None", Some(0), Some(0)),
                End::Exited { code, signal } => (
                    "FAILED",
                    "NonZeroExitCode",
                    Some(code.unwrap_or(0)),
                    Some(signal.unwrap_or(0)),
                ),
                End::NotStarted(reason) => ("FAILED", reason, Some(1), Some(0)),
                End::Cancelled => ("CANCELLED", "None", Some(0), Some(15)),
                End::TimedOut => ("TIMEOUT", "TimeLimit", Some(0), Some(15)),
            },
        };
        JobStatus {
            state: state.to_owned(),
            state_reason: Some(reason.to_owned()),
            exit_code: code,
            interrupt_signal: signal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JobRecord {
        let account = Account {
            name: "bob".into(),
            uid: 1,
            gid: 2,
            home: "/".into(),
            shell: "/bin/sh".into(),
        };
        let user = UserName::parse("bob").unwrap();
        let job = JobDescription {
            name: Some("n".into()),
            account: Some("Proj".into()),
            ..JobDescription::default()
        };
        let script = "x".repeat(limits::LOCAL_SCRIPTS_MAX_BYTES / 2).into();
        JobRecord::new(&job, script, &user, &account, Duration::from_secs(60))
    }

    fn insert(table: &mut JobTable) -> u64 {
        table.insert(record(), CancellationToken::new(), 2).unwrap()
    }

    fn state(table: &JobTable, id: u64) -> String {
        table.jobs[&id].view("s", 130).status.state
    }

    #[test]
    fn a_life() {
        let mut table = JobTable::new(7, 10);
        let id = insert(&mut table);
        assert_eq!((id, state(&table, id).as_str()), (7, "PENDING"));
        table.on_started(id, 110);
        let view = table.jobs[&id].view("s", 130);
        assert_eq!(
            (view.status.state.as_str(), view.time.elapsed),
            ("RUNNING", Some(20))
        );
        table.on_ended(
            id,
            End::Exited {
                code: Some(3),
                signal: None,
            },
            140,
        );
        let view = table.jobs[&id].view("s", 999);
        assert_eq!(
            (view.status.state.as_str(), view.status.exit_code),
            ("FAILED", Some(3))
        );
        assert_eq!((view.time.elapsed, view.time.end), (Some(30), Some(140)));
    }

    #[test]
    fn waiting_and_history_are_bounded() {
        let mut table = JobTable::new(1, 1);
        let (a, b) = (insert(&mut table), insert(&mut table));
        assert!(
            table
                .insert(record(), CancellationToken::new(), 2)
                .is_none()
        );
        table.on_ended(b, End::Cancelled, 1);
        assert_eq!(state(&table, b), "CANCELLED");
        table.on_ended(a, End::TimedOut, 2);
        assert!(!table.jobs.contains_key(&b));
        assert_eq!(state(&table, a), "TIMEOUT");
    }

    #[test]
    fn of_many_large_scripts_those_of_the_last_to_end_are_kept() {
        let mut table = JobTable::new(1, 10);
        let ids: Vec<u64> = (0..3)
            .map(|_| {
                let id = insert(&mut table);
                table.on_started(id, 0);
                id
            })
            .collect();
        for (id, at) in ids.iter().rev().zip(1..) {
            table.on_ended(*id, End::Cancelled, at);
        }
        let bob = UserName::parse("bob").unwrap();
        let kept = |id: &u64| table.jobs[id].metadata(&bob).script.is_some();
        assert_eq!(
            ids.iter().map(kept).collect::<Vec<_>>(),
            [true, true, false]
        );
    }

    #[test]
    fn filters() {
        let mut table = JobTable::new(1, 9);
        let id = insert(&mut table);
        let (bob, eve) = (
            UserName::parse("bob").unwrap(),
            UserName::parse("eve").unwrap(),
        );
        let filter = JobFilter {
            history_seconds: 10,
            ..JobFilter::default()
        };
        let fits = |table: &JobTable, f: &JobFilter, u, now| table.jobs[&id].fits(f, u, now);
        assert!(fits(&table, &filter, &bob, 500) && !fits(&table, &filter, &eve, 500));
        assert!(fits(
            &table,
            &JobFilter {
                all_users: true,
                ..filter.clone()
            },
            &eve,
            500
        ));
        for (account, found) in [("pROJ", true), ("other", false)] {
            let filter = JobFilter {
                account: Some(account.into()),
                ..filter.clone()
            };
            assert_eq!(fits(&table, &filter, &bob, 500), found, "{account}");
        }
        assert!(!fits(
            &table,
            &JobFilter {
                name: Some("m".into()),
                ..filter.clone()
            },
            &bob,
            500
        ));
        table.on_ended(id, End::Cancelled, 500);
        assert!(fits(&table, &filter, &bob, 510) && !fits(&table, &filter, &bob, 511));
    }
}
