//! What the `local` scheduler reads in a batch script: its interpreter and time limit.

use std::time::Duration;

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
    /// Scripts are text.
    #[error("the script contains a NUL character")]
    Nul,
}

/// What a script says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// Program and at most one argument, as the kernel reads a `#!` line.
    pub(super) interpreter: Vec<String>,
    /// Time it asks for.
    pub(super) time_limit: Option<Duration>,
}

impl Batch {
    pub(super) fn parse(script: &str) -> Result<Self, BatchError> {
        if script.contains('\0') {
            return Err(BatchError::Nul);
        }
        let mut lines = script.lines();
        let first = lines
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
        // As sbatch: directives end at the first line that is neither comment nor blank.
        let header = lines
            .map(str::trim)
            .take_while(|l| l.is_empty() || l.starts_with('#'));
        let mut time_limit = None;
        for line in header.filter_map(|line| line.strip_prefix("#SBATCH")) {
            if let Some(text) = time_option(line) {
                time_limit = Some(parse_time_limit(text).ok_or(BatchError::BadTimeLimit)?);
            }
        }
        Ok(Self {
            interpreter,
            time_limit,
        })
    }
}

fn time_option(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    while let Some(word) = words.next() {
        if word == "--time" || word == "-t" {
            return Some(words.next().unwrap_or_default());
        }
        if let Some(text) = word
            .strip_prefix("--time=")
            .or_else(|| word.strip_prefix("-t"))
        {
            return Some(text);
        }
    }
    None
}

/// Slurm's times: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`. `None` when it is none.
pub fn parse_time_limit(text: &str) -> Option<Duration> {
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
    let total = days.unwrap_or(0) * 86_400 + hours * 3600 + minutes * 60 + seconds;
    (total > 0).then(|| Duration::from_secs(total))
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
        let bad = Batch::parse("#!/bin/sh\n#SBATCH --time=soon\n");
        assert_eq!(bad, Err(BatchError::BadTimeLimit));
    }
}
