//! `sacctmgr`: what a user may charge.

use super::{SlurmCommand, SlurmError, success};
use crate::command::ShellLine;
use crate::executor::Output;

/// Asks for all accounts of a user.
#[derive(Debug, Clone)]
pub struct Accounts {
    /// Whose.
    pub user: String,
}

/// Asks for the account that a user charges by default.
#[derive(Debug, Clone)]
pub struct DefaultAccount {
    /// Whose.
    pub user: String,
}

impl SlurmCommand for Accounts {
    type Parsed = Vec<String>;

    fn render(&self) -> ShellLine {
        show("assoc", &self.user, "account")
    }

    fn read(&self, output: &Output) -> Result<Vec<String>, SlurmError> {
        let mut names = names(&success(output)?);
        let mut seen = std::collections::HashSet::new();
        // One line for each partition that an association is limited to.
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }
}

impl SlurmCommand for DefaultAccount {
    type Parsed = Option<String>;

    fn render(&self) -> ShellLine {
        show("user", &self.user, "defaultaccount")
    }

    fn read(&self, output: &Output) -> Result<Option<String>, SlurmError> {
        Ok(names(&success(output)?).into_iter().next())
    }
}

/// `--parsable2`: a column would be cut at ten characters.
fn show(what: &str, user: &str, field: &str) -> ShellLine {
    ShellLine::new("sacctmgr")
        .args(["--noheader", "--parsable2", "show", what])
        .args([format!("user={user}"), format!("format={field}")])
}

fn names(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::printed;
    use super::*;

    #[test]
    fn accounts_of_slurm_22_05() {
        let user = "fireuser".to_owned();
        let accounts = Accounts { user: user.clone() };
        let text = include_str!("../../../testdata/slurm22.05/accounts.txt");
        assert_eq!(accounts.read(&printed(text)).unwrap(), ["staff", "users"]);
        assert_eq!(accounts.read(&printed("a\na\n\nb\n")).unwrap(), ["a", "b"]);
        let text = include_str!("../../../testdata/slurm22.05/default.txt");
        let default = DefaultAccount { user }.read(&printed(text)).unwrap();
        assert_eq!(default.as_deref(), Some("users"));
    }
}
