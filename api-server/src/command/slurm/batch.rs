//! `sbatch`: queues a job.

use super::{SlurmCommand, SlurmError, success, unexpected};
use crate::command::{HIDDEN, ShellLine};
use crate::executor::Output;
use crate::scheduler::{JobDescription, JobId, Script};

/// Queues one job, which was [checked](JobDescription::check), and of which sbatch can
/// inherit what it must; its script goes through standard input.
#[derive(Debug, Clone)]
pub struct Submit(pub JobDescription);

/// Variables that sbatch reads itself, and how such begin: after its manual, and what its library
/// reads before it speaks to a controller. Others of `SLURM_` are for `srun` in the job.
pub(crate) const OWN_VARIABLES: &[&str] = &[
    "LD_",
    "SBATCH_",
    "SLURM_CLUSTERS",
    "SLURM_CONF",
    "SLURM_CONF_SERVER",
    "SLURM_DEBUG_FLAGS",
    "SLURM_EXIT_ERROR",
    "SLURM_HINT",
    "SLURM_HOSTFILE",
    "SLURM_JWT",
    "SLURM_SACK_JWKS",
    "SLURM_SACK_KEY",
    "SLURM_STEP_KILLED_MSG_NODE_ID",
    "SLURM_UMASK",
];

impl SlurmCommand for Submit {
    type Parsed = JobId;

    fn render(&self) -> ShellLine {
        let job = &self.0;
        let (listed, inherited) = job.listed_and_inherited();
        let line = ShellLine::for_a_job();
        let line = match inherited.is_empty() {
            true => line.arg("sbatch"),
            false => inherited
                .into_iter()
                .fold(line, |line, (name, value)| {
                    line.arg_shown_as(&format!("{name}={value}"), &format!("{name}={HIDDEN}"))
                })
                .found("sbatch"),
        };
        let (mut export, mut shown) = ("--export=ALL".to_owned(), "--export=ALL".to_owned());
        for (name, value) in listed {
            export.push_str(&format!(",{name}={value}"));
            shown.push_str(&format!(",{name}={HIDDEN}"));
        }
        let line = line.arg_shown_as(&export, &shown);
        let line = line.arg(format!("--chdir={}", job.working_directory));
        let options = [
            ("partition", &job.partition),
            ("reservation", &job.reservation),
            ("account", &job.account),
            ("job-name", &job.name),
            ("error", &job.standard_error),
            ("output", &job.standard_output),
            ("input", &job.standard_input),
            ("constraint", &job.constraints),
        ];
        let options = options.into_iter().filter_map(|(name, value)| {
            let value = value.as_ref()?;
            Some(format!("--{name}={value}"))
        });
        let line = line.args(options);
        match &job.script {
            Script::Path(path) => line.arg("--").arg(path),
            Script::Text(_) => line,
        }
    }

    fn input(&self) -> &[u8] {
        match &self.0.script {
            Script::Text(text) => text.as_bytes(),
            Script::Path(_) => &[],
        }
    }

    fn read(&self, output: &Output) -> Result<JobId, SlurmError> {
        let stderr = String::from_utf8_lossy(&output.stderr);
        if output.exit_code != Some(0) && names_a_limit(&stderr) {
            return Err(SlurmError::Quota(output.complaint().trim().to_owned()));
        }
        // Also behind what the login shell printed without ending the line.
        let text = success(output)?;
        let mut ids = text
            .split("Submitted batch job ")
            .skip(1)
            .filter_map(|rest| {
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
                JobId::parse(digits?)
            });
        ids.next().ok_or_else(|| unexpected(output))
    }
}

/// Such as `AssocMaxSubmitJobLimit` or `QOSMaxCpuPerUserLimit`.
fn names_a_limit(stderr: &str) -> bool {
    stderr
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| {
            let rest = word
                .strip_prefix("QOS")
                .or_else(|| word.strip_prefix("Assoc"));
            rest.is_some_and(|rest| {
                (rest.starts_with("Max") || rest.starts_with("Min")) && rest.ends_with("Limit")
            })
        })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{failed, printed};
    use super::*;

    fn job(variables: &[(&str, &str)]) -> JobDescription {
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        JobDescription {
            working_directory: "/home/u".into(),
            environment: variables.collect(),
            script: Script::Text("#!/bin/sh\n".into()),
            ..JobDescription::default()
        }
    }

    #[test]
    fn every_field_is_one_word() {
        let mut full = job(&[("A", "1"), ("B", "x,y"), ("C", "it's $HOME")]);
        full.name = Some("a; rm -rf ~".into());
        full.partition = Some("--wrap=id".into());
        let line = Submit(full).render();
        assert_eq!(
            line.as_str(),
            r#"env -u LC_ALL B=x,y 'C=it'\''s $HOME' "$(command -v sbatch || echo sbatch)" --export=ALL,A=1 --chdir=/home/u --partition=--wrap=id '--job-name=a; rm -rf ~'"#
        );
        assert_eq!(
            line.shown(),
            "env -u LC_ALL 'B=***' 'C=***' \"$(command -v sbatch || echo sbatch)\" '--export=ALL,A=***' --chdir=/home/u --partition=--wrap=id '--job-name=a; rm -rf ~'"
        );
        let plain = Submit(job(&[("A", "1")])).render();
        assert!(
            plain
                .as_str()
                .starts_with("env -u LC_ALL sbatch --export=ALL,A=1 ")
        );
        let mut by_path = job(&[]);
        by_path.script = Script::Path("-x".into());
        let submit = Submit(by_path);
        assert!(submit.render().as_str().ends_with(" -- -x"));
        assert_eq!(submit.input(), b"");
    }

    #[test]
    fn what_srun_reads_reaches_the_job_and_what_sbatch_reads_is_refused() {
        let check = |name| job(&[(name, "a:0,2")]).check_inherited("sbatch", OWN_VARIABLES);
        for name in ["SLURM_CPU_BIND", "SLURM_CONFIDENCE", "SLURM", "MY_SBATCH_A"] {
            assert!(check(name).is_ok(), "{name}");
        }
        for name in ["SLURM_CONF", "SLURM_HINT", "SBATCH_QOS", "LD_PRELOAD"] {
            assert!(check(name).is_err(), "{name}");
        }
        let line = Submit(job(&[("SLURM_CPU_BIND", "map_cpu:0,2")])).render();
        let given = "env -u LC_ALL SLURM_CPU_BIND=map_cpu:0,2 ";
        assert!(line.as_str().starts_with(given), "{}", line.as_str());
    }

    #[test]
    fn the_id_or_the_reason() {
        let submit = Submit(job(&[]));
        let read = |output| submit.read(&output);
        let id = JobId::parse("17").unwrap();
        assert_eq!(
            read(printed("Welcome\nSubmitted batch job 17\n")),
            Ok(id.clone())
        );
        assert_eq!(
            read(printed("Submitted batch job 17 on cluster b\n")),
            Ok(id.clone())
        );
        let title = "\u{1b}]0;login01\u{7}Submitted batch job 17\n";
        assert_eq!(read(printed(title)), Ok(id));
        assert!(read(printed("")).is_err());
        let quota = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n";
        assert!(matches!(read(failed(1, quota)), Err(SlurmError::Quota(_))));
        for refusal in [
            "sbatch: error: invalid partition specified: nosuch\n",
            "sbatch: error: lua: no project\nsbatch: error: Batch job submission failed: Access/permission denied\n",
            "sbatch: error: Batch job submission failed: Invalid job id specified\n",
        ] {
            let error = read(failed(1, refusal)).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("Unexpected Slurm command response. exit_status:1 std_err:{refusal}")
            );
        }
    }
}
