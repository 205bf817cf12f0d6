//! Job scripts: configured batch directives, then lines whose arguments were quoted.

/// Why a job script cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectiveError {
    /// A directive says `{account}`, and the request names none.
    #[error("Account parameter is required on this system.")]
    AccountRequired,
    /// The account is not one word.
    #[error("The account contains characters that are not allowed.")]
    BadAccount,
}

/// A script for `/bin/sh` from batch directives and a body.
///
/// # Errors
/// When the directives need an account that is missing or would change their meaning.
pub fn batch_script(
    directives: &[String],
    account: Option<&str>,
    body: &str,
) -> Result<String, DirectiveError> {
    let mut script = String::from("#!/bin/sh\n");
    for line in directives {
        script.push_str(&directive(line, account)?);
        script.push('\n');
    }
    script.push('\n');
    script.push_str(body);
    script.push('\n');
    Ok(script)
}

fn directive(line: &str, account: Option<&str>) -> Result<String, DirectiveError> {
    if !line.contains(PLACEHOLDER) {
        return Ok(line.to_owned());
    }
    let account = account
        .filter(|a| !a.is_empty())
        .ok_or(DirectiveError::AccountRequired)?;
    let one_word = |c: char| c.is_alphanumeric() || "-_.@+:=/".contains(c);
    if account.starts_with('-') || !account.chars().all(one_word) {
        return Err(DirectiveError::BadAccount);
    }
    Ok(line.replace(PLACEHOLDER, account))
}

const PLACEHOLDER: &str = "{account}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_come_first_with_the_account_in_its_place() {
        let directives = [
            "#SBATCH --nodes=1 & more".into(),
            "#SBATCH --account={account}".into(),
        ];
        assert_eq!(
            batch_script(&directives, Some("proj-1"), "true").unwrap(),
            "#!/bin/sh\n#SBATCH --nodes=1 & more\n#SBATCH --account=proj-1\n\ntrue\n"
        );
        let script = |account| batch_script(&directives, account, "true");
        assert_eq!(script(None), Err(DirectiveError::AccountRequired));
        assert_eq!(script(Some("")), Err(DirectiveError::AccountRequired));
        for bad in ["a\nrm -rf /", "a b", "$(id)", "--x"] {
            assert_eq!(
                script(Some(bad)),
                Err(DirectiveError::BadAccount),
                "{bad:?}"
            );
        }
        assert!(batch_script(&[], Some("a\nb"), "true").is_ok());
    }
}
