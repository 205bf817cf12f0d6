//! `chmod`: permissions of a path.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine, ShowPath};
use crate::model::files::File;

/// Changes the permissions of a path and shows it.
#[derive(Debug, Clone)]
pub struct Chmod {
    /// Which path.
    pub path: RemotePath,
    /// As `chmod` takes it: octal or symbolic.
    pub mode: String,
}

impl RemoteCommand for Chmod {
    type Parsed = File;

    fn render(&self) -> ShellLine {
        let path = self.path.as_str();
        // Behind `--` a mode like `-x` is one, and no option can be smuggled in.
        let chmod = ShellLine::new("chmod").args(["--", &self.mode, path]);
        chmod.and(&self.show().render())
    }

    fn parse(&self, stdout: &str) -> Result<File, CommandError> {
        self.show().parse(stdout)
    }
}

impl Chmod {
    fn show(&self) -> ShowPath {
        ShowPath {
            path: self.path.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_one_word_and_no_option() {
        let chmod = Chmod {
            path: RemotePath::parse("/x").unwrap(),
            mode: "--reference=/etc/passwd".into(),
        };
        let line = chmod.render();
        assert!(
            line.as_str()
                .starts_with("sh -c 'chmod -- --reference=/etc/passwd /x && ls -l"),
            "{}",
            line.as_str()
        );
    }
}
