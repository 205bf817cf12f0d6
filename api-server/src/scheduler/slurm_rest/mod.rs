//! Slurm by its REST service, versions 0.0.38 to 0.0.42, with the caller's own token.
//!
//! `jobs` and `nodes` turn answers into the model, `submit` makes the body of a submission, for
//! which `directives` reads its script: all pure. `client` asks.

mod client;
mod directives;
mod jobs;
mod nodes;
mod submit;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError, Script};
use crate::auth::Caller;
use crate::config::SystemConfig;
use crate::executor::BoxFuture;
use crate::http_client::HttpClient;
use crate::metrics::Metrics;
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{AccountsModel, NodeModel, PartitionModel, ReservationModel};
use client::{Client, Service};
use jobs::{ControllerJobs, DatabaseJobs};
use nodes::{Associations, Nodes, Partitions, Pings, Reservations};

/// Drives one Slurm by REST.
#[derive(Debug)]
pub struct SlurmRest {
    client: Client,
}

impl SlurmRest {
    /// A client of a system's REST service; `None` when the configuration does not say which.
    pub fn new(
        config: &SystemConfig,
        http: Arc<HttpClient>,
        metrics: Arc<Metrics>,
    ) -> Option<Self> {
        let scheduler = &config.scheduler;
        let base = scheduler.api_url.as_deref()?.trim_end_matches('/');
        Some(Self {
            client: Client {
                base: base.to_owned(),
                version: parse_version(scheduler.api_version.as_deref()?)?,
                timeout: Duration::from_secs(scheduler.timeout),
                system: config.name.clone(),
                http,
                metrics,
            },
        })
    }

    async fn find(
        &self,
        caller: &Caller,
        database: &str,
        controller: &str,
    ) -> Result<Vec<Job>, SchedulerError> {
        // Both are cancel-safe: the first failure ends the other.
        let (database, controller) = tokio::try_join!(
            self.client
                .get::<DatabaseJobs>(caller, Service::Database, database),
            self.client
                .get::<ControllerJobs>(caller, Service::Controller, controller),
        )?;
        Ok(jobs::union(database, controller))
    }

    async fn list(&self, caller: &Caller, filter: JobFilter) -> Result<Vec<Job>, SchedulerError> {
        // Every version understands this form, and no version knows names or users here.
        let mut query = format!("jobs?start_time=now-{}seconds", filter.history_seconds);
        if let Some(account) = &filter.account {
            let encoded = form_urlencoded::byte_serialize(account.as_bytes());
            query.push_str("&account=");
            query.extend(encoded);
        }
        let found = self.find(caller, &query, "jobs").await;
        let mut jobs = found.map_err(|error| SchedulerError::Failed {
            message: "Error fetching Slurm API data.".to_owned(),
            causes: vec![error.to_string()],
        })?;
        jobs.retain(|job| fits(job, &filter, caller.name().as_str()));
        Ok(jobs)
    }
}

/// Whether a job is one of those asked for. Slurm keeps names of accounts in lower case.
fn fits(job: &Job, filter: &JobFilter, user: &str) -> bool {
    let account = job.account.as_deref().unwrap_or_default();
    let charged = |asked: &String| asked.eq_ignore_ascii_case(account);
    (filter.all_users || job.user == user)
        && filter.name.as_ref().is_none_or(|name| job.name == *name)
        && filter.account.as_ref().is_none_or(charged)
}

/// `0.0.XX`, maybe after a `v`.
pub(crate) fn parse_version(text: &str) -> Option<u32> {
    let minor = text.trim_start_matches('v').strip_prefix("0.0.")?;
    minor.parse().ok()
}

impl Scheduler for SlurmRest {
    fn submit<'a>(
        &'a self,
        caller: &'a Caller,
        job: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        Box::pin(async move {
            let Script::Text(script) = &job.script else {
                return Err(SchedulerError::NotByRest);
            };
            let body = submit::body(self.client.version, &job, script);
            let body = body.map_err(|reason| SchedulerError::Rejected { reason })?;
            self.client.submit(caller, &body).await
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
            let path = format!("job/{}", id.as_str());
            match self.find(caller, &path, &path).await? {
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
        Box::pin(self.list(caller, filter))
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
            self.client.cancel(caller, id).await
        })
    }

    fn metadata<'a>(
        &'a self,
        _: &'a Caller,
        _: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<JobMetadataModel>, SchedulerError>> {
        Box::pin(async { Err(SchedulerError::NotByRest) })
    }

    fn attach<'a>(
        &'a self,
        _: &'a Caller,
        _: &'a JobId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        Box::pin(async { Err(SchedulerError::NotByRest) })
    }

    fn nodes<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<NodeModel>, SchedulerError>> {
        Box::pin(async move {
            let nodes: Nodes = self
                .client
                .get(caller, Service::Controller, "nodes")
                .await?;
            Ok(nodes.view())
        })
    }

    fn partitions<'a>(
        &'a self,
        caller: &'a Caller,
        show_hidden: bool,
    ) -> BoxFuture<'a, Result<Vec<PartitionModel>, SchedulerError>> {
        Box::pin(async move {
            let path = if show_hidden {
                "partitions?flags=all"
            } else {
                "partitions"
            };
            let partitions = self.client.get(caller, Service::Controller, path).await?;
            Ok(Partitions::view(partitions, show_hidden))
        })
    }

    fn reservations<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Vec<ReservationModel>, SchedulerError>> {
        Box::pin(async move {
            let answer = self
                .client
                .get(caller, Service::Controller, "reservations")
                .await?;
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            Ok(Reservations::view(answer, now))
        })
    }

    fn accounts<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Option<Vec<AccountsModel>>, SchedulerError>> {
        Box::pin(async move {
            let user = caller.name().as_str();
            let encoded: String = form_urlencoded::byte_serialize(user.as_bytes()).collect();
            let path = format!("associations?user={encoded}");
            let answer = self.client.get(caller, Service::Database, &path).await?;
            Ok(Some(Associations::view(answer, user)))
        })
    }

    fn ping<'a>(
        &'a self,
        caller: &'a Caller,
        within: Duration,
    ) -> BoxFuture<'a, Result<Vec<Ping>, SchedulerError>> {
        Box::pin(async move {
            let client = Client {
                timeout: within,
                ..self.client.clone()
            };
            let pings: Pings = client.get(caller, Service::Controller, "ping").await?;
            Ok(pings.view())
        })
    }
}
