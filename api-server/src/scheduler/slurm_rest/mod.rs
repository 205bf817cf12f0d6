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

use super::{JobDescription, JobFilter, JobId, Ping, Scheduler, SchedulerError, Script, answer};
use crate::auth::Caller;
use crate::config::SystemConfig;
use crate::executor::BoxFuture;
use crate::http_client::HttpClient;
use crate::metrics::Metrics;
use crate::model::jobs::{Job, JobMetadataModel};
use crate::model::status::{AccountsModel, NodeModel, PartitionModel, ReservationModel};
use client::{Answer, Client, Service};
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
        admits: impl Fn(&Job) -> bool + Send + 'static,
    ) -> Result<Vec<Job>, SchedulerError> {
        // Both are cancel-safe: when one cannot be asked, that ends the other.
        let (database, controller) = tokio::try_join!(
            self.client.get(caller, Service::Database, database),
            self.client.get(caller, Service::Controller, controller),
        )?;
        together(database, controller, admits).await
    }

    async fn list(&self, caller: &Caller, filter: JobFilter) -> Result<Vec<Job>, SchedulerError> {
        // Every version understands this form, and no version knows names or users here.
        let mut query = format!("jobs?start_time=now-{}seconds", filter.history_seconds);
        if let Some(account) = &filter.account {
            let encoded = form_urlencoded::byte_serialize(account.as_bytes());
            query.push_str("&account=");
            query.extend(encoded);
        }
        let user = caller.name().clone();
        let admits = move |job: &Job| fits(job, &filter, user.as_str());
        let found = self.find(caller, &query, "jobs", admits).await;
        found.map_err(|error| SchedulerError::Failed {
            message: "Error fetching Slurm API data.".to_owned(),
            causes: vec![error.to_string()],
        })
    }
}

/// Those jobs that both answers tell of and that are asked for.
async fn together(
    database: Answer,
    controller: Answer,
    admits: impl Fn(&Job) -> bool + Send + 'static,
) -> Result<Vec<Job>, SchedulerError> {
    let bytes = database.body.len() + controller.body.len();
    let read = answer::read(bytes, move || {
        let mut jobs = jobs::union(database.read()?, controller.read()?);
        jobs.retain(admits);
        Ok(jobs)
    });
    read.await
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
            match self.find(caller, &path, &path, |_| true).await? {
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
            let nodes = self.client.get(caller, Service::Controller, "nodes");
            nodes.await?.view(Nodes::view).await
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
            let view = move |partitions: Partitions| partitions.view(show_hidden);
            partitions.view(view).await
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
            answer.view(move |all: Reservations| all.view(now)).await
        })
    }

    fn accounts<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> BoxFuture<'a, Result<Option<Vec<AccountsModel>>, SchedulerError>> {
        Box::pin(async move {
            let user = caller.name().clone();
            let encoded: String =
                form_urlencoded::byte_serialize(user.as_str().as_bytes()).collect();
            let path = format!("associations?user={encoded}");
            let answer = self.client.get(caller, Service::Database, &path).await?;
            let view = move |all: Associations| Some(all.view(user.as_str()));
            answer.view(view).await
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
            let pings = client.get(caller, Service::Controller, "ping").await?;
            pings.view(Pings::view).await
        })
    }
}
