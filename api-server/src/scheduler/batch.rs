//! What the `local` scheduler reads in a batch script: its interpreter and some of its `#SBATCH`
//! lines.

use std::time::Duration;

use super::JobDescription;
use super::sbatch::{Asked, OpenQuote, asked};

/// Why a text is no batch script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The first line does not name an interpreter.
    #[error("the script does not begin with a line #! and the path of an interpreter")]
    NoInterpreter,
    /// `#SBATCH --time` is not a time.
    #[error("the time limit in #SBATCH --time is not valid")]
    BadTimeLimit,
    /// An option of an `#SBATCH` line that is read has no value.
    #[error("#SBATCH --{option} in the script lacks a value")]
    NoValue {
        /// Which one, by its long name.
        option: &'static str,
    },
    /// A quote in an `#SBATCH` line is not closed.
    #[error("a quote in an #SBATCH line of the script is not closed")]
    OpenQuote,
    /// Scripts are text.
    #[error("the script contains a NUL character")]
    Nul,
}

impl From<OpenQuote> for BatchError {
    fn from(_: OpenQuote) -> Self {
        Self::OpenQuote
    }
}

/// What a script says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Program and at most one argument, as the kernel reads a `#!` line.
    pub(super) interpreter: Vec<String>,
    /// Time it asks for.
    pub(super) time_limit: Option<Duration>,
    name: Option<String>,
    standard_input: Option<String>,
    standard_output: Option<String>,
    standard_error: Option<String>,
}

impl Batch {
    pub(super) fn parse(script: &str) -> Result<Self, BatchError> {
        if script.contains('\0') {
            return Err(BatchError::Nul);
        }
        let first = script
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("#!"))
            .map(str::trim);
        let first = first
            .filter(|line| line.starts_with('/'))
            .ok_or(BatchError::NoInterpreter)?;
        let interpreter = first
            .splitn(2, [' ', '\t'])
            .map(|w| w.trim().to_owned())
            .collect();
        let mut batch = Self {
            interpreter,
            ..Self::default()
        };
        for asked in asked(script)? {
            // Others have no meaning on one machine.
            if let Asked::Option { name, value } = asked {
                batch.take(&name, value)?;
            }
        }
        Ok(batch)
    }

    /// A later line replaces an earlier one.
    fn take(&mut self, name: &str, value: Option<String>) -> Result<(), BatchError> {
        let (option, place) = match name {
            "time" => {
                let text = value.as_deref().unwrap_or_default();
                self.time_limit = parse_time_limit(text);
                return match self.time_limit.is_some() || is_no_time_limit(text) {
                    true => Ok(()),
                    false => Err(BatchError::BadTimeLimit),
                };
            }
            "job-name" => ("job-name", &mut self.name),
            "input" => ("input", &mut self.standard_input),
            "output" => ("output", &mut self.standard_output),
            "error" => ("error", &mut self.standard_error),
            _ => return Ok(()),
        };
        let value = value.filter(|value| !value.is_empty());
        *place = Some(value.ok_or(BatchError::NoValue { option })?);
        Ok(())
    }

    /// Gives a job what its script asks for, unless the request says it: for Slurm, that is a
    /// command line, which wins. It always says the directory.
    pub(super) fn add_to(&mut self, job: &mut JobDescription) {
        let places = [
            (&mut job.name, &mut self.name),
            (&mut job.standard_input, &mut self.standard_input),
            (&mut job.standard_output, &mut self.standard_output),
            (&mut job.standard_error, &mut self.standard_error),
        ];
        for (place, value) in places {
            *place = place.take().or_else(|| value.take());
        }
    }
}

/// Slurm's times: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`. `None` when it is none.
pub fn parse_time_limit(text: &str) -> Option<Duration> {
    let seconds = seconds(text)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Whether a text asks for no limit, as Slurm reads it.
pub fn is_no_time_limit(text: &str) -> bool {
    let words = ["-1", "infinite", "unlimited"];
    words.iter().any(|word| text.eq_ignore_ascii_case(word)) || seconds(text) == Some(0)
}

fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(number(days)?), clock),
        None => (None, text),
    };
    let parts = clock.split(':').map(number).collect::<Option<Vec<u64>>>()?;
    let (hours, minutes, seconds) = match (days, parts[..].as_ref()) {
        (None, [m]) => (0, *m, 0),
        (None, [m, s]) => (0, *m, *s),
        (None | Some(_), [h, m, s]) => (*h, *m, *s),
        (Some(_), [h]) => (*h, 0, 0),
        (Some(_), [h, m]) => (*h, *m, 0),
        _ => return None,
    };
    Some(days.unwrap_or(0) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

/// At most nine digits, so that sums cannot overflow.
fn number(text: &str) -> Option<u64> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits() {
        let seconds = |text| parse_time_limit(text).map(|d| d.as_secs());
        for (text, expected) in [
            ("5", 300),
            ("1:30", 90),
            ("01:00:00", 3600),
            ("1-0", 86_400),
            ("0-00:15:00", 900),
            ("2-03:04", 2 * 86_400 + 3 * 3600 + 4 * 60),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "x",
            "1:2:3:4",
            "-1",
            "0",
            "1-",
            "9999999999",
            "1-2-3",
            "+1",
        ] {
            assert_eq!(seconds(text), None, "{text}");
            assert_eq!(
                is_no_time_limit(text),
                ["-1", "0"].contains(&text),
                "{text}"
            );
        }
        for text in ["0", "0:00", "0-00:00:00", "UNLIMITED", "infinite"] {
            assert!(is_no_time_limit(text), "{text}");
            let script = format!("#!/bin/sh\n#SBATCH --time={text}\n");
            assert_eq!(Batch::parse(&script).unwrap().time_limit, None);
        }
    }

    #[test]
    fn scripts() {
        let batch = Batch::parse("#!/bin/bash -l\n#SBATCH --nodes=1\n\n#SBATCH -t 2\necho\n");
        let batch = batch.unwrap();
        assert_eq!(batch.interpreter, ["/bin/bash", "-l"]);
        assert_eq!(batch.time_limit, Some(Duration::from_secs(120)));
        let late = Batch::parse("#!/bin/sh\necho\n#SBATCH --time=1\n").unwrap();
        assert_eq!(late.time_limit, None);
        assert_eq!(Batch::parse("echo\n"), Err(BatchError::NoInterpreter));
        assert_eq!(Batch::parse(""), Err(BatchError::NoInterpreter));
        for (line, error) in [
            ("--time=soon", BatchError::BadTimeLimit),
            ("--time", BatchError::BadTimeLimit),
            ("-J", BatchError::NoValue { option: "job-name" }),
            ("--output=", BatchError::NoValue { option: "output" }),
            ("--comment='", BatchError::OpenQuote),
        ] {
            let bad = Batch::parse(&format!("#!/bin/sh\n#SBATCH {line}\n"));
            assert_eq!(bad, Err(error), "{line}");
        }
    }

    #[test]
    fn what_the_request_says_wins() {
        let script = "#!/bin/sh\n#SBATCH -J first\n#SBATCH -J script -D /script --input in\n\
                      #SBATCH --output=out -e err --gres=gpu:1 --new-flag\n";
        let given = |job: JobDescription| {
            let mut job = job;
            Batch::parse(script).unwrap().add_to(&mut job);
            let texts = [
                job.name,
                job.standard_input,
                job.standard_output,
                job.standard_error,
            ];
            texts.map(Option::unwrap)
        };
        let all = ["script", "in", "out", "err"];
        assert_eq!(given(JobDescription::default()), all);
        let job = JobDescription {
            name: Some("asked".into()),
            standard_output: Some("asked.out".into()),
            ..JobDescription::default()
        };
        assert_eq!(given(job), ["asked", "in", "asked.out", "err"]);
    }
}
