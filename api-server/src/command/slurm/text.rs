//! What a job was submitted with: `scontrol show job`, `scontrol write batch_script`, and what
//! `sacct` keeps of it once the controller has forgotten the job.

use super::row::{Delimiter, records};
use super::{SlurmCommand, SlurmError, given, success_for_a_job};
use crate::command::ShellLine;
use crate::executor::Output;
use crate::scheduler::JobId;

/// Asks the controller for the files of a job.
#[derive(Debug, Clone)]
pub struct Show(pub JobId);

/// The files of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownJob {
    /// Its id.
    pub id: String,
    /// Standard input.
    pub input: Option<String>,
    /// Standard output.
    pub output: Option<String>,
    /// Standard error.
    pub error: Option<String>,
}

impl SlurmCommand for Show {
    type Parsed = Vec<ShownJob>;

    fn render(&self) -> ShellLine {
        // Not on one line: these fields stand on lines of their own, whatever is in them.
        ShellLine::new("scontrol").args(["show", "job", self.0.as_str()])
    }

    fn read(&self, output: &Output) -> Result<Vec<ShownJob>, SlurmError> {
        let text = success_for_a_job(output)?;
        let mut jobs: Vec<ShownJob> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("JobId=") {
                let id = rest.split(' ').next().unwrap_or_default().to_owned();
                jobs.push(ShownJob {
                    id,
                    input: None,
                    output: None,
                    error: None,
                });
            }
            let (Some(job), Some((key, value))) =
                (jobs.last_mut(), line.trim_start().split_once('='))
            else {
                continue;
            };
            match key {
                "StdIn" => job.input = given(value),
                "StdOut" => job.output = given(value),
                "StdErr" => job.error = given(value),
                _ => {}
            }
        }
        Ok(jobs)
    }
}

/// Asks the controller for the script of a job.
#[derive(Debug, Clone)]
pub struct BatchScript(pub JobId);

impl SlurmCommand for BatchScript {
    type Parsed = Option<String>;

    fn render(&self) -> ShellLine {
        ShellLine::new("scontrol").args(["write", "batch_script", self.0.as_str(), "-"])
    }

    /// Only the owner may read it, and an interactive job has none.
    fn read(&self, output: &Output) -> Result<Option<String>, SlurmError> {
        Ok(success_for_a_job(output)
            .ok()
            .filter(|text| !text.is_empty()))
    }
}

/// Asks the accounts for the files of a job: Slurm 24.05 and newer.
#[derive(Debug, Clone)]
pub struct StoredFiles(pub JobId, pub Delimiter);

const STORED_FIELDS: usize = 6;

impl SlurmCommand for StoredFiles {
    type Parsed = Vec<ShownJob>;

    fn render(&self) -> ShellLine {
        ShellLine::new("sacct")
            .args(["--parsable", "--noheader", "--allocations"])
            .arg(format!("--delimiter={}", self.1.as_str()))
            .arg(format!("--jobs={}", self.0.as_str()))
            .arg("--format=JobID,JobName,StdIn,StdOut,StdErr,WorkDir")
    }

    fn read(&self, output: &Output) -> Result<Vec<ShownJob>, SlurmError> {
        let text = success_for_a_job(output)?;
        let jobs = records(&text, &self.1, STORED_FIELDS)
            .into_iter()
            .map(|record| {
                let [id, _, input, output, error, directory] = record[..] else {
                    // records() makes them of this length.
                    return None;
                };
                let place = |path: &str| given(path).map(|path| placed(&path, id, directory));
                Some(ShownJob {
                    id: id.to_owned(),
                    input: place(input),
                    output: place(output),
                    error: place(error),
                })
            });
        Ok(jobs.flatten().collect())
    }
}

/// The accounts keep file names as they were given.
fn placed(path: &str, id: &str, directory: &str) -> String {
    let path = path.replace("%j", id);
    match path.starts_with('/') {
        true => path,
        false => format!("{}/{path}", directory.trim_end_matches('/')),
    }
}

/// Asks the accounts for the scripts of a job.
#[derive(Debug, Clone)]
pub struct StoredScript(pub JobId);

impl SlurmCommand for StoredScript {
    /// By job id.
    type Parsed = Vec<(String, Option<String>)>;

    fn render(&self) -> ShellLine {
        ShellLine::new("sacct").args(["--jobs", self.0.as_str(), "--batch-script"])
    }

    fn read(&self, output: &Output) -> Result<Self::Parsed, SlurmError> {
        let text = success_for_a_job(output)?;
        let mut scripts: Vec<(String, String)> = Vec::new();
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let id = line.trim_end().strip_prefix("Batch Script for ");
            let rule = lines.peek().is_some_and(|next| is_rule(next));
            match (id, scripts.last_mut()) {
                (Some(id), _) if rule => {
                    lines.next();
                    scripts.push((id.to_owned(), String::new()));
                }
                (_, Some((_, script))) => script.push_str(line),
                _ => {}
            }
        }
        let kept = |script: String| {
            // One line feed is added behind each.
            let script = script.strip_suffix('\n').unwrap_or(&script).to_owned();
            (!script.is_empty() && script.trim_end() != "NONE").then_some(script)
        };
        Ok(scripts
            .into_iter()
            .map(|(id, script)| (id, kept(script)))
            .collect())
    }
}

fn is_rule(line: &str) -> bool {
    let line = line.trim_end();
    line.len() == 80 && line.bytes().all(|b| b == b'-')
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{failed, printed};
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).unwrap()
    }

    #[test]
    fn files_of_a_job_and_of_an_array() {
        let text = include_str!("../../../testdata/slurm22.05/showjob.txt");
        let shown = Show(id("5")).read(&printed(text)).unwrap();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].id, "5");
        assert_eq!(
            shown[0].output.as_deref(),
            Some("/home/fireuser/slurm-5.out")
        );
        assert_eq!(shown[0].input.as_deref(), Some("/dev/null"));
        let array = include_str!("../../../testdata/slurm22.05/showarray.txt");
        assert_eq!(Show(id("6")).read(&printed(array)).unwrap().len(), 3);
        let unknown = failed(1, "slurm_load_jobs error: Invalid job id specified\n");
        assert_eq!(Show(id("9")).read(&unknown), Err(SlurmError::NoJob));
    }

    #[test]
    fn a_path_may_hold_blanks_and_equal_signs() {
        let text = "JobId=1 JobName=x\n   StdErr=/a b/Power=1\n   StdIn=/dev/null\n   StdOut=/c\n";
        let shown = Show(id("1")).read(&printed(text)).unwrap();
        assert_eq!(shown[0].error.as_deref(), Some("/a b/Power=1"));
    }

    #[test]
    fn stored_scripts() {
        let text = include_str!("../../../testdata/slurm22.05/stored.txt");
        let scripts = StoredScript(id("4")).read(&printed(text)).unwrap();
        let ids: Vec<_> = scripts.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["4", "6_1", "6_2", "6_3"]);
        assert_eq!(
            scripts[0].1.as_deref(),
            Some("#!/bin/sh\necho hi; exit 3\n")
        );
        assert_eq!(scripts[3].1.as_deref(), Some("#!/bin/sh\nsleep 1\n"));
        let rule = "-".repeat(80);
        let none = format!("Batch Script for 7\n{rule}\nNONE\n\n");
        let scripts = StoredScript(id("7")).read(&printed(&none)).unwrap();
        assert_eq!(scripts, [("7".to_owned(), None)]);
    }

    #[test]
    fn stored_files_are_placed() {
        let delimiter = Delimiter::recorded();
        let d = delimiter.as_str();
        let text = format!("8{d}n{d}/dev/null{d}out-%j{d}{d}/home/u/{d}\n");
        let stored = StoredFiles(id("8"), delimiter.clone())
            .read(&printed(&text))
            .unwrap();
        assert_eq!(stored[0].output.as_deref(), Some("/home/u/out-8"));
        assert_eq!(stored[0].error, None);
    }
}
