//! Who a program runs as on this machine.

use std::collections::HashMap;
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::auth::UserName;
use crate::{bounded, limits};

/// A Unix account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// An account, and whether reaching it needs a change of user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The account of the service itself.
    Service(Account),
    /// Another one, reached through `setpriv` (the service is root).
    Other(Account),
}

impl RunAs {
    /// The account.
    pub fn account(&self) -> &Account {
        match self {
            Self::Service(account) | Self::Other(account) => account,
        }
    }
}

/// Which users of the API may run programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserPolicy {
    /// A user runs as the Unix account of the same name, and as nobody else.
    SameName,
    /// Everybody runs as the service's own account: for demonstrations on one's own machine.
    DangerousEverybodyAsService,
}

/// Why a caller cannot run programs here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// No such Unix account.
    #[error("User '{0}' has no account on this system.")]
    Unknown(String),
    /// The service is not root, and the user is somebody else.
    #[error("This service runs as '{service}' and cannot run programs as '{user}'.")]
    NotPrivileged {
        /// Who was asked for.
        user: String,
        /// Who the service runs as.
        service: String,
    },
    /// Nothing is ever run as root for a user of the API.
    #[error("Programs are not run as root.")]
    Root,
    /// The account database did not answer in time.
    #[error("the account database did not answer within {LOOKUP_TIMEOUT:?}")]
    TimedOut,
    /// The account database could not be asked.
    #[error("the account database could not be read")]
    Lookup(#[source] std::io::Error),
}

impl AccountError {
    /// Whether the caller is refused, as opposed to a failure of this machine.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Lookup(_) | Self::TimedOut)
    }
}

/// Finds accounts through `getent`, so that directories (LDAP, SSSD) work from a static binary.
#[derive(Debug)]
pub struct Accounts {
    policy: UserPolicy,
    service: Account,
    cache: Mutex<HashMap<String, (Instant, Account)>>,
}

impl Accounts {
    /// Learns who the service runs as.
    ///
    /// # Errors
    /// When the account database cannot be read.
    pub async fn new(policy: UserPolicy) -> Result<Self, AccountError> {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let service = match getent(&uid.to_string()).await? {
            Some(account) if account.uid == uid => account,
            // A container may run under an id without a name.
            _ => Account {
                name: uid.to_string(),
                uid,
                gid,
                home: "/".to_owned(),
                shell: "/bin/sh".to_owned(),
            },
        };
        Ok(Self {
            policy,
            service,
            cache: Mutex::default(),
        })
    }

    /// The service's own account.
    pub fn service(&self) -> &Account {
        &self.service
    }

    /// Who `user` runs as.
    ///
    /// # Errors
    /// When the policy or this machine has no account for them.
    pub async fn resolve(&self, user: &UserName) -> Result<RunAs, AccountError> {
        if self.policy == UserPolicy::DangerousEverybodyAsService {
            return Ok(RunAs::Service(self.service.clone()));
        }
        let root = self.service.uid == 0;
        if !root && user.as_str() != self.service.name {
            return Err(AccountError::NotPrivileged {
                user: user.as_str().to_owned(),
                service: self.service.name.clone(),
            });
        }
        if !root {
            return Ok(RunAs::Service(self.service.clone()));
        }
        match self.lookup(user.as_str()).await? {
            account if account.uid == 0 => Err(AccountError::Root),
            account => Ok(RunAs::Other(account)),
        }
    }

    async fn lookup(&self, name: &str) -> Result<Account, AccountError> {
        if let Some(account) = self.cached(name) {
            return Ok(account);
        }
        // `getent` also finds ids: the name must be the one asked for.
        let found = getent(name).await?.filter(|account| account.name == name);
        let account = found.ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        if let Ok(mut cache) = self.cache.lock() {
            cache.retain(|_, (at, _)| at.elapsed() < CACHE_AGE);
            if cache.len() < CACHE_ENTRIES_MAX {
                cache.insert(name.to_owned(), (Instant::now(), account.clone()));
            }
        }
        Ok(account)
    }

    fn cached(&self, name: &str) -> Option<Account> {
        let cache = self.cache.lock().ok()?;
        cache
            .get(name)
            .filter(|(at, _)| at.elapsed() < CACHE_AGE)
            .map(|(_, a)| a.clone())
    }
}

/// A changed account takes effect within this time.
const CACHE_AGE: Duration = Duration::from_secs(60);
const CACHE_ENTRIES_MAX: usize = 10_000;

/// A directory service that hangs must not hold requests.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

async fn getent(key: &str) -> Result<Option<Account>, AccountError> {
    let mut command = Command::new("getent");
    command.args(["passwd", "--", key]);
    let (status, stdout) = output_within(LOOKUP_TIMEOUT, command).await?;
    match status.code() {
        Some(0) => Ok(parse_passwd(&String::from_utf8_lossy(&stdout))),
        // 2: not found.
        Some(2) => Ok(None),
        _ => Err(AccountError::Lookup(std::io::Error::other(format!(
            "getent: {status}"
        )))),
    }
}

/// How a program ended and what it printed; it is killed when that takes too long or is too much.
async fn output_within(
    limit: Duration,
    mut command: Command,
) -> Result<(ExitStatus, Vec<u8>), AccountError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::null()).kill_on_drop(true);
    let output = async {
        let mut child = command.spawn()?;
        let stdout = match child.stdout.take() {
            Some(pipe) => bounded::read_pipe(pipe, limits::ACCOUNT_MAX_BYTES).await?,
            None => Vec::new(),
        };
        Ok((child.wait().await?, stdout))
    };
    let output = tokio::time::timeout(limit, output).await;
    let output = output.map_err(|_| AccountError::TimedOut)?;
    output.map_err(AccountError::Lookup)
}

fn parse_passwd(text: &str) -> Option<Account> {
    let fields: Vec<&str> = text.lines().next()?.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else {
        return None;
    };
    Some(Account {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.to_owned(),
        shell: if shell.is_empty() { "/bin/sh" } else { shell }.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::ExecError;

    fn user(name: &str) -> UserName {
        UserName::parse(name).unwrap()
    }

    #[test]
    fn passwd_lines() {
        let account = parse_passwd("bob:x:1000:100:Bob,,,:/home/bob:\n").unwrap();
        assert_eq!(
            (account.uid, account.gid, account.shell.as_str()),
            (1000, 100, "/bin/sh")
        );
        assert_eq!(parse_passwd("bob:x:1000"), None);
        assert_eq!(parse_passwd(""), None);
    }

    #[tokio::test]
    async fn an_account_database_that_hangs_is_given_up() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let asked = output_within(Duration::from_millis(50), command).await;
        let error = asked.unwrap_err();
        assert!(!error.is_refusal());
        assert!(matches!(ExecError::from(error), ExecError::Timeout));
    }

    #[tokio::test]
    async fn an_account_database_that_says_too_much_is_not_listened_to() {
        let mut command = Command::new("cat");
        command.arg("/dev/zero");
        let asked = output_within(Duration::from_secs(60), command).await;
        let error = asked.unwrap_err();
        assert!(matches!(error, AccountError::Lookup(_)), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_becomes_root_or_an_id() {
        let accounts = Accounts::new(UserPolicy::SameName).await.unwrap();
        for name in ["root", "0", "no-such-user-here"] {
            let resolved = accounts.resolve(&user(name)).await;
            if accounts.service().uid == 0 || accounts.service().name != name {
                assert!(resolved.unwrap_err().is_refusal(), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn an_unprivileged_service_serves_only_its_own_user() {
        let mut accounts = Accounts::new(UserPolicy::SameName).await.unwrap();
        accounts.service.uid = 4711;
        accounts.service.name = "svc".into();
        assert!(matches!(
            accounts.resolve(&user("bob")).await,
            Err(AccountError::NotPrivileged { .. })
        ));
        assert_eq!(
            accounts.resolve(&user("svc")).await.unwrap(),
            RunAs::Service(accounts.service().clone())
        );
        accounts.policy = UserPolicy::DangerousEverybodyAsService;
        assert_eq!(
            accounts.resolve(&user("bob")).await.unwrap().account().name,
            "svc"
        );
    }
}
