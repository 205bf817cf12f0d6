//! Systems that are configured and shown, and that this build does not drive yet.

use super::{JobDescription, JobFilter, JobId, Scheduler, SchedulerError};
use crate::auth::Caller;
use crate::executor::BoxFuture;
use crate::model::jobs::Job;

/// Answers every request with [`SchedulerError::NotDriven`].
#[derive(Debug)]
pub struct NotDriven {
    /// Which kind of scheduler it is.
    pub scheduler: &'static str,
}

impl NotDriven {
    fn refuse<T: Send + 'static>(&self) -> BoxFuture<'_, Result<T, SchedulerError>> {
        let scheduler = self.scheduler;
        Box::pin(async move { Err(SchedulerError::NotDriven { scheduler }) })
    }
}

impl Scheduler for NotDriven {
    fn submit<'a>(
        &'a self,
        _: &'a Caller,
        _: JobDescription,
    ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
        self.refuse()
    }

    fn job<'a>(
        &'a self,
        _: &'a Caller,
        _: &'a JobId,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        self.refuse()
    }

    fn jobs<'a>(
        &'a self,
        _: &'a Caller,
        _: JobFilter,
    ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
        self.refuse()
    }

    fn cancel<'a>(
        &'a self,
        _: &'a Caller,
        _: &'a JobId,
    ) -> BoxFuture<'a, Result<(), SchedulerError>> {
        self.refuse()
    }
}
