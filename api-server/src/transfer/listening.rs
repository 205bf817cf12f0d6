//! Whether the endpoint of a job that has just been queued, or just begun, listens yet.
//!
//! Clients of the plaintext protocol wait until the job is RUNNING, then try every port once.
//! That is a moment before the endpoint has taken its port: until then they get no answer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::OnSystem;
use crate::command::{self, RemotePath, View};
use crate::executor::RunLimits;
use crate::model::jobs::Job;
use crate::scheduler::JobId;

/// Waits, for a few seconds at most, until the job at whose `status` file this is listens.
/// Returns at once for a job that stays in a queue, has ended, or cannot be asked about.
pub(super) async fn wait(on: OnSystem<'_>, limits: RunLimits, id: &JobId, status: &RemotePath) {
    let begun = Instant::now();
    while begun.elapsed() < START {
        match state(on, id).await.as_deref() {
            Some("RUNNING") => {}
            Some("PENDING") if begun.elapsed() < QUEUE => {}
            _ => return,
        }
        let file = View {
            path: status.clone(),
            offset: 0,
            size: STATUS_BYTES,
        };
        let text = command::run(on.executor, on.caller, limits, &file).await;
        if text.is_ok_and(|text| is_past_start(&text)) {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// Whether this is a job whose endpoint may not listen yet although it runs.
pub(super) fn is_about_to(job: &Job) -> bool {
    let transfer = [super::OUTGRESS, super::INGRESS].contains(&&*job.name);
    let young = job
        .time
        .elapsed
        .is_none_or(|seconds| seconds < YOUNG_SECONDS);
    transfer && young && job.status.state == "RUNNING"
}

async fn state(on: OnSystem<'_>, id: &JobId) -> Option<String> {
    let jobs = on.scheduler.job(on.caller, id).await.ok()?;
    jobs.first().map(|job| job.status.state.clone())
}

fn is_past_start(status: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Status {
        state: String,
    }
    serde_json::from_str::<Status>(status).is_ok_and(|status| status.state != "starting")
}

/// Longest wait for a running job: the program starts from a slow file system.
const START: Duration = Duration::from_secs(3);

/// Longest wait for a job to start: longer is a queue.
const QUEUE: Duration = Duration::from_millis(200);

/// An endpoint that does not listen when its job is so old never will.
const YOUNG_SECONDS: u64 = 10;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// More than a status is.
const STATUS_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_past_the_start_once_it_says_anything_else() {
        assert!(!is_past_start(""));
        assert!(!is_past_start(r#"{"state":"#));
        assert!(!is_past_start(r#"{"state":"starting"}"#));
        assert!(is_past_start(r#"{"state":"listening","port":5665}"#));
        assert!(is_past_start(r#"{"state":"failed"}"#));
    }
}
