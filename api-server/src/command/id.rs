//! `id`: the caller's numbers and groups.

use super::{CommandError, RemoteCommand, ShellLine};
use crate::model::status::{GroupModel, PosixIdentified};

/// `id`.
#[derive(Debug, Clone, Copy)]
pub struct Id;

/// Who the caller is on a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: PosixIdentified,
    /// Their primary group.
    pub group: PosixIdentified,
    /// All their groups.
    pub groups: Vec<GroupModel>,
}

impl RemoteCommand for Id {
    type Parsed = Identity;

    fn render(&self) -> ShellLine {
        ShellLine::new("id")
    }

    fn parse(&self, stdout: &str) -> Result<Identity, CommandError> {
        parse(stdout).ok_or(CommandError::Unparsable { program: "id" })
    }
}

/// `uid=N(name) gid=N(name) groups=N(name),N(name)…`, maybe followed by a `context=`.
fn parse(stdout: &str) -> Option<Identity> {
    let rest = stdout.trim().strip_prefix("uid=")?;
    // Names may hold blanks (directories of other systems): split at the keys, not at blanks.
    let (user, rest) = rest.split_once(" gid=")?;
    let (group, rest) = rest.split_once(" groups=")?;
    let groups = rest
        .split_once(" context=")
        .map_or(rest, |(groups, _)| groups);
    let group = identified(group)?;
    let groups = groups.split(',').map(|text| {
        let PosixIdentified { id, name } = identified(text)?;
        let default = id == group.id;
        Some(GroupModel { id, name, default })
    });
    Some(Identity {
        user: identified(user)?,
        groups: groups.collect::<Option<_>>()?,
        group,
    })
}

/// `N(name)`, or `N` when it has no name.
fn identified(text: &str) -> Option<PosixIdentified> {
    let (id, name) = match text.split_once('(') {
        Some((id, rest)) => (id, rest.strip_suffix(')')?),
        None => (text, text),
    };
    let number = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    number.then(|| PosixIdentified {
        id: id.to_owned(),
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_their_groups() {
        let text = "uid=2101(fireuser) gid=100(users) groups=100(users),27(domain admins),5000\n";
        let identity = parse(text).unwrap();
        assert_eq!(identity.user.id, "2101");
        assert_eq!(identity.group.name, "users");
        let groups: Vec<_> = identity
            .groups
            .iter()
            .map(|g| (&*g.name, g.default))
            .collect();
        assert_eq!(
            groups,
            [("users", true), ("domain admins", false), ("5000", false)]
        );
        let labelled = "uid=0(root) gid=0(root) groups=0(root) context=u:r:t:s0-s0:c0.c1023";
        assert_eq!(parse(labelled).unwrap().groups.len(), 1);
        for text in [
            "",
            "uid=x(y) gid=1 groups=1",
            "uid=1(a gid=1 groups=1",
            "id: no such user",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
