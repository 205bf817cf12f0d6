//! Jobs as `qstat -F json -f` tells of them. Pure; times are read as UTC, in which they are
//! asked for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::json::Attributes;
use super::text::{clock, moment};
use crate::model::jobs::{Job, JobMetadataModel, JobStatus, JobTime};
use crate::scheduler::value::{Number, Text};

/// What qstat prints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Jobs {
    /// Each read alone: one that cannot be read hides no other.
    #[serde(rename = "Jobs")]
    jobs: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PbsJob {
    /// A number when the name looks like one.
    #[serde(rename = "Job_Name")]
    name: Text,
    #[serde(rename = "Job_Owner")]
    owner: Text,
    job_state: Text,
    comment: Text,
    queue: Text,
    project: Text,
    /// A text in versions of 2025.
    #[serde(rename = "Exit_status")]
    exit_status: Number,
    exec_host: Text,
    stime: Text,
    egroup: Text,
    #[serde(rename = "Priority")]
    priority: Number,
    resources_used: Attributes,
    #[serde(rename = "Resource_List")]
    requested: Attributes,
    #[serde(rename = "Variable_List")]
    variables: Attributes,
    #[serde(rename = "Output_Path")]
    output: Text,
    #[serde(rename = "Error_Path")]
    error: Text,
}

impl Jobs {
    /// All of them, in order of their numbers.
    pub(super) fn view(self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.each().map(|(id, job)| job.view(id)).collect();
        in_order(&mut jobs);
        jobs
    }

    pub(super) fn metadata(self) -> Vec<JobMetadataModel> {
        let view = |(id, job): (String, PbsJob)| JobMetadataModel {
            job_id: id,
            script: None,
            standard_input: None,
            standard_output: job.output.0.map(without_host),
            standard_error: job.error.0.map(without_host),
        };
        self.each().map(view).collect()
    }

    fn each(self) -> impl Iterator<Item = (String, PbsJob)> {
        self.jobs.into_iter().filter_map(|(id, job)| {
            let job = serde_json::from_value(job).ok()?;
            Some((before_the_server(&id).to_owned(), job))
        })
    }
}

/// Puts jobs in order of their numbers.
pub(super) fn in_order(jobs: &mut [Job]) {
    jobs.sort_by_key(|job| leading_number(&job.job_id));
}

/// `7` of `7`, and of `7[]`, which is an array of jobs.
fn leading_number(id: &str) -> u64 {
    let digits = id.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u64::MAX)
}

/// The part before the name of the server.
pub(super) fn before_the_server(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

/// `host:/path` as `/path`.
fn without_host(path: String) -> String {
    match path.split_once(':') {
        Some((host, rest)) if !host.contains('/') => rest.to_owned(),
        _ => path,
    }
}

impl PbsJob {
    fn view(self, job_id: String) -> Job {
        let requested = |name: &str| self.requested.text(name);
        let owner = self.owner.or_empty();
        let (user, cluster) = owner.split_once('@').unwrap_or((&owner, ""));
        let nodes = self.exec_host.0.map(|hosts| host_list(&hosts));
        let state = self.job_state.or_empty();
        // One that ended without a status was deleted, and perhaps never ran.
        let not_ended = (!["F", "X"].contains(&state.as_str())).then_some(0);
        let exit = self.exit_status.signed().or(not_ended);
        // PBS adds 256 to the number of a signal.
        let signal = exit.map(|exit| if exit > 256 { exit - 256 } else { 0 });
        Job {
            name: self.name.or_empty(),
            status: JobStatus {
                state,
                state_reason: self.comment.0,
                exit_code: exit,
                interrupt_signal: signal,
            },
            tasks: None,
            time: JobTime {
                elapsed: self.resources_used.text("walltime").and_then(|t| clock(&t)),
                start: self.stime.0.and_then(|text| moment(&text)),
                end: None,
                suspended: None,
                limit: requested("walltime").and_then(|t| clock(&t)),
            },
            account: self.project.0,
            allocation_nodes: requested("nodect")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0),
            cluster: cluster.to_owned(),
            group: self.egroup.0,
            nodes: nodes
                .or_else(|| requested("nodes"))
                .unwrap_or_else(|| "None assigned".to_owned()),
            partition: self.queue.or_empty(),
            kill_request_user: None,
            user: user.to_owned(),
            working_directory: self.variables.text("PBS_O_WORKDIR").unwrap_or_default(),
            priority: self.priority.whole(),
            job_id,
        }
    }
}

/// `a/0+a/1*4+b/0` as `a,b`.
fn host_list(text: &str) -> String {
    let mut hosts: Vec<&str> = Vec::new();
    for part in text.split('+') {
        let host = part.split('/').next().unwrap_or(part);
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.join(",")
}
