//! `ln -s`: a new symbolic link.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine, ShowPath};
use crate::model::files::File;

/// Makes a symbolic link, or one inside when `link` is a directory, and shows `link`.
#[derive(Debug, Clone)]
pub struct Symlink {
    /// What it points to; need not be there.
    pub path: RemotePath,
    /// Where it is made.
    pub link: RemotePath,
}

impl Symlink {
    fn show(&self) -> ShowPath {
        ShowPath {
            path: self.link.clone(),
        }
    }
}

impl RemoteCommand for Symlink {
    type Parsed = File;

    fn render(&self) -> ShellLine {
        let ln = ShellLine::new("ln").args(["-s", "--", self.path.as_str(), self.link.as_str()]);
        ln.and(&self.show().render())
    }

    fn parse(&self, stdout: &str) -> Result<File, CommandError> {
        self.show().parse(stdout)
    }
}
