//! Running programs as the caller: on this machine now, over SSH for remote systems.

mod account;
mod group;
mod local;
mod observed;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use account::{Account, AccountError, Accounts, RunAs, UserPolicy};
pub(crate) use group::Group;
pub use local::LocalExecutor;
pub(crate) use local::command_as;
pub use observed::ObservedExecutor;

use crate::auth::Caller;
use crate::command::ShellLine;
use crate::limits;
use crate::ssh::SshError;

/// A boxed future, so that executors, schedulers and transfer methods can be trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs command lines on a system as the caller.
pub trait Executor: Send + Sync + std::fmt::Debug {
    /// Runs one line with `LC_ALL=C` and an empty standard input.
    ///
    /// # Errors
    /// When it cannot start, takes too long, or prints too much. A program that ran and
    /// failed is a success here: see [`Output::exit_code`].
    ///
    /// Cancel safety: dropping the future kills the program.
    fn run<'a>(
        &'a self,
        caller: &'a Caller,
        line: &'a ShellLine,
        limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>> {
        self.run_with_input(caller, line, &[], limits)
    }

    /// Runs one line as [`run`](Self::run) does, with these bytes on its standard input.
    ///
    /// # Errors
    /// As [`run`](Self::run). A program that leaves its input unread is no error.
    ///
    /// Cancel safety: dropping the future kills the program.
    fn run_with_input<'a>(
        &'a self,
        caller: &'a Caller,
        line: &'a ShellLine,
        input: &'a [u8],
        limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>>;
}

/// What one command may use.
#[derive(Debug, Clone, Copy)]
pub struct RunLimits {
    /// Wall time.
    pub timeout: Duration,
    /// Most bytes of standard output. Standard error has a bound of its own.
    pub output_bytes: usize,
}

impl RunLimits {
    /// Most bytes of standard error: however long an output may be, complaints are short.
    pub(crate) fn error_bytes(self) -> usize {
        self.output_bytes.min(limits::STANDARD_ERROR_MAX_BYTES)
    }

    /// For a program of a scheduler that lists what there is: that is no file, and may be longer than
    /// those may be.
    pub(crate) fn for_a_list(self) -> Self {
        Self {
            output_bytes: limits::SCHEDULER_ANSWER_MAX_BYTES,
            ..self
        }
    }
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status, unless a signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: Vec<u8>,
}

impl Output {
    /// What it complained, as much of it as clients are shown.
    pub(crate) fn complaint(&self) -> String {
        let shown = self.stderr.len().min(limits::QUOTED_ANSWER_MAX_BYTES);
        String::from_utf8_lossy(&self.stderr[..shown]).into_owned()
    }
}

/// Why a command line could not be run to its end. The first two are the reference's words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// Over [`RunLimits::timeout`]; it was killed.
    #[error("Command execution timeout limit exceeded.")]
    Timeout,
    /// Over the bytes that [`RunLimits`] allow; it was killed.
    #[error("Command output exceeded buffer limit.")]
    OutputTooLarge,
    /// The caller is nobody this system can run programs as.
    #[error(transparent)]
    Account(AccountError),
    /// The login node could not be reached, or broke off.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The operating system refused.
    #[error("could not run a program on this machine")]
    Io(#[source] std::io::Error),
}

impl From<AccountError> for ExecError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::TimedOut => Self::Timeout,
            error => Self::Account(error),
        }
    }
}
