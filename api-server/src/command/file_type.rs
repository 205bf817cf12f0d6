//! `file`: what kind of data a path holds.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};

/// Guesses from the content. A missing file is described, too: `file` does not fail.
#[derive(Debug, Clone)]
pub struct FileType {
    /// Which path.
    pub path: RemotePath,
}

impl RemoteCommand for FileType {
    type Parsed = String;

    fn render(&self) -> ShellLine {
        ShellLine::new("file").args(["-b", "--", self.path.as_str()])
    }

    fn parse(&self, stdout: &str) -> Result<String, CommandError> {
        Ok(stdout.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_one_line() {
        let path = RemotePath::parse("/x").unwrap();
        let file = FileType { path };
        assert_eq!(file.render().as_str(), "file -b -- /x");
        assert_eq!(file.parse("ASCII text\n").unwrap(), "ASCII text");
    }
}
