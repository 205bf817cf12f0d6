//! Where a job is, by a scheduler's word for its state: the one table of those words.

use crate::model::jobs::JobStatus;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has not begun, or waits again.
    Queued,
    /// It has nodes that are still made ready for it.
    Starting,
    /// Its script runs.
    Running,
    /// It has begun, and its script is held, or what follows it runs.
    Busy,
    /// It ended well.
    Completed,
    /// Somebody ended it before its time.
    Cancelled,
    /// It ended in any other way.
    Failed,
}

impl Phase {
    /// By its status: PBS has a letter for each state, others have words.
    pub(crate) fn of(status: &JobStatus) -> Self {
        match status.state.len() {
            1 => Self::of_pbs(&status.state, status.exit_code),
            _ => Self::of_slurm(&status.state),
        }
    }

    /// By a word of Slurm or of a local system. Slurm adds who cancelled a job.
    pub(crate) fn of_slurm(state: &str) -> Self {
        match state.split(' ').next().unwrap_or_default() {
            "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "REQUEUE_FED" | "SPECIAL_EXIT"
            | "RESV_DEL_HOLD" => Self::Queued,
            "CONFIGURING" => Self::Starting,
            "RUNNING" => Self::Running,
            "SUSPENDED" | "STOPPED" | "SIGNALING" | "RESIZING" | "STAGE_OUT" | "COMPLETING" => {
                Self::Busy
            }
            "COMPLETED" => Self::Completed,
            "CANCELLED" | "REVOKED" => Self::Cancelled,
            _ => Self::Failed,
        }
    }

    /// By a letter of PBS, which has one for every end: only a job that was deleted has no status.
    fn of_pbs(state: &str, exit_code: Option<i32>) -> Self {
        match (state, exit_code) {
            ("Q" | "H" | "W" | "T" | "M", _) => Self::Queued,
            ("R" | "B", _) => Self::Running,
            ("E" | "S" | "U", _) => Self::Busy,
            ("F" | "X", Some(0)) => Self::Completed,
            ("F" | "X", None) => Self::Cancelled,
            _ => Self::Failed,
        }
    }

    /// Whether it has begun and not ended.
    pub(crate) fn is_under_way(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Busy)
    }

    /// Whether nothing of it will run any more.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: &str, exit_code: Option<i32>) -> Phase {
        Phase::of(&JobStatus {
            state: state.to_owned(),
            state_reason: None,
            exit_code,
            interrupt_signal: None,
        })
    }

    #[test]
    fn words_of_slurm() {
        for (word, expected) in [
            ("PENDING", Phase::Queued),
            ("REQUEUE_HOLD", Phase::Queued),
            ("CONFIGURING", Phase::Starting),
            ("RUNNING", Phase::Running),
            ("SUSPENDED", Phase::Busy),
            ("COMPLETING", Phase::Busy),
            ("COMPLETED", Phase::Completed),
            ("CANCELLED by 2101", Phase::Cancelled),
            ("TIMEOUT", Phase::Failed),
            ("NODE_FAIL", Phase::Failed),
            ("", Phase::Failed),
        ] {
            // Whatever the exit status is, which Slurm shows of jobs that run, too.
            assert_eq!(of(word, Some(13)), expected, "{word}");
            assert_eq!(of(word, None), expected, "{word}");
        }
    }

    #[test]
    fn letters_of_pbs() {
        for (letter, exit_code, expected) in [
            ("Q", Some(0), Phase::Queued),
            ("H", Some(-3), Phase::Queued),
            ("R", Some(0), Phase::Running),
            ("B", Some(0), Phase::Running),
            ("E", Some(0), Phase::Busy),
            ("S", Some(0), Phase::Busy),
            ("F", Some(0), Phase::Completed),
            ("X", Some(0), Phase::Completed),
            ("F", Some(271), Phase::Failed),
            ("F", Some(-29), Phase::Failed),
            ("F", None, Phase::Cancelled),
            ("?", Some(0), Phase::Failed),
        ] {
            assert_eq!(of(letter, exit_code), expected, "{letter} {exit_code:?}");
        }
    }
}
