//! REST where it can, command line for the rest.

use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError, Script};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Caller;
use crate::executor::BoxFuture;
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{AccountsModel, NodeModel, PartitionModel, ReservationModel};

/// Two ways to one scheduler.
#[derive(Debug)]
pub struct Hybrid {
    /// Does what it can.
    pub rest: Arc<dyn Scheduler>,
    /// Does the rest: scripts on the system or with directives, which sbatch reads itself;
    /// metadata, attaching.
    pub command_line: Arc<dyn Scheduler>,
}

fn has_directives(script: &str) -> bool {
    let mut lines = script.lines().map(str::trim);
    lines.any(|line| line.starts_with("#SBATCH"))
}

impl Scheduler for Hybrid {
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        match &job.script {
            Script::Text(text) if !has_directives(text) => self.rest.submit(caller, job),
            Script::Text(_) | Script::Path(_) => self.command_line.submit(caller, job),
        }
    }

    fn job<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        self.rest.job(caller, id)
    }

    fn jobs<'a>(
        &'a self,
        caller: &'a Caller,
        filter: JobFilter,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        self.rest.jobs(caller, filter)
    }

    fn cancel<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        self.rest.cancel(caller, id)
    }

    fn metadata<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        self.command_line.metadata(caller, id)
    }

    fn attach<'a>(
        &'a self,
        caller: &'a Caller,
        id: &'a JobId,
        command: &'a str,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        self.command_line.attach(caller, id, command)
    }

    fn nodes<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<NodeModel>, SchedulerError>> {
        self.rest.nodes(caller)
    }

    fn partitions<'a>(
        &'a self,
        caller: &'a Caller,
        show_hidden: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        self.rest.partitions(caller, show_hidden)
    }

    fn reservations<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        self.rest.reservations(caller)
    }

    fn accounts<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Option<Vec<AccountsModel>>, SchedulerError>> {
        self.rest.accounts(caller)
    }

    fn ping<'a>(
        &'a self,
        caller: &'a Caller,
        within: Duration,
    ) -> BoxFuture<'a, Result<Vec<Ping>, SchedulerError>> {
        self.rest.ping(caller, within)
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.command_line.shutdown()
    }
}
