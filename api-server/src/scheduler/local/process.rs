//! One job as processes: started as its user, ended by signal, always reaped.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

use super::file_name::Names;
use super::table::End;
use crate::bounded;
use crate::command::exports;
use crate::executor::{Group, RunAs, command_as};
use crate::limits;
use crate::scheduler::JobDescription;

/// Everything needed to start a job. Not to be printed: its script may hold passwords.
pub(super) struct Launch {
    pub(super) id: u64,
    pub(super) job: JobDescription,
    pub(super) script: Arc<str>,
    pub(super) interpreter: Vec<String>,
    pub(super) run_as: RunAs,
}

/// A started job. Dropping it kills all that it started.
#[derive(Debug)]
pub(super) struct Running {
    group: Group,
    /// Where the launcher says what keeps it from starting the job. The job itself does not have it.
    said: Option<ChildStdout>,
    _files: [SpoolFile; 2],
}

/// Directory and redirections are made as the user, by the user's own shell: the service
/// opens no path that a user named. Then the shell becomes the interpreter.
///
/// The user's variables are taken in here as well, from a file: what changes the user does its
/// work as the service, which may be root, and must not find them. The language that this service
/// reads is not the user's.
///
/// With `command`, what cannot open a file does not end the shell.
///
/// Files are emptied, then appended to, as by Slurm: two names may be of one file, where each
/// stream would write over the other. A pipe is opened once, or who reads would find it ended.
const LAUNCHER: &str = r#"no() { echo "$1"; exit 1; }
empty() { [ ! -f "$1" ] || command : >"$1"; }
cd -- "$1" || no workingDirectory
command exec <"$2" || no standardInput
if [ -n "$4" ]; then
  empty "$4" && command exec 2>>"$4" || no standardError
  empty "$3" && command exec >>"$3" || no standardOutput
else
  empty "$3" && command exec >>"$3" 2>&1 || no standardOutput
fi
unset LC_ALL
. "$5"
shift 5
exec "$@""#;

/// Starts a job.
pub(super) async fn start(launch: &Launch, spool: &Path) -> std::io::Result<Running> {
    let job = &launch.job;
    let script = SpoolFile::write(launch, spool, "script", &launch.script)?;
    let variables = SpoolFile::write(launch, spool, "environment", &environment(launch))?;
    let Streams {
        input,
        output,
        error,
    } = Streams::of(job).expand(&Names {
        id: launch.id,
        name: job.name.as_deref().unwrap_or_default(),
        user: &launch.run_as.account().name,
        host: &super::hostname().unwrap_or_default(),
    });
    let mut command = command_as(&launch.run_as, "/bin/sh");
    command.args(["-c", LAUNCHER, "job", &job.working_directory]);
    command
        .args([input, output, error.unwrap_or_default()])
        .arg(&variables.0)
        .args(&launch.interpreter)
        .arg(&script.0);
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    Ok(Running {
        said: child.stdout.take(),
        group: Group::new(child),
        _files: [script, variables],
    })
}

/// Files that a job's standard streams are, as the request names them.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) input: String,
    pub(super) output: String,
    /// Absent: that of the output.
    pub(super) error: Option<String>,
}

impl Streams {
    pub(super) fn of(job: &JobDescription) -> Self {
        let or =
            |given: &Option<String>, else_: &str| given.clone().unwrap_or_else(|| else_.into());
        Self {
            input: or(&job.standard_input, "/dev/null"),
            output: or(&job.standard_output, "slurm-%j.out"),
            error: job.standard_error.clone(),
        }
    }

    /// With the names that their patterns stand for.
    pub(super) fn expand(&self, names: &Names<'_>) -> Self {
        let output = names.expand(&self.output);
        let error = self.error.as_deref().map(|error| names.expand(error));
        Self {
            input: names.expand(&self.input),
            error: error.filter(|error| *error != output),
            output,
        }
    }
}

/// What a job that did not begin shows as its reason, for a word of the launcher.
fn not_started(word: &[u8]) -> Option<End> {
    Some(End::NotStarted(match word.trim_ascii() {
        b"workingDirectory" => "JobLaunchFailure: the working directory cannot be entered",
        b"standardInput" => "JobLaunchFailure: the file for standard input cannot be read",
        b"standardOutput" => "JobLaunchFailure: the file for standard output cannot be written",
        b"standardError" => "JobLaunchFailure: the file for standard error cannot be written",
        _ => return None,
    }))
}

/// What sets a job's variables: the user's, then those that every job has.
fn environment(launch: &Launch) -> String {
    let job = &launch.job;
    let id = launch.id.to_string();
    let own = [
        ("SLURM_JOB_ID", id.as_str()),
        ("SLURM_JOB_NAME", job.name.as_deref().unwrap_or_default()),
        ("SLURM_SUBMIT_DIR", &job.working_directory),
    ];
    let users = job.environment.iter();
    let users = users.map(|(name, value)| (name.as_str(), value.as_str()));
    exports(users.chain(own))
}

impl Running {
    /// Waits for the end, or brings it about.
    pub(super) async fn finish(
        mut self,
        cancel: &CancellationToken,
        wall_time: Duration,
        grace: Duration,
    ) -> End {
        // Each arm is cancel-safe: none holds anything.
        let brought_about = tokio::select! {
            ended = self.group.ended() => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "a job is killed: its end would not be noticed");
                }
                None
            }
            () = cancel.cancelled() => Some(End::Cancelled),
            () = tokio::time::sleep(wall_time) => Some(End::TimedOut),
        };
        if brought_about.is_some() {
            self.group.signal(Signal::TERM);
            // Whatever becomes of it: SIGKILL cannot be ignored.
            let _ = tokio::time::timeout(grace, self.group.ended()).await;
        }
        // Processes that the job left behind go with it, as in Slurm.
        self.group.signal(Signal::KILL);
        let status = self.group.end().await.ok();
        if let Some(end) = brought_about {
            return end;
        }
        let exited = End::Exited {
            code: status.and_then(|s| s.code()),
            signal: status.and_then(|s| s.signal()),
        };
        // Nobody has the other end of it any more.
        let said = match self.said.take() {
            Some(said) => bounded::read_pipe(said, SAID_MAX_BYTES).await.ok(),
            None => None,
        };
        said.and_then(|word| not_started(&word)).unwrap_or(exited)
    }
}

/// Longer than each word of the launcher.
const SAID_MAX_BYTES: u64 = 64;

/// A file for a job, readable by its user only, removed with the job.
#[derive(Debug)]
struct SpoolFile(PathBuf);

impl SpoolFile {
    fn write(launch: &Launch, spool: &Path, kind: &str, text: &str) -> std::io::Result<Self> {
        let file = Self(spool.join(format!("job{}-{kind}", launch.id)));
        let mut options = std::fs::OpenOptions::new();
        let mut out = options
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&file.0)?;
        out.write_all(text.as_bytes())?;
        if let RunAs::Other(account) = &launch.run_as {
            std::os::unix::fs::chown(&file.0, Some(account.uid), Some(account.gid))?;
        }
        Ok(file)
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        // Gone with the spool directory at the latest.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Refuses what the kernel would: it says why instead. And what is longer than Slurm takes it.
pub(super) fn check(job: &JobDescription) -> Result<(), String> {
    let bad_name = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    if job
        .environment
        .iter()
        .any(|(k, v)| bad_name(k) || v.contains('\0'))
    {
        return Err("a variable of the environment has an impossible name or value".to_owned());
    }
    if !job.working_directory.starts_with('/') {
        return Err("the working directory must be an absolute path".to_owned());
    }
    let names = [("name", &job.name), ("account", &job.account)];
    let paths = [
        ("standard input", &job.standard_input),
        ("standard output", &job.standard_output),
        ("standard error", &job.standard_error),
    ];
    let names = names.map(|(field, text)| (field, text.as_ref(), limits::JOB_NAME_MAX_BYTES));
    let paths = paths.map(|(field, text)| (field, text.as_ref(), limits::PATH_MAX_BYTES));
    let directory = Some(&job.working_directory);
    let directory = ("working directory", directory, limits::PATH_MAX_BYTES);
    for (field, text, max_bytes) in names.into_iter().chain(paths).chain([directory]) {
        let text = text.map_or("", String::as_str);
        if text.contains('\0') {
            return Err(format!("the {field} contains a NUL character"));
        }
        if text.len() > max_bytes {
            return Err(format!("the {field} is longer than {max_bytes} bytes"));
        }
    }
    Ok(())
}

/// Sets the permission bits of a file or directory.
pub(super) fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}
