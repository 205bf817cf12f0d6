//! `chown`: owner and group of a path.

use super::{CommandError, RemoteCommand, RemotePath, ShellLine, ShowPath};
use crate::model::files::File;

/// Changes the owner, the group, both or neither of a path and shows it.
#[derive(Debug, Clone)]
pub struct Chown {
    /// Which path.
    pub path: RemotePath,
    /// Name or number of the new owner; nothing leaves it.
    pub owner: Option<String>,
    /// Name or number of the new group; nothing leaves it.
    pub group: Option<String>,
}

impl Chown {
    fn show(&self) -> ShowPath {
        ShowPath {
            path: self.path.clone(),
        }
    }

    /// `OWNER:GROUP`. An owner and a colon would mean "and the owner's login group", so an
    /// owner alone goes without.
    fn spec(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or_default();
        match &self.group {
            None if !owner.is_empty() => owner.to_owned(),
            group => format!("{owner}:{}", group.as_deref().unwrap_or_default()),
        }
    }
}

impl RemoteCommand for Chown {
    type Parsed = File;

    fn render(&self) -> ShellLine {
        let spec = self.spec();
        let chown = ShellLine::new("chown").args(["--", &spec, self.path.as_str()]);
        chown.and(&self.show().render())
    }

    fn parse(&self, stdout: &str) -> Result<File, CommandError> {
        self.show().parse(stdout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_is_changed() {
        let spec = |owner: Option<&str>, group: Option<&str>| {
            let chown = Chown {
                path: RemotePath::parse("/x").unwrap(),
                owner: owner.map(str::to_owned),
                group: group.map(str::to_owned),
            };
            chown.spec()
        };
        assert_eq!(spec(Some("bob"), Some("staff")), "bob:staff");
        assert_eq!(spec(Some("bob"), None), "bob");
        assert_eq!(spec(None, Some("staff")), ":staff");
        assert_eq!(spec(None, None), ":");
    }
}
