//! Small files of a job that nobody but its user can read, and where they are.

use super::{CommandError, RemoteCommand, ShellLine};
use crate::Secret;

/// Makes a file with mode 0600 from standard input, and its directory with mode 0700. An
/// existing file is not touched. Forgotten files there are swept away.
#[derive(Debug, Clone)]
pub struct WritePrivate {
    /// Where.
    pub directory: String,
    /// What it is called there.
    pub name: String,
    /// What it holds.
    pub content: Secret,
}

impl RemoteCommand for WritePrivate {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("sh").args(["-c", WRITE, "sh", &self.directory, &self.name])
    }

    fn input(&self) -> &[u8] {
        self.content.expose().as_bytes()
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Looks whether jobs can write in a directory.
#[derive(Debug, Clone)]
pub struct WritableDirectory {
    /// Which.
    pub path: String,
}

impl RemoteCommand for WritableDirectory {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("sh").args(["-c", WRITABLE, "sh", &self.path])
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Reads a small file.
#[derive(Debug, Clone)]
pub struct ReadPrivate {
    /// Which.
    pub path: String,
}

impl RemoteCommand for ReadPrivate {
    type Parsed = String;

    fn render(&self) -> ShellLine {
        ShellLine::new("cat").args(["--", &self.path])
    }

    fn parse(&self, stdout: &str) -> Result<String, CommandError> {
        Ok(stdout.to_owned())
    }
}

/// Removes a file, if it is there.
#[derive(Debug, Clone)]
pub struct RemovePrivate {
    /// Which.
    pub path: String,
}

impl RemoteCommand for RemovePrivate {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("rm").args(["-f", "--", &self.path])
    }

    fn parse(&self, _: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// A job may wait for weeks; what is older than a month belongs to none.
const WRITE: &str = r#"umask 077
mkdir -p -- "$1" || exit
find "$1" -maxdepth 1 -type f -mtime +31 -delete 2>/dev/null
set -C
exec cat >"$1/$2""#;

/// The words are those by which failures are sorted.
const WRITABLE: &str = r#"[ -d "$1" ] || { echo "$1: No such file or directory" >&2; exit 1; }
[ -w "$1" ] && [ -x "$1" ] || { echo "$1: Permission denied" >&2; exit 1; }"#;
