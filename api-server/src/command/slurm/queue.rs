//! `squeue`: jobs as the controller knows them, also those that ended a moment ago.

use super::row::{self, Fields, JobQuery, Row, WhichJobs};
use super::{SlurmCommand, SlurmError, with_unix_times};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::model::jobs::{JobStatus, JobTime};
use crate::scheduler::phase::Phase;

/// Asks the controller.
#[derive(Debug, Clone)]
pub struct Queue(pub JobQuery);

const FIELDS: &[&str] = &[
    "JobArrayID",
    "NumNodes",
    "Cluster",
    "exit_code",
    "GroupName",
    "Account",
    "Name",
    "NodeList",
    "Partition",
    "PriorityLong",
    "State",
    "Reason",
    "TimeUsed",
    "SubmitTime",
    "StartTime",
    "EndTime",
    "TimeLimit",
    "UserName",
    "WorkDir",
];

impl SlurmCommand for Queue {
    type Parsed = Vec<Row>;

    fn render(&self) -> ShellLine {
        let delimiter = self.0.delimiter.as_str();
        let fields = FIELDS.iter().map(|field| format!("{field}:{delimiter}"));
        let format = fields.collect::<Vec<_>>().join(",");
        let line = with_unix_times("squeue").args(["--noheader", "--all", "--states=all"]);
        let line = line
            .arg(format!("--Format={format}"))
            .args(self.0.options());
        match &self.0.which {
            WhichJobs::Fitting(filter) if !filter.all_users => {
                line.arg(format!("--user={}", self.0.user))
            }
            _ => line,
        }
    }

    fn read(&self, output: &Output) -> Result<Vec<Row>, SlurmError> {
        let text = match self.0.text(output) {
            Err(SlurmError::NoJob) => return Ok(Vec::new()),
            text => text?,
        };
        let records = row::records(&text, &self.0.delimiter, FIELDS.len());
        let mut rows: Vec<Row> = records.iter().map(|record| job(&Fields(record))).collect();
        rows.retain(|row| self.0.admits(&row.job));
        Ok(rows)
    }
}

fn job(fields: &Fields<'_>) -> Row {
    let state = fields.text(10);
    let phase = Phase::of_slurm(state);
    // Before the end it means nothing.
    let (exit_code, interrupt_signal) = match phase.has_ended() {
        true => end(fields.text(3)),
        false => (None, None),
    };
    let status = JobStatus {
        state: state.to_owned(),
        state_reason: row::reason(fields.text(11)),
        exit_code,
        interrupt_signal,
    };
    let time = JobTime {
        elapsed: row::duration(fields.text(12)),
        start: fields.number(14),
        // Of one that runs, when its limit will be reached.
        end: fields.number(15).filter(|_| phase != Phase::Running),
        suspended: None,
        limit: row::duration(fields.text(16)),
    };
    let job = row::job(fields.text(0), status, time);
    row::row(job, fields, 17)
}

/// How a job ended, status and signal: `3:0`, or in older versions what wait(2) reported.
fn end(text: &str) -> (Option<i32>, Option<i32>) {
    let Ok(wait) = text.parse::<u64>() else {
        return row::exit_codes(text);
    };
    let byte = |number: u64| i32::try_from(number).ok();
    (byte(wait >> 8 & 0xff), byte(wait & 0x7f))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{failed, printed};
    use super::*;
    use crate::scheduler::{JobFilter, JobId};

    fn all() -> Queue {
        let filter = JobFilter {
            all_users: true,
            ..JobFilter::default()
        };
        Queue(JobQuery::recorded(WhichJobs::Fitting(filter)))
    }

    #[test]
    fn jobs_of_slurm_22_05() {
        let text = include_str!("../../../testdata/slurm22.05/squeue.txt");
        let rows = all().read(&printed(text)).unwrap();
        let find = |id: &str| &rows.iter().find(|row| row.job.job_id == id).unwrap().job;
        assert_eq!(find("3").name, "a|b c");
        assert_eq!(find("9").name, "nl\nx");
        assert_eq!(find("6_1").status.state, "COMPLETED");
        let failed = &find("4").status;
        assert_eq!(
            (failed.exit_code, failed.interrupt_signal),
            (Some(3), Some(0))
        );
        let killed = &find("10").status;
        assert_eq!(
            (killed.exit_code, killed.interrupt_signal),
            (Some(0), Some(9))
        );
        let waiting = find("5");
        assert_eq!(waiting.status.state_reason.as_deref(), Some("BeginTime"));
        assert_eq!(
            (waiting.status.exit_code, waiting.time.limit),
            (None, Some(3600))
        );
    }

    #[test]
    fn a_name_cannot_hold_the_delimiter_of_a_question() {
        let random = || {
            let mut query = all();
            query.0.delimiter = row::Delimiter::random();
            query
        };
        let (asked, other) = (random(), random());
        let ids = |of: &Queue, delimiter: &str| {
            let text = include_str!("../../../testdata/slurm22.05/squeue.txt");
            let text = text
                .replace('\u{1f}', delimiter)
                .replace("a|b c", "x\u{1f}y");
            let rows = of.read(&printed(&text)).unwrap();
            let named = rows.iter().filter(|row| row.job.name == "x\u{1f}y");
            (rows.len(), named.count())
        };
        let recorded = all().read(&printed(include_str!(
            "../../../testdata/slurm22.05/squeue.txt"
        )));
        let delimiter = asked.0.delimiter.as_str();
        assert_eq!(ids(&asked, delimiter), (recorded.unwrap().len(), 1));
        assert_eq!(ids(&other, delimiter), (0, 0));
        assert!(asked.render().as_str().contains(delimiter));
    }

    #[test]
    fn an_unknown_job_is_no_row() {
        let unknown = failed(1, "slurm_load_jobs error: Invalid job id specified\n");
        let one = WhichJobs::One(JobId::parse("999").unwrap());
        let one = Queue(JobQuery::recorded(one));
        assert_eq!(one.read(&unknown), Ok(Vec::new()));
        assert!(all().read(&unknown).is_err(), "nobody asked for one");
        let down = failed(
            1,
            "slurm_load_jobs error: Unable to contact slurm controller\n",
        );
        assert!(all().read(&down).is_err());
    }

    #[test]
    fn another_users_rows_are_left_out_whatever_the_user_is_called() {
        let text = include_str!("../../../testdata/slurm22.05/squeue.txt");
        let mut query = JobQuery::recorded(WhichJobs::Fitting(JobFilter::default()));
        query.user = "x,fireuser".into();
        let queue = Queue(query);
        assert!(queue.render().as_str().contains("--user=x,fireuser"));
        assert_eq!(queue.read(&printed(text)), Ok(Vec::new()));
        let one = WhichJobs::One(JobId::parse("1").unwrap());
        let line = Queue(JobQuery::recorded(one)).render();
        assert!(!line.as_str().contains("--user"));
    }
}
