//! How a transfer stands, from what the scheduler says about its job and the job about itself.

use serde::Deserialize;

use super::file_job::is_named;
use crate::model::jobs::Job;
use crate::model::transfer::{TransferState, TransferStateName};
use crate::scheduler::phase::Phase;

/// What the job wrote last. It is the user's own file: nothing in it is taken for granted.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct JobFile {
    state: String,
    host: Option<String>,
    port: Option<u16>,
    message: Option<String>,
    moved_bytes: Option<u64>,
    total_bytes: Option<u64>,
    updated: u64,
}

impl JobFile {
    /// `None` when the text is none of these files.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Ids of jobs come round again: the file of an earlier one says nothing about this one.
    pub(super) fn is_of(&self, job: &Job) -> bool {
        job.time
            .start
            .is_none_or(|start| self.updated.saturating_add(CLOCKS_DIFFER_SECONDS) >= start)
    }

    /// Whether the endpoint has taken its port, or never will.
    pub(super) fn is_past_start(&self) -> bool {
        !["", "starting"].contains(&&*self.state)
    }
}

/// Nodes and the scheduler have clocks of their own.
const CLOCKS_DIFFER_SECONDS: u64 = 60;

/// One answer from both.
pub(super) fn state(system: &str, job: &Job, file: Option<JobFile>) -> TransferState {
    let phase = Phase::of(&job.status);
    let file = file.filter(|file| phase != Phase::Queued && file.is_of(job));
    let file = file.unwrap_or_default();
    let word = match is_named(&job.name) {
        // They begin with their work, and say nothing of it.
        true => "active",
        false => &file.state,
    };
    let name = name(phase, word);
    let queued = name == TransferStateName::Queued;
    let reason = job.status.state_reason.clone();
    let reason = reason.filter(|reason| queued && !reason.is_empty() && reason != "None");
    let message = match name {
        // A job that is told to end does not know why.
        TransferStateName::Failed | TransferStateName::Cancelled => Some(
            scheduler_cause(phase, job)
                .or_else(|| file.message.clone())
                .unwrap_or_else(|| exit_cause(job)),
        ),
        _ => file.message.clone(),
    };
    let listening = name == TransferStateName::Listening;
    TransferState {
        job_id: job.job_id.clone(),
        system: system.to_owned(),
        state: name,
        job_state: job.status.state.clone(),
        reason,
        estimated_start: job.time.start.filter(|_| queued),
        node: file.host,
        port: file.port.filter(|_| listening),
        moved_bytes: file.moved_bytes,
        total_bytes: file.total_bytes.filter(|total| *total > 0),
        message,
    }
}

fn name(phase: Phase, word: &str) -> TransferStateName {
    use TransferStateName as Name;
    match (phase, word) {
        (Phase::Queued, _) => Name::Queued,
        (Phase::Cancelled, _) => Name::Cancelled,
        (_, "listening") if phase.is_under_way() => Name::Listening,
        (_, "active") if phase.is_under_way() => Name::Active,
        (_, "done") if phase.is_under_way() => Name::Done,
        (_, "failed") => Name::Failed,
        (Phase::Starting | Phase::Running | Phase::Busy, _) => Name::Starting,
        (Phase::Completed, _) => Name::Done,
        (Phase::Failed, _) => Name::Failed,
    }
}

/// Why the scheduler ended a job.
fn scheduler_cause(phase: Phase, job: &Job) -> Option<String> {
    const GO_ON: &str = "what was received stays, and the next transfer to the same target goes on";
    let cause = match job.status.state.as_str() {
        _ if phase == Phase::Cancelled => "the job was cancelled",
        "TIMEOUT" | "DEADLINE" => "the job reached its time limit",
        "NODE_FAIL" | "BOOT_FAIL" => "the node failed",
        "PREEMPTED" => "the job had to make room for another",
        "OUT_OF_MEMORY" => "the job needed more memory than it was given",
        _ => return None,
    };
    Some(format!("{cause}; {GO_ON}"))
}

/// Why a job ended that could not say so itself.
fn exit_cause(job: &Job) -> String {
    match job.status.exit_code {
        Some(code) if code != 0 => {
            format!("the job failed with exit status {code}; see its errorLog")
        }
        _ => "the job failed; see its errorLog".to_owned(),
    }
}

#[cfg(test)]
pub(super) use tests::job as job_in;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::jobs::{JobStatus, JobTime};
    use TransferStateName::{Active, Cancelled, Done, Failed, Listening, Queued, Starting};

    /// A job that began at second 1000.
    pub(in crate::transfer) fn job(state: &str) -> Job {
        Job {
            job_id: "7".into(),
            name: "OutgressFileTransfer".into(),
            status: JobStatus {
                state: state.into(),
                state_reason: Some("Resources".into()),
                exit_code: Some(13),
                interrupt_signal: None,
            },
            tasks: None,
            time: JobTime {
                elapsed: None,
                start: Some(1000),
                end: None,
                suspended: None,
                limit: None,
            },
            account: None,
            allocation_nodes: 1,
            cluster: "c".into(),
            group: None,
            nodes: String::new(),
            partition: String::new(),
            kill_request_user: None,
            user: "bob".into(),
            working_directory: "/".into(),
            priority: None,
        }
    }

    fn file(state: &str) -> Option<JobFile> {
        let text = format!(
            r#"{{"state":"{state}","host":"nid1","port":5665,"movedBytes":3,"totalBytes":9,"updated":2000}}"#
        );
        JobFile::parse(&text)
    }

    #[test]
    fn every_phase_has_its_word() {
        for (job_state, word, expected) in [
            ("PENDING", "", Queued),
            ("PENDING", "listening", Queued),
            ("CONFIGURING", "", Starting),
            ("RUNNING", "", Starting),
            ("RUNNING", "starting", Starting),
            ("RUNNING", "listening", Listening),
            ("RUNNING", "active", Active),
            ("COMPLETING", "done", Done),
            ("COMPLETED", "done", Done),
            ("COMPLETED", "", Done),
            ("COMPLETED", "failed", Failed),
            ("FAILED", "failed", Failed),
            ("FAILED", "active", Failed),
            ("TIMEOUT", "active", Failed),
            ("CANCELLED by 2101", "failed", Cancelled),
            ("NODE_FAIL", "listening", Failed),
            ("R", "active", Active),
        ] {
            let state = state("c", &job(job_state), file(word));
            assert_eq!(state.state, expected, "{job_state} {word}");
        }
    }

    /// PBS ends each job in state F.
    #[test]
    fn a_job_that_was_deleted_before_it_began_is_cancelled() {
        let mut deleted = job("F");
        deleted.time.start = None;
        deleted.status.exit_code = None;
        let told = state("c", &deleted, None);
        assert_eq!(told.state, Cancelled);
        assert!(told.message.unwrap().starts_with("the job was cancelled;"));
        deleted.status.exit_code = Some(0);
        assert_eq!(state("c", &deleted, None).state, Done);
    }

    #[test]
    fn jobs_that_keep_no_state_are_active_while_they_run() {
        for (job_state, expected) in [
            ("PENDING", Queued),
            ("RUNNING", Active),
            ("COMPLETING", Active),
            ("COMPLETED", Done),
            ("FAILED", Failed),
            ("CANCELLED by 2101", Cancelled),
        ] {
            for name in ["MoveFiles", "CopyFiles", "DeleteFiles", "CompressFiles"] {
                let mut job = job(job_state);
                job.name = name.into();
                let state = state("c", &job, None);
                assert_eq!((state.state, state.moved_bytes), (expected, None), "{name}");
            }
        }
    }

    #[test]
    fn each_word_comes_with_what_is_known() {
        let queued = state("c", &job("PENDING"), None);
        assert_eq!(queued.reason.as_deref(), Some("Resources"));
        assert_eq!(queued.estimated_start, Some(1000));
        let listening = state("c", &job("RUNNING"), file("listening"));
        assert_eq!(listening.node.as_deref(), Some("nid1"));
        assert_eq!((listening.port, listening.reason), (Some(5665), None));
        let active = state("c", &job("RUNNING"), file("active"));
        assert_eq!((active.moved_bytes, active.total_bytes), (Some(3), Some(9)));
        let killed = state("c", &job("TIMEOUT"), file("active")).message.unwrap();
        assert!(
            killed.contains("time limit") && killed.contains("goes on"),
            "{killed}"
        );
        let ended = r#"{"state":"failed","message":"the job is ending","updated":2000}"#;
        let told = |word: &str| {
            state("c", &job(word), JobFile::parse(ended))
                .message
                .unwrap()
        };
        assert!(told("TIMEOUT").contains("time limit"));
        assert_eq!(told("FAILED"), "the job is ending");
        let failed = state("c", &job("FAILED"), None).message.unwrap();
        assert!(failed.contains("exit status 13"), "{failed}");
    }

    #[test]
    fn the_file_of_an_earlier_job_of_that_number_says_nothing() {
        let mut late = job("RUNNING");
        late.time.start = Some(9000);
        assert_eq!(state("c", &late, file("active")).state, Starting);
        assert!(JobFile::parse("[1]").is_none() && JobFile::parse("x").is_none());
        let odd = JobFile::parse(r#"{"state":"dancing"}"#);
        assert_eq!(state("c", &job("RUNNING"), odd).state, Starting);
    }
}
