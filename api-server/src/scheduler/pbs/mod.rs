//! OpenPBS by its command line. `jobs`, `nodes` and `text` read what it prints, and are pure.
//!
//! Times are asked for in UTC: the clients of PBS print them in the time zone they run in.

mod jobs;
mod nodes;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;

use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError, Script};
use crate::auth::Caller;
use crate::command::ShellLine;
use crate::executor::{BoxFuture, Executor, Output, RunLimits};
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

    async fn run(
        &self,
        caller: &Caller,
        program: &str,
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
        Err(failure(program, &output))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        program: &str,
        arguments: &[&str],
    ) -> Result<T, SchedulerError> {
        let line = in_utc(program).args(arguments);
        let text = self.run(caller, program, line, &[]).await?;
        text::json(&text).ok_or_else(|| SchedulerError::Failed {
            message: format!("Unexpected output of {program}"),
            causes: Vec::new(),
        })
    }

    async fn find(&self, caller: &Caller, id: &JobId) -> Result<Jobs, SchedulerError> {
        if !id.is_number() {
            return Err(SchedulerError::NotFound);
        }
        let arguments = ["-F", "json", "-f", "-x", id.as_str()];
        self.ask(caller, "qstat", &arguments).await
    }
}

fn in_utc(program: &str) -> ShellLine {
    ShellLine::new("env").arg("TZ=UTC0").arg(program)
}

/// A run that did not exit with 0, sorted by its words. They and the numbers are of OpenPBS.
fn failure(program: &str, output: &Output) -> SchedulerError {
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let id = || {
        let words = stderr.split_whitespace();
        words.last().unwrap_or_default().to_owned()
    };
    if stderr.contains("Unknown Job Id") {
        return SchedulerError::NotFound;
    }
    if stderr.contains("Job has finished") {
        return SchedulerError::AlreadyEnded { id: id() };
    }
    if stderr.contains("Unauthorized Request") && program == "qdel" {
        return SchedulerError::NotOwner { id: id() };
    }
    let code = output
        .exit_code
        .map_or_else(|| "None".to_owned(), |code| code.to_string());
    SchedulerError::Failed {
        message: format!("Unexpected PBS {program} response. exit_status:{code} std_err:{stderr}"),
        causes: Vec::new(),
    }
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
    let mut line = ShellLine::new("qsub");
    line = match job.environment.is_empty() {
        true => line.arg("-V"),
        false => line.arg("-v").arg(variables(job)),
    };
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

/// `K=V,…`; what separates them is escaped in values.
fn variables(job: &JobDescription) -> String {
    let one = |(name, value): (&String, &String)| {
        let mut text = format!("{name}=");
        for c in value.chars() {
            if ['\\', ',', '\'', '"'].contains(&c) {
                text.push('\\');
            }
            text.push(c);
        }
        text
    };
    job.environment
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(",")
}

impl Scheduler for PbsCommandLine {
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        Box::pin(async move {
            let (line, script) = submission(&job)?;
            let printed = self.run(caller, "qsub", line, script.as_bytes()).await?;
            let digits = printed.trim().split(|c: char| !c.is_ascii_digit()).next();
            digits
                .and_then(JobId::parse)
                .ok_or_else(|| SchedulerError::Failed {
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
            match self.find(caller, id).await?.view() {
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
            let arguments = ["-F", "json", "-f", "-x"];
            let jobs: Jobs = self.ask(caller, "qstat", &arguments).await?;
            let mut jobs = jobs.view();
            jobs.retain(|job| {
                (filter.all_users || job.user == caller.name().as_str())
                    && filter.name.as_ref().is_none_or(|name| job.name == *name)
                    && (filter.account.is_none() || job.account == filter.account)
            });
            Ok(jobs)
        })
    }

    fn cancel<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        Box::pin(async move {
            if !id.is_number() {
                return Err(SchedulerError::NotFound);
            }
            let line = ShellLine::new("qdel").arg(id.as_str());
            self.run(caller, "qdel", line, &[]).await.map(|_| ())
        })
    }

    fn metadata<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        Box::pin(async move {
            match self.find(caller, id).await?.metadata() {
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
            let nodes: Nodes = self.ask(caller, "pbsnodes", &["-a", "-F", "json"]).await?;
            Ok(nodes.view())
        })
    }

    fn partitions<'a>(
        &'a self,
        caller: &'a Caller,
        _: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        Box::pin(async move {
            let queues: Queues = self
                .ask(caller, "qstat", &["-F", "json", "-f", "-Q"])
                .await?;
            Ok(queues.view())
        })
    }

    fn reservations<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        Box::pin(async move {
            let line = in_utc("pbs_rstat").arg("-Sf");
            let text = self.run(caller, "pbs_rstat", line, &[]).await?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            Ok(nodes::reservations(&text, now.as_secs()))
        })
    }

    fn ping<'a>(&'a self, caller: &'a Caller) -> BoxFuture<'a, Result<Vec<Ping>, SchedulerError>> {
        Box::pin(async move {
            let servers: Servers = self
                .ask(caller, "qstat", &["-F", "json", "-f", "-B"])
                .await?;
            Ok(servers.view())
        })
    }
}
