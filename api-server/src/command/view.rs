//! `dd`: a window of a file.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};

/// Shows some bytes of a file as text; bytes that are none, as at cut characters, become
/// U+FFFD.
#[derive(Debug, Clone)]
pub struct View {
    /// Which file.
    pub path: RemotePath,
    /// Bytes before the window.
    pub offset: u64,
    /// Bytes in it, at most.
    pub size: u64,
}

impl RemoteCommand for View {
    type Parsed = String;

    fn render(&self) -> ShellLine {
        ShellLine::new("dd").args([
            format!("if={}", self.path.as_str()),
            "bs=1M".to_owned(),
            "iflag=skip_bytes,count_bytes,fullblock".to_owned(),
            format!("skip={}", self.offset),
            format!("count={}", self.size),
            "status=none".to_owned(),
        ])
    }

    fn parse(&self, stdout: &str) -> Result<String, CommandError> {
        Ok(stdout.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_size_count_bytes() {
        let view = View {
            path: RemotePath::parse("/it's").unwrap(),
            offset: 7,
            size: 5,
        };
        assert_eq!(
            view.render().as_str(),
            r"dd 'if=/it'\''s' bs=1M iflag=skip_bytes,count_bytes,fullblock skip=7 count=5 status=none"
        );
    }
}
