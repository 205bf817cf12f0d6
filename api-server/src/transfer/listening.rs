//! Whether the endpoint of a job that has just been queued, or just begun, listens yet.
//!
//! Clients of the plaintext protocol wait until the job is RUNNING, then try every port once.
//! That is a moment before the endpoint has taken its port: until then they get no answer.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::OnSystem;
use super::state::JobFile;
use crate::command::{self, RemotePath, View};
use crate::executor::RunLimits;
use crate::model::jobs::Job;
use crate::scheduler::JobId;
use crate::scheduler::phase::Phase;

/// Waits, for [`START`] at most, until the job at whose `status` file this is listens.
/// Returns at once for a job that stays in a queue, has ended, or cannot be asked about.
///
/// Cancel-safe.
pub(super) async fn wait(on: OnSystem<'_>, limits: RunLimits, id: &JobId, status: &RemotePath) {
    // A question that is under way then ends as that of a client who goes away.
    let _ = timeout(START, until_listening(on, limits, id, status)).await;
}

async fn until_listening(on: OnSystem<'_>, limits: RunLimits, id: &JobId, status: &RemotePath) {
    let begun = Instant::now();
    loop {
        let Some(job) = job(on, id).await else {
            return;
        };
        match Phase::of(&job.status) {
            Phase::Running => {}
            Phase::Queued if begun.elapsed() < QUEUE => {}
            _ => return,
        }
        let file = View {
            path: status.clone(),
            offset: 0,
            size: STATUS_BYTES,
        };
        let text = command::run(on.executor, on.caller, limits, &file).await;
        if text.is_ok_and(|text| is_past_start(&text, &job)) {
            return;
        }
        sleep(on.scheduler.pause()).await;
    }
}

/// Whether this is a job whose endpoint may not listen yet although it runs.
pub(super) fn is_about_to(job: &Job) -> bool {
    let transfer = [super::OUTGRESS, super::INGRESS].contains(&&*job.name);
    let young = job
        .time
        .elapsed
        .is_none_or(|seconds| seconds < YOUNG_SECONDS);
    transfer && young && Phase::of(&job.status) == Phase::Running
}

async fn job(on: OnSystem<'_>, id: &JobId) -> Option<Job> {
    let jobs = on.scheduler.job(on.caller, id).await.ok()?;
    jobs.into_iter().next()
}

/// Whether the `status` is this job's, and says more than that it starts.
fn is_past_start(status: &str, job: &Job) -> bool {
    JobFile::parse(status).is_some_and(|file| file.is_of(job) && file.is_past_start())
}

/// Longest wait for a running job: the program starts from a slow file system.
const START: Duration = Duration::from_secs(3);

/// Longest wait for a job to start: longer is a queue.
const QUEUE: Duration = Duration::from_millis(200);

/// An endpoint that does not listen when its job is so old never will.
const YOUNG_SECONDS: u64 = 10;

/// More than a status is.
const STATUS_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Caller;
    use crate::command::ShellLine;
    use crate::executor::{BoxFuture, ExecError, Executor, Output};
    use crate::scheduler::{JobDescription, JobFilter, Scheduler, SchedulerError};
    use crate::transfer::state::job_in;

    /// A system on which one job runs, whose state no command ever tells.
    #[derive(Debug)]
    struct Stuck;

    impl Executor for Stuck {
        fn run_with_input<'a>(
            &'a self,
            _: &'a Caller,
            _: &'a ShellLine,
            _: &'a [u8],
            _: RunLimits,
        ) -> BoxFuture<'a, Result<Output, ExecError>> {
            Box::pin(std::future::pending())
        }
    }

    impl Scheduler for Stuck {
        fn submit<'a>(
            &'a self,
            _: &'a Caller,
            _: JobDescription,
        ) -> BoxFuture<'a, Result<JobId, SchedulerError>> {
            unreachable!("nothing is submitted")
        }

        fn job<'a>(
            &'a self,
            _: &'a Caller,
            _: &'a JobId,
        ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
            Box::pin(async { Ok(vec![job_in("RUNNING")]) })
        }

        fn jobs<'a>(
            &'a self,
            _: &'a Caller,
            _: JobFilter,
        ) -> BoxFuture<'a, Result<Vec<Job>, SchedulerError>> {
            unreachable!("nothing is listed")
        }

        fn cancel<'a>(
            &'a self,
            _: &'a Caller,
            _: &'a JobId,
        ) -> BoxFuture<'a, Result<(), SchedulerError>> {
            unreachable!("nothing is cancelled")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_that_does_not_answer_is_not_waited_for_any_longer() {
        let caller = Caller::for_tests("bob");
        let on = OnSystem {
            caller: &caller,
            executor: &Stuck,
            scheduler: &Stuck,
        };
        let limits = RunLimits {
            timeout: Duration::from_secs(60),
            output_bytes: 1000,
        };
        let (id, begun) = (JobId::parse("7").unwrap(), Instant::now());
        let status = RemotePath::parse("/status").unwrap();
        wait(on, limits, &id, &status).await;
        assert_eq!(begun.elapsed().as_secs(), START.as_secs());
    }

    #[test]
    fn a_status_is_past_the_start_once_it_says_anything_else() {
        let job = job_in("RUNNING");
        let is_past_start = |text: &str| is_past_start(text, &job);
        assert!(!is_past_start(""));
        assert!(!is_past_start(r#"{"state":"#));
        assert!(!is_past_start(r#"{"state":"starting","updated":2000}"#));
        let listening = r#"{"state":"listening","port":5665,"updated":2000}"#;
        assert!(is_past_start(listening));
        assert!(is_past_start(r#"{"state":"failed","updated":2000}"#));
    }

    #[test]
    fn only_a_young_transfer_that_runs_is_about_to_listen() {
        for (state, expected) in [
            ("RUNNING", true),
            ("R", true),
            ("CONFIGURING", false),
            ("PENDING", false),
            ("Q", false),
            ("COMPLETING", false),
            ("F", false),
        ] {
            assert_eq!(is_about_to(&job_in(state)), expected, "{state}");
        }
        let mut old = job_in("R");
        old.time.elapsed = Some(YOUNG_SECONDS);
        assert!(!is_about_to(&old));
        let mut another = job_in("R");
        another.name = "sleeper".into();
        assert!(!is_about_to(&another));
    }

    #[test]
    fn the_file_of_an_earlier_job_of_that_number_does_not_end_the_wait() {
        let mut job = job_in("RUNNING");
        job.time.start = Some(9000);
        assert!(!is_past_start(r#"{"state":"done","updated":2000}"#, &job));
    }
}
