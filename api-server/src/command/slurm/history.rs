//! `sacct`: jobs as the accounts know them, with their steps.

use super::row::{self, Fields, JobQuery, Row, WhichJobs};
use super::{SlurmCommand, SlurmError, with_unix_times};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::model::jobs::{JobStatus, JobTask, JobTime};

/// Asks the accounts.
#[derive(Debug, Clone)]
pub struct History(pub JobQuery);

const FIELDS: &str = "JobID,AllocNodes,Cluster,ExitCode,Group,Account,JobName,NodeList,Partition,Priority,State,Reason,ElapsedRaw,Submit,Start,End,Suspended,TimelimitRaw,User,WorkDir";
const FIELD_COUNT: usize = 20;

impl SlurmCommand for History {
    type Parsed = Vec<Row>;

    fn render(&self) -> ShellLine {
        let line = with_unix_times("sacct").args(["--parsable", "--noheader"]);
        let line = line.arg(format!("--delimiter={}", self.0.delimiter.as_str()));
        let line = line
            .arg(format!("--format={FIELDS}"))
            .args(self.0.options());
        match &self.0.which {
            WhichJobs::One(_) => line.arg("--allusers"),
            WhichJobs::Fitting(filter) => {
                let line = line.arg(format!("--starttime=now-{}seconds", filter.history_seconds));
                if filter.all_users {
                    line.arg("--allusers")
                } else {
                    line
                }
            }
        }
    }

    fn read(&self, output: &Output) -> Result<Vec<Row>, SlurmError> {
        // A system without accounts still has a queue.
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("accounting storage is disabled") {
            return Ok(Vec::new());
        }
        let text = match self.0.text(output) {
            Err(SlurmError::NoJob) => return Ok(Vec::new()),
            text => text?,
        };
        let mut rows: Vec<Row> = Vec::new();
        for record in row::records(&text, &self.0.delimiter, FIELD_COUNT) {
            let fields = Fields(&record);
            match fields.text(0).split_once('.') {
                None => rows.push(job(&fields)),
                Some((id, _)) => add_step(&mut rows, id, step(&fields)),
            }
        }
        rows.retain(|row| self.0.admits(&row.job));
        Ok(rows)
    }
}

fn add_step(rows: &mut [Row], id: &str, step: JobTask) {
    let owner = rows.iter_mut().rev().find(|row| row.job.job_id == id);
    if let Some(tasks) = owner.and_then(|row| row.job.tasks.as_mut()) {
        tasks.push(step);
    }
}

fn job(fields: &Fields<'_>) -> Row {
    let minutes = fields.number(17);
    let job = row::job(
        fields.text(0),
        status(fields),
        time(fields, minutes.map(|m| m * 60)),
    );
    row::row(job, fields, 18)
}

fn step(fields: &Fields<'_>) -> JobTask {
    row::task(
        fields.text(0),
        fields.text(6),
        status(fields),
        time(fields, None),
    )
}

fn status(fields: &Fields<'_>) -> JobStatus {
    let (exit_code, interrupt_signal) = row::exit_codes(fields.text(3));
    JobStatus {
        state: fields.text(10).to_owned(),
        state_reason: row::reason(fields.text(11)),
        exit_code,
        interrupt_signal,
    }
}

fn time(fields: &Fields<'_>, limit: Option<u64>) -> JobTime {
    JobTime {
        elapsed: fields.number(12),
        start: fields.number(14),
        end: fields.number(15),
        suspended: row::duration(fields.text(16)),
        limit,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{failed, printed};
    use super::*;
    use crate::scheduler::{JobFilter, JobId};

    fn one() -> History {
        let which = WhichJobs::One(JobId::parse("3").unwrap());
        History(JobQuery::recorded(which))
    }

    fn all() -> History {
        let filter = JobFilter {
            all_users: true,
            ..JobFilter::default()
        };
        History(JobQuery::recorded(WhichJobs::Fitting(filter)))
    }

    #[test]
    fn of_one_job_no_other_is_shown() {
        let text = include_str!("../../../testdata/slurm22.05/sacct.txt");
        let ids = |asked: &str| {
            let which = WhichJobs::One(JobId::parse(asked).unwrap());
            let rows = History(JobQuery::recorded(which)).read(&printed(text));
            let rows = rows.unwrap().into_iter().map(|row| row.job.job_id);
            rows.collect::<Vec<_>>()
        };
        // The task of the array may have the number that was asked for.
        assert_eq!(ids("3"), ["3", "6_1"]);
        assert_eq!(ids("0009"), ["6_1", "9"]);
    }

    #[test]
    fn jobs_of_slurm_22_05_with_their_steps() {
        let text = include_str!("../../../testdata/slurm22.05/sacct.txt");
        let rows = all().read(&printed(text)).unwrap();
        let ids: Vec<_> = rows.iter().map(|row| row.job.job_id.as_str()).collect();
        assert_eq!(ids, ["3", "4", "6_1", "9"]);
        assert_eq!(rows[0].job.name, "a|b c");
        assert_eq!(rows[3].job.name, "nl\nx");
        let failed = &rows[1].job;
        assert_eq!(
            (failed.status.state.as_str(), failed.status.exit_code),
            ("FAILED", Some(3))
        );
        assert_eq!(failed.time.limit, Some(3600));
        let tasks = failed.tasks.as_ref().unwrap();
        assert_eq!((tasks.len(), tasks[0].id.as_str()), (1, "4.batch"));
        assert_eq!(
            (tasks[0].time.limit, tasks[0].status.state_reason.as_deref()),
            (None, None)
        );
        assert_eq!(rows[0].job.time.elapsed, Some(60));
    }

    #[test]
    fn no_accounts_and_no_job_are_no_failures() {
        let none = failed(1, "Slurm accounting storage is disabled\n");
        assert_eq!(one().read(&none), Ok(Vec::new()));
        let fatal = failed(1, "sacct: fatal: Bad job/step specified: abc\n");
        assert!(one().read(&fatal).is_err());
    }

    #[test]
    fn a_list_is_the_callers_own_and_recent() {
        let filter = JobFilter {
            history_seconds: 3600,
            ..JobFilter::default()
        };
        let history = History(JobQuery::recorded(WhichJobs::Fitting(filter)));
        let line = history.render();
        assert!(line.as_str().contains("--starttime=now-3600seconds"));
        assert!(!line.as_str().contains("--allusers"));
        assert!(one().render().as_str().ends_with("--jobs=3 --allusers"));
    }
}
