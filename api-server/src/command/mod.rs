//! Remote programs as pure values: render a shell line, parse what it printed.

mod archive;
mod c_quoted;
mod checksum;
mod chmod;
mod chown;
mod content;
mod excerpt;
mod failure;
mod file_type;
mod id;
mod ls;
mod mkdir;
mod path;
mod private_file;
mod program;
mod quota;
mod quote;
mod remove;
mod room;
pub mod slurm;
mod stat;
mod symlink;
mod view;
mod wormhole;

pub use archive::{Compress, Extract};
pub use checksum::Checksum;
pub use chmod::Chmod;
pub use chown::Chown;
pub use content::{Download, Upload};
pub use excerpt::{Amount, Head, Tail};
pub use failure::{CommandError, FailureKind};
pub use file_type::FileType;
pub use id::{Id, Identity};
pub use ls::{Ls, LsOptions, ShowPath};
pub use mkdir::Mkdir;
pub use path::{PathError, RemotePath};
pub use private_file::{ReadPrivate, Readable, RemovePrivate, WritableDirectory, WritePrivate};
pub use program::{InstallProgram, UseProgram};
pub use quota::{Counted, Quota};
pub(crate) use quote::exports;
pub use quote::{HIDDEN, ShellLine, quote, reported};
pub use remove::Remove;
pub use room::{AskRoom, Room};
pub use stat::{Stat, StatOutput};
pub use symlink::Symlink;
pub use view::View;
pub use wormhole::{Wormhole, WormholeVerb};

use crate::auth::Caller;
use crate::executor::{Executor, RunLimits};
use crate::limits;

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

    /// What it reads from its standard input.
    fn input(&self) -> &[u8] {
        &[]
    }
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
    let output = run_line(executor, caller, limits, command.render(), command.input()).await?;
    command.parse(&String::from_utf8_lossy(&output))
}

/// As [`run`], with the program under `timeout`: it ends in time also when the connection
/// that it was started over is gone.
///
/// # Errors
/// As [`run`]; a program that took too long has failed, with exit status 124.
///
/// Cancel safety: dropping kills the program, on a remote system at the latest when its time
/// is over.
pub async fn run_within<C: RemoteCommand>(
    executor: &dyn Executor,
    caller: &Caller,
    limits: RunLimits,
    command: &C,
) -> Result<C::Parsed, CommandError> {
    let output = bytes_within(executor, caller, limits, command).await?;
    command.parse(&String::from_utf8_lossy(&output))
}

/// As [`run_within`], for output that is no text.
///
/// # Errors
/// As [`run_within`].
///
/// Cancel safety: as [`run_within`].
pub async fn bytes_within<C: RemoteCommand>(
    executor: &dyn Executor,
    caller: &Caller,
    limits: RunLimits,
    command: &C,
) -> Result<Vec<u8>, CommandError> {
    let line = command.render().within(limits.timeout);
    let limits = RunLimits {
        timeout: limits.timeout + limits::TIMEOUT_GRACE,
        ..limits
    };
    run_line(executor, caller, limits, line, command.input()).await
}

async fn run_line(
    executor: &dyn Executor,
    caller: &Caller,
    limits: RunLimits,
    line: ShellLine,
    input: &[u8],
) -> Result<Vec<u8>, CommandError> {
    let output = executor
        .run_with_input(caller, &line, input, limits)
        .await?;
    if output.exit_code != Some(0) {
        return Err(CommandError::from_output(&output));
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Accounts, LocalExecutor, UserPolicy};
    use crate::test_support::{line_of, until_gone};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    /// A program that runs for ever, with a child, and writes a file when it is done.
    struct Slow(ShellLine);

    impl RemoteCommand for Slow {
        type Parsed = ();

        fn render(&self) -> ShellLine {
            self.0.clone()
        }

        fn parse(&self, _: &str) -> Result<(), CommandError> {
            Ok(())
        }
    }

    /// Runs it until its process ids are in the file, and goes away.
    async fn abandoned(line: ShellLine, pids: &Path) -> String {
        let policy = UserPolicy::DangerousEverybodyAsService;
        let accounts = Accounts::new(policy).await.unwrap();
        let executor = LocalExecutor::new(Arc::new(accounts));
        let limits = RunLimits {
            timeout: Duration::from_secs(300),
            output_bytes: 1000,
        };
        let (caller, slow) = (Caller::for_tests("bob"), Slow(line));
        let seen = pids.to_owned();
        let seen = tokio::task::spawn_blocking(move || line_of(&seen));
        tokio::select! {
            ended = run_within(&executor, &caller, limits, &slow) => panic!("{ended:?}"),
            pids = seen => pids.unwrap(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_program_under_timeout_ends_when_nobody_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {}; wait", file.display());
        let line = ShellLine::new("sh").args(["-c", &script]);
        until_gone(&abandoned(line.clone(), &file).await);

        std::fs::remove_file(&file).unwrap();
        let target = directory.path().join("target");
        let target = RemotePath::parse(target.to_str().unwrap()).unwrap();
        until_gone(&abandoned(line.into_file(&target, None), &file).await);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_dir(&directory).unwrap().count() > 1 {
            assert!(std::time::Instant::now() < deadline, "its part stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
