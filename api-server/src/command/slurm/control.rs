//! `scancel`, `srun`, `scontrol ping`.

use super::{SlurmCommand, SlurmError, of_a_job, success, unexpected};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::scheduler::{self, JobId};

/// Ends a job.
#[derive(Debug, Clone)]
pub struct Cancel(pub JobId);

impl SlurmCommand for Cancel {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("scancel").args(["--verbose", self.0.as_str()])
    }

    /// It exits with 0 when it could not, too; what it says counts.
    fn read(&self, output: &Output) -> Result<(), SlurmError> {
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.exit_code {
            Some(0) if !stderr.contains("error:") => Ok(()),
            _ => Err(of_a_job(&stderr).unwrap_or_else(|| unexpected(output))),
        }
    }
}

/// Runs a command inside of a running job, beside what runs there.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Which job.
    pub job: JobId,
    /// For the shell of the job's node; the login node's does not see it.
    pub command: String,
}

impl SlurmCommand for Attach {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        let job = format!("--jobid={}", self.job.as_str());
        ShellLine::for_a_job()
            .arg("srun")
            .args([&job, "--overlap", "sh", "-c", &self.command])
    }

    fn read(&self, output: &Output) -> Result<(), SlurmError> {
        success(output).map(drop).map_err(|error| {
            // The other lines are the command's own.
            let stderr = String::from_utf8_lossy(&output.stderr);
            let mut lines = stderr
                .lines()
                .filter(|line| line.starts_with("srun: error:"));
            lines.find_map(of_a_job).unwrap_or(error)
        })
    }
}

/// Asks which controllers answer.
#[derive(Debug, Clone, Copy)]
pub struct Ping;

impl SlurmCommand for Ping {
    type Parsed = Vec<scheduler::Ping>;

    fn render(&self) -> ShellLine {
        ShellLine::new("scontrol").arg("ping")
    }

    fn read(&self, output: &Output) -> Result<Vec<scheduler::Ping>, SlurmError> {
        // It exits with 1 when a backup is down, having told of each.
        let text = String::from_utf8_lossy(&output.stdout);
        let pings: Vec<_> = text.lines().filter_map(ping).collect();
        if pings.is_empty() {
            Err(unexpected(output))
        } else {
            Ok(pings)
        }
    }
}

/// `Slurmctld(primary) at host is UP`.
fn ping(line: &str) -> Option<scheduler::Ping> {
    let (mode, rest) = line
        .trim()
        .strip_prefix("Slurmctld(")?
        .split_once(") at ")?;
    let (hostname, pinged) = rest.rsplit_once(" is ")?;
    Some(scheduler::Ping {
        mode: Some(mode.to_owned()),
        hostname: Some(hostname.to_owned()),
        pinged: pinged.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{failed, printed};
    use super::*;

    fn id() -> JobId {
        JobId::parse("5").unwrap()
    }

    #[test]
    fn why_a_job_was_not_cancelled() {
        let cancel = Cancel(id());
        let said = |code, text: &str| {
            cancel.read(&failed(
                code,
                &format!("scancel: Terminating job 5\n{text}"),
            ))
        };
        assert_eq!(said(0, ""), Ok(()));
        let error = "scancel: error: Kill job error on job id 5: ";
        for (code, words, expected) in [
            (0, "Invalid job id specified\n", SlurmError::NoJob),
            (210, "Access/permission denied\n", SlurmError::Denied),
            (
                0,
                "Job/step already completing or completed\n",
                SlurmError::Ended,
            ),
        ] {
            assert_eq!(said(code, &format!("{error}{words}")), Err(expected));
        }
        assert!(said(0, "scancel: error: no controller").is_err());
    }

    #[test]
    fn a_command_is_one_word() {
        let attach = Attach {
            job: id(),
            command: "echo $HOME; id > 'x y'".into(),
        };
        assert_eq!(
            attach.render().as_str(),
            r"env -u LC_ALL srun --jobid=5 --overlap sh -c 'echo $HOME; id > '\''x y'\'''"
        );
        let unknown =
            "srun: error: Unable to confirm allocation for job 5: Invalid job id specified\n";
        assert_eq!(attach.read(&failed(1, unknown)), Err(SlurmError::NoJob));
        // Not Slurm's words.
        let own = attach.read(&failed(1, "tool: Access/permission denied\n"));
        assert!(matches!(own, Err(SlurmError::Unexpected { .. })));
    }

    #[test]
    fn pings() {
        let text = include_str!("../../../testdata/slurm22.05/ping.txt");
        let pings = Ping.read(&printed(text)).unwrap();
        assert_eq!(
            (pings[0].mode.as_deref(), pings[0].pinged.as_str()),
            (Some("primary"), "UP")
        );
        let down = Output {
            exit_code: Some(1),
            ..printed("Slurmctld(primary) at a is UP\nSlurmctld(backup) at b is DOWN\n")
        };
        assert_eq!(Ping.read(&down).unwrap()[1].pinged, "DOWN");
        assert!(Ping.read(&printed("")).is_err());
    }
}
