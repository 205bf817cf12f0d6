//! Remote programs as pure values: render a shell line, parse what it printed.

mod failure;
mod path;
mod quote;
mod stat;

pub use failure::{CommandError, FailureKind};
pub use path::{PathError, RemotePath};
pub use quote::{ShellLine, quote, reported};
pub use stat::{Stat, StatOutput};

use crate::auth::Caller;
use crate::executor::{Executor, Output, RunLimits};

/// One program to run as the caller.
pub trait RemoteCommand: Send + Sync {
    /// What its output means.
    type Parsed;

    /// The line to run; every argument quoted.
    fn render(&self) -> ShellLine;

    /// Reads the output of a run that exited with 0.
    ///
    /// # Errors
    /// When the output is not what the program is known to print.
    fn parse(&self, stdout: &str) -> Result<Self::Parsed, CommandError>;
}

/// Runs a command and reads its output.
///
/// # Errors
/// When it cannot run, exceeds a limit, fails, or prints something unexpected.
///
/// Cancel safety: dropping kills the program.
pub async fn run<C: RemoteCommand>(
    executor: &dyn Executor,
    caller: &Caller,
    limits: RunLimits,
    command: &C,
) -> Result<C::Parsed, CommandError> {
    let output: Output = executor.run(caller, &command.render(), limits).await?;
    if output.exit_code != Some(0) {
        return Err(CommandError::from_output(&output));
    }
    command.parse(&String::from_utf8_lossy(&output.stdout))
}
