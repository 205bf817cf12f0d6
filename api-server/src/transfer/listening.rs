//! Whether the endpoint of a job that has just been queued listens yet.
//!
//! Clients of the plaintext protocol wait until the job is RUNNING, then try every port once.
//! Where jobs start at once, that is before the endpoint has taken its port.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::OnSystem;
use crate::command::{self, RemotePath, View};
use crate::executor::RunLimits;
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
