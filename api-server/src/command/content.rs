//! Whole small files, out and in.

use bytes::Bytes;

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};

/// Reads a file; its bytes are the output.
#[derive(Debug, Clone)]
pub struct Download {
    /// Which file.
    pub path: RemotePath,
    /// Most bytes that will be looked at. One more is read, so that a larger file shows.
    pub max_bytes: usize,
}

impl RemoteCommand for Download {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        let bytes = format!("--bytes={}", self.max_bytes.saturating_add(1));
        ShellLine::new("head").args([&bytes, "--", self.path.as_str()])
    }

    fn parse(&self, _stdout: &str) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Writes a file, whole or not at all. One that is there is replaced.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Which file.
    pub target: RemotePath,
    /// All of it.
    pub content: Bytes,
}

impl RemoteCommand for Upload {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("cat").into_file(&self.target, Some(self.content.len()))
    }

    fn parse(&self, _stdout: &str) -> Result<(), CommandError> {
        Ok(())
    }

    fn input(&self) -> &[u8] {
        &self.content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_more_than_allowed_is_read() {
        let download = Download {
            path: RemotePath::parse("/a b").unwrap(),
            max_bytes: 10,
        };
        assert_eq!(download.render().as_str(), "head --bytes=11 -- '/a b'");
    }
}
