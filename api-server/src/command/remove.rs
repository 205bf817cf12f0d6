//! `rm`: a path and all below it, gone.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine};

/// Deletes a path with everything below it.
#[derive(Debug, Clone)]
pub struct Remove {
    /// Which path.
    pub path: RemotePath,
}

impl RemoteCommand for Remove {
    type Parsed = ();

    fn render(&self) -> ShellLine {
        ShellLine::new("rm").args(["-r", "--interactive=never", "--", self.path.as_str()])
    }

    fn parse(&self, _stdout: &str) -> Result<(), CommandError> {
        Ok(())
    }
}
