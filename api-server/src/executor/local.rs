//! Programs on this machine, as the caller.

use std::io::ErrorKind;
use std::process::Stdio;
use std::sync::Arc;

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};

use super::{Accounts, BoxFuture, ExecError, Executor, Group, Output, RunAs, RunLimits};
use crate::auth::Caller;
use crate::command::ShellLine;
use crate::{bounded, limits};

/// Runs command lines through `/bin/sh` on this machine.
#[derive(Debug)]
pub struct LocalExecutor {
    accounts: Arc<Accounts>,
}

impl LocalExecutor {
    /// An executor that resolves callers through `accounts`.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }
}

impl Executor for LocalExecutor {
    fn run_with_input<'a>(
        &'a self,
        caller: &'a Caller,
        line: &'a ShellLine,
        input: &'a [u8],
        limits: RunLimits,
    ) -> BoxFuture<'a, Result<Output, ExecError>> {
        Box::pin(async move {
            let run_as = self.accounts.resolve(caller.name()).await?;
            let mut command = command_as(&run_as, "/bin/sh");
            command
                .args(["-c", &line.from_home()])
                .current_dir("/")
                .stdin(if input.is_empty() {
                    Stdio::null()
                } else {
                    Stdio::piped()
                });
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut ending = Ending(Some(Group::new(command.spawn().map_err(ExecError::Io)?)));
            let output = collect(ending.group()?, input, limits);
            let output = tokio::time::timeout(limits.timeout, output).await;
            output.unwrap_or(Err(ExecError::Timeout))
        })
    }
}

/// A program that is told to end when nobody waits for it, so that it can clean up, and killed when
/// it does not.
struct Ending(Option<Group>);

impl Ending {
    fn group(&mut self) -> Result<&mut Group, ExecError> {
        let gone = || ExecError::Io(ErrorKind::NotFound.into());
        self.0.as_mut().ok_or_else(gone)
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (Some(group), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        group.signal(Signal::TERM);
        runtime.spawn(async move {
            // Dropping the group kills what is left of it.
            let _ = tokio::time::timeout(limits::COMMAND_KILL_GRACE, group.ended()).await;
        });
    }
}

/// A command that will run as `run_as`, with a clean environment, for a [`Group`]: it leads one,
/// and a session of its own.
///
/// `setsid` and `setpriv` (util-linux) do that before the program starts, in its place, without
/// unsafe code here. In the session of the service a program of another user could open
/// `/dev/tty` and type there, as root where the service runs in root's terminal. `setsid` would
/// start a process of its own if it led a group already.
pub(crate) fn command_as(run_as: &RunAs, program: &str) -> Command {
    let account = run_as.account();
    let mut command = Command::new("setsid");
    if let RunAs::Other(_) = run_as {
        command.arg("setpriv");
        command.arg(format!("--reuid={}", account.uid));
        command.arg(format!("--regid={}", account.gid));
        // All supplementary groups.
        command.args(["--init-groups", "--"]);
    }
    command.arg(program).env_clear().kill_on_drop(true);
    command
        .env("PATH", DEFAULT_PATH)
        .env("LC_ALL", "C")
        .env("HOME", &account.home);
    command
        .env("USER", &account.name)
        .env("LOGNAME", &account.name);
    command.env("SHELL", &account.shell);
    command
}

/// Where programs are looked for when nobody says otherwise.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

async fn collect(group: &mut Group, input: &[u8], limits: RunLimits) -> Result<Output, ExecError> {
    let child = group.child();
    let stdin = feed(child.stdin.take(), input);
    let stdout = read_bounded(child.stdout.take(), limits.output_bytes);
    let stderr = read_bounded(child.stderr.take(), limits.error_bytes());
    let (stdout, stderr, ()) = tokio::try_join!(stdout, stderr, stdin)?;
    let status = child.wait().await.map_err(ExecError::Io)?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok(Output {
        exit_code: status.code(),
        signal,
        stdout,
        stderr,
    })
}

async fn feed(pipe: Option<ChildStdin>, input: &[u8]) -> Result<(), ExecError> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    match pipe.write_all(input).await {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(ExecError::Io(error)),
        _ => Ok(()),
    }
}

async fn read_bounded(
    pipe: Option<impl AsyncRead + Unpin>,
    max_bytes: usize,
) -> Result<Vec<u8>, ExecError> {
    let Some(pipe) = pipe else {
        return Ok(Vec::new());
    };
    let max_bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    bounded::read_pipe(pipe, max_bytes)
        .await
        .map_err(|error| match error.kind() {
            ErrorKind::FileTooLarge => ExecError::OutputTooLarge,
            _ => ExecError::Io(error),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::UserPolicy;
    use std::time::Duration;

    const LIMITS: RunLimits = RunLimits {
        timeout: Duration::from_secs(10),
        output_bytes: 1000,
    };

    async fn run(line: ShellLine, limits: RunLimits) -> Result<Output, ExecError> {
        let accounts = Accounts::new(UserPolicy::DangerousEverybodyAsService)
            .await
            .unwrap();
        let executor = LocalExecutor::new(Arc::new(accounts));
        executor.run(&Caller::for_tests("bob"), &line, limits).await
    }

    fn sh(script: &str) -> ShellLine {
        ShellLine::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn output_and_exit_code_come_back() {
        let output = run(sh("echo out; echo err >&2; exit 7"), LIMITS)
            .await
            .unwrap();
        assert_eq!((output.exit_code, output.signal), (Some(7), None));
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }

    #[tokio::test]
    async fn a_program_begins_at_home_or_where_there_is_none_at_the_root() {
        let accounts = Accounts::new(UserPolicy::DangerousEverybodyAsService);
        let home = accounts.await.unwrap().service().home.clone();
        let home = std::fs::canonicalize(home).unwrap_or_else(|_| "/".into());
        let output = run(ShellLine::new("pwd").arg("-P"), LIMITS).await.unwrap();
        assert_eq!(output.stdout, format!("{}\n", home.display()).as_bytes());
        let away = ShellLine::new("pwd").from_home();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &away]).current_dir("/");
        let output = shell.env("HOME", "/no/such").output().unwrap();
        assert_eq!(output.stdout, b"/\n");
    }

    #[tokio::test]
    async fn input_arrives_whole_and_may_stay_unread() {
        let executor = LocalExecutor::new(Arc::new(
            Accounts::new(UserPolicy::DangerousEverybodyAsService)
                .await
                .unwrap(),
        ));
        let (caller, input) = (Caller::for_tests("bob"), vec![7; 1 << 20]);
        let line = ShellLine::new("wc").arg("-c");
        let output = executor.run_with_input(&caller, &line, &input, LIMITS);
        assert_eq!(output.await.unwrap().stdout, b"1048576\n");
        let line = ShellLine::new("true");
        let output = executor.run_with_input(&caller, &line, &input, LIMITS);
        assert_eq!(output.await.unwrap().exit_code, Some(0));
    }

    #[tokio::test]
    async fn the_environment_of_the_service_is_not_passed_on() {
        let output = run(ShellLine::new("env"), LIMITS).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("LC_ALL=C\n"));
        assert!(!text.contains("CARGO"), "{text}");
    }

    #[tokio::test]
    async fn too_much_output_is_refused_and_exactly_the_limit_passes() {
        assert!(matches!(
            run(sh("head -c 1001 /dev/zero"), LIMITS).await,
            Err(ExecError::OutputTooLarge)
        ));
        assert_eq!(
            run(sh("head -c 1000 /dev/zero"), LIMITS)
                .await
                .unwrap()
                .stdout
                .len(),
            1000
        );
    }

    /// Runs a program that is too slow, and waits until its child is gone too.
    async fn assert_killed_with_its_children(policy: UserPolicy, user: &str) {
        let directory = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let file = directory.path().join("pids");
        let script = format!("sleep 600 & echo $$ $! > {}; wait", file.display());
        let limits = RunLimits {
            timeout: Duration::from_millis(500),
            ..LIMITS
        };
        let executor = LocalExecutor::new(Arc::new(Accounts::new(policy).await.unwrap()));
        let (caller, line) = (Caller::for_tests(user), sh(&script));
        let killed = executor.run(&caller, &line, limits).await;
        assert!(matches!(killed, Err(ExecError::Timeout)), "{killed:?}");
        let pids = std::fs::read_to_string(&file).unwrap();
        let gone = |pid: &str| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            state.map_or(true, |text| text.contains(") Z "))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !pids.split_whitespace().all(gone) {
            let late = std::time::Instant::now() > deadline;
            assert!(!late, "a child of the killed program lives: {pids}");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_slow_program_is_killed_with_its_children() {
        assert_killed_with_its_children(UserPolicy::DangerousEverybodyAsService, "bob").await;
        match rustix::process::geteuid().is_root() {
            true => assert_killed_with_its_children(UserPolicy::SameName, "nobody").await,
            false => eprintln!("skipped in part: only root runs programs of others"),
        }
    }

    /// Of the text of `/proc/PID/stat` (proc_pid_stat(5)).
    fn group_session_terminal(stat: &str) -> [&str; 3] {
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        [fields[2], fields[3], fields[4]]
    }

    /// Else it could type into the terminal of the service, with the service's rights.
    #[tokio::test]
    async fn a_program_leads_a_session_of_its_own_without_a_terminal() {
        let mut whose = vec![(UserPolicy::DangerousEverybodyAsService, "bob")];
        if rustix::process::geteuid().is_root() {
            whose.push((UserPolicy::SameName, "nobody"));
        }
        for (policy, user) in whose {
            let executor = LocalExecutor::new(Arc::new(Accounts::new(policy).await.unwrap()));
            let line = ShellLine::new("cat").arg("/proc/self/stat");
            let output = executor.run(&Caller::for_tests(user), &line, LIMITS).await;
            let stat = String::from_utf8(output.unwrap().stdout).unwrap();
            let [group, session, terminal] = group_session_terminal(&stat);
            assert_eq!((session, terminal), (group, "0"), "{user}: {stat}");
            // Read, not asked of `getsid`: in a container, our own may be led from outside: 0.
            let ours = std::fs::read_to_string("/proc/self/stat").unwrap();
            assert_ne!(session, group_session_terminal(&ours)[1], "{user}");
        }
    }

    #[tokio::test]
    async fn a_root_service_runs_programs_as_the_caller() {
        let accounts = Accounts::new(UserPolicy::SameName).await.unwrap();
        if accounts.service().uid != 0 {
            eprintln!("skipped: not root");
            return;
        }
        let executor = LocalExecutor::new(Arc::new(accounts));
        let ask = async |user: &str| {
            let line = sh("id -un; id -G; echo $HOME; head -c 1 /etc/shadow");
            executor.run(&Caller::for_tests(user), &line, LIMITS).await
        };
        let output = ask("nobody").await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "nobody\n65534\n/nonexistent\n");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"));
        assert!(matches!(ask("root").await, Err(ExecError::Account(_))));
    }
}
