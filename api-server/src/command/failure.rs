//! Foreign error text, sorted: exit status and stderr (under `LC_ALL=C`) to a typed error.

use crate::executor::{ExecError, Output};

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It could not run, or exceeded a limit.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It ran and failed. The wording is what existing clients search for.
    #[error("{}", failure_text(*exit_code, stderr))]
    Failed {
        /// What went wrong, as far as its words tell.
        kind: FailureKind,
        /// Exit status; 128 + n when signal n ended it.
        exit_code: i32,
        /// What it said.
        stderr: String,
    },
    /// It ran, and printed something this program does not understand.
    #[error("Unexpected output of {program}")]
    Unparsable {
        /// Which program.
        program: &'static str,
    },
}

/// What a failed command means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Stopped by `timeout`.
    Timeout,
    /// A file or directory is missing.
    NotFound,
    /// The user may not.
    PermissionDenied,
    /// The target is there already.
    Exists,
    /// No such user or group.
    InvalidUser,
    /// Anything else.
    Other,
}

impl CommandError {
    /// Sorts the output of a run that did not exit with 0.
    pub fn from_output(output: &Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let exit_code = output
            .exit_code
            .or_else(|| output.signal.map(|s| 128 + s))
            .unwrap_or(-1);
        Self::Failed {
            kind: FailureKind::sort(exit_code, &stderr),
            exit_code,
            stderr,
        }
    }

    /// Whether a file or directory was missing.
    pub fn is_not_found(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                kind: FailureKind::NotFound,
                ..
            }
        )
    }
}

impl FailureKind {
    fn sort(exit_code: i32, stderr: &str) -> Self {
        const WORDS: &[(&str, FailureKind)] = &[
            ("No such file or directory", FailureKind::NotFound),
            ("Permission denied", FailureKind::PermissionDenied),
            ("Operation not permitted", FailureKind::PermissionDenied),
            ("File exists", FailureKind::Exists),
            ("invalid user", FailureKind::InvalidUser),
        ];
        if exit_code == 124 {
            return Self::Timeout;
        }
        WORDS
            .iter()
            .find(|(word, _)| stderr.contains(word))
            .map_or(Self::Other, |(_, kind)| *kind)
    }
}

fn failure_text(exit_code: i32, stderr: &str) -> String {
    let status = format!("Remote process failed with exit status:{exit_code}");
    if stderr.is_empty() {
        status
    } else {
        format!("{status} and error message:{stderr}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: i32, stderr: &str) -> (FailureKind, String) {
        let output = Output {
            exit_code: Some(code),
            signal: None,
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
        };
        let error = CommandError::from_output(&output);
        let CommandError::Failed { kind, .. } = &error else {
            panic!("{error:?}")
        };
        (*kind, error.to_string())
    }

    #[test]
    fn words_decide_and_the_text_is_kept() {
        let text = "stat: cannot statx '/x': No such file or directory";
        assert_eq!(
            failed(1, &format!("{text}\n")),
            (
                FailureKind::NotFound,
                format!("Remote process failed with exit status:1 and error message:{text}")
            )
        );
        assert_eq!(
            failed(1, "ls: x: Permission denied").0,
            FailureKind::PermissionDenied
        );
        assert_eq!(failed(1, "mkdir: x: File exists").0, FailureKind::Exists);
        assert_eq!(
            failed(124, ""),
            (
                FailureKind::Timeout,
                "Remote process failed with exit status:124".into()
            )
        );
    }
}
