//! `sha256sum`: the checksum of a file.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};
use crate::model::files::FileChecksum;

/// Reads a whole file and adds it up.
#[derive(Debug, Clone)]
pub struct Checksum {
    /// Which file.
    pub path: RemotePath,
}

impl RemoteCommand for Checksum {
    type Parsed = FileChecksum;

    fn render(&self) -> ShellLine {
        ShellLine::new("sha256sum").args(["--", self.path.as_str()])
    }

    fn parse(&self, stdout: &str) -> Result<FileChecksum, CommandError> {
        // A backslash before the sum says that the name behind it is escaped.
        let word = stdout.strip_prefix('\\').unwrap_or(stdout);
        let sum = word.split(' ').next().unwrap_or_default();
        if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(CommandError::Unparsable {
                program: "sha256sum",
            });
        }
        Ok(FileChecksum {
            algorithm: "SHA256".to_owned(),
            checksum: sum.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_whatever_the_name() {
        let path = RemotePath::parse("/a b").unwrap();
        let checksum = Checksum { path };
        assert_eq!(checksum.render().as_str(), "sha256sum -- '/a b'");
        let sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for line in [format!("{sum}  /a b\n"), format!("\\{sum}  /new\\nline\n")] {
            let parsed = checksum.parse(&line).unwrap();
            assert_eq!(
                (parsed.algorithm.as_str(), parsed.checksum.as_str()),
                ("SHA256", sum)
            );
        }
        for line in ["", "abc  /x", &sum.replace('e', "x")] {
            assert!(checksum.parse(line).is_err(), "{line}");
        }
    }
}
