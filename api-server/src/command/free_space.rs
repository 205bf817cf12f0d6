//! `stat -f`: room on a file system.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};

/// Asks how much a user may still write below a directory. Where the file system knows
/// quotas of directories (XFS, Lustre, CephFS), that is what is left of it.
#[derive(Debug, Clone)]
pub struct FreeSpace {
    /// Which directory.
    pub path: RemotePath,
}

impl RemoteCommand for FreeSpace {
    /// Bytes.
    type Parsed = u64;

    fn render(&self) -> ShellLine {
        ShellLine::new("stat").args(["--file-system", "-c", "%a %S", "--", self.path.as_str()])
    }

    fn parse(&self, stdout: &str) -> Result<u64, CommandError> {
        let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
        let mut words = stdout.split_whitespace();
        match (number(words.next()), number(words.next())) {
            (Some(blocks), Some(block_bytes)) => Ok(blocks.saturating_mul(block_bytes)),
            _ => Err(CommandError::Unparsable { program: "stat" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_program_is_understood() {
        let path = RemotePath::parse("/tmp").unwrap();
        let command = FreeSpace { path };
        let output = std::process::Command::new("sh")
            .args(["-c", command.render().as_str()])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(command.parse(&text).unwrap() > 0, "{text}");
        assert!(command.parse("").is_err());
    }
}
