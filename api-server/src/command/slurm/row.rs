//! One job as `sacct` and `squeue` tell of it, and how both make one answer.

use super::{SlurmError, given, success, success_for_a_job};
use crate::executor::Output;
use crate::model::jobs::{Job, JobStatus, JobTask, JobTime};
use crate::scheduler::phase::Phase;
use crate::scheduler::{JobFilter, JobId};

/// Between fields, another one for each question: names of jobs hold any bytes, and whoever knew it
/// could put rows of their own into somebody else's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delimiter(String);

impl Delimiter {
    /// One that nobody knows yet.
    pub fn random() -> Self {
        // No digit comes first, which `squeue` would take for a width. Short: it is printed
        // after each field, and counts as output.
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self("\u{1f}".chars().chain(random.chars().take(8)).collect())
    }

    /// Of what was recorded.
    #[cfg(test)]
    pub(super) fn recorded() -> Self {
        Self("\u{1f}".to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which jobs are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobQuery {
    /// Who asks.
    pub user: String,
    /// One, or those that fit.
    pub which: WhichJobs,
    /// What separates the fields of the answer.
    pub delimiter: Delimiter,
}

/// One job, or several.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WhichJobs {
    /// This one, whoever's.
    One(JobId),
    /// All that fit.
    Fitting(JobFilter),
}

impl JobQuery {
    /// Of fireuser, as what was recorded answers it.
    #[cfg(test)]
    pub(super) fn recorded(which: WhichJobs) -> Self {
        Self {
            user: "fireuser".into(),
            which,
            delimiter: Delimiter::recorded(),
        }
    }

    /// Options that both programs have. A comma would make several names of one: such names
    /// are left to [`admits`](Self::admits).
    pub(super) fn options(&self) -> Vec<String> {
        match &self.which {
            WhichJobs::One(id) => vec![format!("--jobs={}", id.as_str())],
            WhichJobs::Fitting(filter) => {
                let options = [("account", &filter.account), ("name", &filter.name)];
                let single = options.into_iter().filter_map(|(option, value)| {
                    let value = value.as_deref().filter(|value| !value.contains(','))?;
                    Some(format!("--{option}={value}"))
                });
                single.collect()
            }
        }
    }

    /// The text a program printed, if it succeeded; of one job it may say that there is none.
    pub(super) fn text(&self, output: &Output) -> Result<String, SlurmError> {
        match &self.which {
            WhichJobs::One(_) => success_for_a_job(output),
            WhichJobs::Fitting(_) => success(output),
        }
    }

    /// Whether a job is really one of those.
    pub(super) fn admits(&self, job: &Job) -> bool {
        let filter = match &self.which {
            WhichJobs::One(id) => return is_of(&job.job_id, id.as_str()),
            WhichJobs::Fitting(filter) => filter,
        };
        // Slurm keeps names of accounts in lower case.
        let account = job.account.as_deref().unwrap_or_default();
        let charged = |asked: &String| asked.eq_ignore_ascii_case(account);
        (filter.all_users || job.user == self.user)
            && filter.account.as_ref().is_none_or(charged)
            && filter.name.as_ref().is_none_or(|name| *name == job.name)
    }
}

/// Whether a row is of the job that was asked for. Tasks of arrays (`6_1`) and components of
/// heterogeneous jobs (`6+1`) have numbers of their own too, which rows do not show.
fn is_of(row: &str, asked: &str) -> bool {
    row.contains(['_', '+']) || row == asked.trim_start_matches('0')
}

/// A job, and when it was submitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The job.
    pub job: Job,
    /// Unix seconds.
    pub submitted: Option<u64>,
}

/// Fills in the columns that both programs print at the same places; `user` is that of the
/// user, with the working directory behind it.
pub(super) fn row(mut job: Job, fields: &Fields<'_>, user: usize) -> Row {
    job.allocation_nodes = fields
        .number(1)
        .and_then(|n| n.try_into().ok())
        .unwrap_or(0);
    job.cluster = fields.text(2).to_owned();
    job.group = given(fields.text(4));
    job.account = given(fields.text(5));
    job.name = fields.text(6).to_owned();
    job.nodes = fields.text(7).to_owned();
    job.partition = fields.text(8).to_owned();
    job.priority = fields.number(9);
    job.user = fields.text(user).to_owned();
    job.working_directory = fields.text(user + 1).to_owned();
    Row {
        job,
        submitted: fields.number(13),
    }
}

/// What the accounts and the queue say together, oldest first. The accounts know more of a
/// job, and learn of it later: where the queue is ahead, or the job waits again, it is right.
pub fn merge(history: Vec<Row>, queue: Vec<Row>) -> Vec<Job> {
    let mut rows = history;
    let places: std::collections::HashMap<String, usize> = rows
        .iter()
        .enumerate()
        .map(|(place, row)| (row.job.job_id.clone(), place))
        .collect();
    for row in queue {
        let Some(&place) = places.get(&row.job.job_id) else {
            rows.push(row);
            continue;
        };
        let phase = |row: &Row| Phase::of_slurm(&row.job.status.state);
        let (old, new) = (phase(&rows[place]), phase(&row));
        if is_ahead(new, old) {
            let tasks = rows[place]
                .job
                .tasks
                .take()
                .filter(|tasks| !tasks.is_empty());
            rows[place] = row;
            if tasks.is_some() && new != Phase::Queued {
                rows[place].job.tasks = tasks;
            }
        }
    }
    // Stable: tasks of an array stay in their order.
    rows.sort_by_key(|row| row.submitted.unwrap_or(u64::MAX));
    rows.into_iter().map(|row| row.job).collect()
}

/// Whether the queue knows more than the accounts.
fn is_ahead(queue: Phase, accounts: Phase) -> bool {
    match queue {
        Phase::Queued => true,
        queue if queue.has_ended() => !accounts.has_ended(),
        _ => accounts == Phase::Queued,
    }
}

/// Fields of one record, by position; a missing one is empty.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [&'a str]);

impl Fields<'_> {
    pub(super) fn text(&self, at: usize) -> &str {
        self.0.get(at).copied().unwrap_or_default()
    }

    pub(super) fn number(&self, at: usize) -> Option<u64> {
        self.text(at).trim().parse().ok()
    }
}

/// Records of so many fields, each field ended by the delimiter.
pub(super) fn records<'a>(
    text: &'a str,
    delimiter: &Delimiter,
    fields: usize,
) -> Vec<Vec<&'a str>> {
    let mut pieces: Vec<&str> = text.split(delimiter.as_str()).collect();
    // What follows the last delimiter: the end of the last line.
    pieces.pop();
    pieces
        .chunks_exact(fields)
        .map(|record| {
            let mut record = record.to_vec();
            record[0] = record[0].trim_start_matches('\n');
            record
        })
        .collect()
}

/// `[DAYS-][[HOURS:]MINUTES:]SECONDS` in seconds.
pub(super) fn duration(text: &str) -> Option<u64> {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let parts = clock.split(':').map(|part| part.parse::<u64>().ok());
    let parts: Vec<u64> = parts.collect::<Option<_>>()?;
    let seconds = parts
        .iter()
        .try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(*part))?;
    let days: u64 = days.parse().ok()?;
    (parts.len() <= 3).then_some(())?;
    days.checked_mul(86_400)?.checked_add(seconds)
}

/// `CODE:SIGNAL`.
pub(super) fn exit_codes(text: &str) -> (Option<i32>, Option<i32>) {
    match text.split_once(':') {
        Some((code, signal)) => (code.parse().ok(), signal.parse().ok()),
        None => (None, None),
    }
}

/// A job without what the caller of this fills in.
pub(super) fn job(id: &str, status: JobStatus, time: JobTime) -> Job {
    Job {
        job_id: id.to_owned(),
        name: String::new(),
        status,
        tasks: Some(Vec::new()),
        time,
        account: None,
        allocation_nodes: 0,
        cluster: String::new(),
        group: None,
        nodes: String::new(),
        partition: String::new(),
        kill_request_user: None,
        user: String::new(),
        working_directory: String::new(),
        priority: None,
    }
}

/// A step of a job.
pub(super) fn task(id: &str, name: &str, status: JobStatus, time: JobTime) -> JobTask {
    JobTask {
        id: id.to_owned(),
        name: name.to_owned(),
        status,
        time,
    }
}

/// A reason: `None` is one of Slurm's words for it.
pub(super) fn reason(text: &str) -> Option<String> {
    if text == "None" {
        Some(text.to_owned())
    } else {
        given(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, state: &str, submitted: u64) -> Row {
        let status = JobStatus {
            state: state.into(),
            state_reason: None,
            exit_code: None,
            interrupt_signal: None,
        };
        let time = JobTime {
            elapsed: None,
            start: None,
            end: None,
            suspended: None,
            limit: None,
        };
        Row {
            job: job(id, status, time),
            submitted: Some(submitted),
        }
    }

    #[test]
    fn the_one_that_knows_more_is_believed() {
        for (history, queue, expected) in [
            ("RUNNING", "RUNNING", "RUNNING"),
            ("PENDING", "RUNNING", "RUNNING"),
            ("RUNNING", "COMPLETED", "COMPLETED"),
            ("PENDING", "FAILED", "FAILED"),
            ("CANCELLED by 7", "CANCELLED", "CANCELLED by 7"),
            ("COMPLETED", "COMPLETING", "COMPLETED"),
            // Requeued.
            ("NODE_FAIL", "PENDING", "PENDING"),
        ] {
            let merged = merge(vec![row("1", history, 0)], vec![row("1", queue, 0)]);
            assert_eq!(merged.len(), 1);
            assert_eq!(merged[0].status.state, expected, "{history} {queue}");
        }
    }

    #[test]
    fn oldest_first() {
        let merged = merge(vec![row("1", "COMPLETED", 5)], vec![row("2", "PENDING", 3)]);
        let ids: Vec<_> = merged.iter().map(|job| job.job_id.as_str()).collect();
        assert_eq!(ids, ["2", "1"]);
    }

    #[test]
    fn delimiters_are_short_and_never_the_same() {
        let (one, other) = (Delimiter::random(), Delimiter::random());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 9);
        assert!(one.as_str().starts_with('\u{1f}'));
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("0:02", Some(2)),
            ("1:00:00", Some(3600)),
            ("2-01:02:03", Some(2 * 86_400 + 3723)),
            ("00:00:00", Some(0)),
            ("UNLIMITED", None),
            ("INVALID", None),
            ("", None),
            ("1:2:3:4", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_name_of_several_is_not_given_to_slurm() {
        let filter = JobFilter {
            name: Some("a,b".into()),
            account: Some("x y".into()),
            ..JobFilter::default()
        };
        let query = JobQuery::recorded(WhichJobs::Fitting(filter));
        assert_eq!(query.options(), ["--account=x y"]);
        let mut one = row("1", "RUNNING", 0).job;
        one.user = "fireuser".into();
        one.account = Some("x y".into());
        one.name = "a,b".into();
        assert!(query.admits(&one));
        one.account = Some("X Y".into());
        assert!(query.admits(&one), "Slurm knows no case of accounts");
        one.name = "a".into();
        assert!(!query.admits(&one));
    }
}
