//! `mkdir`: a new directory.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine, ShowPath};
use crate::model::files::File;

/// Makes a directory and shows it.
#[derive(Debug, Clone)]
pub struct Mkdir {
    /// Which one.
    pub path: RemotePath,
    /// Those above it too; one that is there is no error then.
    pub parent: bool,
}

impl Mkdir {
    fn show(&self) -> ShowPath {
        ShowPath {
            path: self.path.clone(),
        }
    }
}

impl RemoteCommand for Mkdir {
    type Parsed = File;

    fn render(&self) -> ShellLine {
        let option = self.parent.then_some("-p");
        let mkdir = ShellLine::new("mkdir")
            .args(option)
            .args(["--", self.path.as_str()]);
        mkdir.and(&self.show().render())
    }

    fn parse(&self, stdout: &str) -> Result<File, CommandError> {
        self.show().parse(stdout)
    }
}
