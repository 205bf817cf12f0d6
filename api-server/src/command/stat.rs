//! `stat`: what a path is.

use serde::Serialize;
use utoipa::ToSchema;

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};

/// Asks for the metadata of one path.
#[derive(Debug, Clone)]
pub struct Stat {
    /// Which path.
    pub path: RemotePath,
    /// Follow a symbolic link.
    pub dereference: bool,
}

/// Metadata of one path; times are unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = FileStat)]
#[expect(
    missing_docs,
    reason = "the fields of stat(2), under their names there"
)]
pub struct StatOutput {
    pub mode: u32,
    pub ino: u64,
    pub dev: u64,
    pub nlink: u64,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub atime: i64,
    pub ctime: i64,
    pub mtime: i64,
}

impl StatOutput {
    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.mode & 0o170_000 == 0o120_000
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }
}

impl RemoteCommand for Stat {
    type Parsed = StatOutput;

    fn render(&self) -> ShellLine {
        let line = ShellLine::new("stat");
        let line = if self.dereference {
            line.arg("--dereference")
        } else {
            line
        };
        line.args([
            "-c",
            "%f %i %d %h %u %g %s %X %Y %Z",
            "--",
            self.path.as_str(),
        ])
    }

    fn parse(&self, stdout: &str) -> Result<StatOutput, CommandError> {
        parse_fields(stdout).ok_or(CommandError::Unparsable { program: "stat" })
    }
}

fn parse_fields(stdout: &str) -> Option<StatOutput> {
    let mut words = stdout.split_whitespace();
    let mut next = || words.next();
    let mode = u32::from_str_radix(next()?, 16).ok()?;
    Some(StatOutput {
        mode,
        ino: next()?.parse().ok()?,
        dev: next()?.parse().ok()?,
        nlink: next()?.parse().ok()?,
        uid: next()?.parse().ok()?,
        gid: next()?.parse().ok()?,
        size: next()?.parse().ok()?,
        atime: next()?.parse().ok()?,
        // %X %Y %Z print access, modification and change time.
        mtime: next()?.parse().ok()?,
        ctime: next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_and_parses() {
        let path = RemotePath::parse("/tmp/a b").unwrap();
        let stat = Stat {
            path,
            dereference: true,
        };
        assert_eq!(
            stat.render().as_str(),
            "stat --dereference -c '%f %i %d %h %u %g %s %X %Y %Z' -- '/tmp/a b'"
        );
        let parsed = stat.parse("81a4 12 34 1 1000 100 7 1795430743 1795430744 1795430745\n");
        let output = parsed.unwrap();
        assert_eq!(
            (output.mode, output.size, output.mtime, output.ctime),
            (0o100_644, 7, 1_795_430_744, 1_795_430_745)
        );
        assert!(!output.is_directory());
        assert!(stat.parse("").is_err());
        assert!(stat.parse("zz 1").is_err());
    }
}
