//! The small parent under which a measured program runs; see [`crate::measure`].

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::time::TimeVal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::measure::{Ended, Usage};

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Code of a warden that could not do its work; its reason is on standard error.
const BROKEN: u8 = 125;

/// Runs `FIGURES PROGRAM [ARGUMENT]...`, writes the figures, and leaves with 0 whatever the
/// program did.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match run(arguments.into_iter().collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "this process has no other way to say it"
            )]
            {
                eprintln!("warden: {error}");
            }
            ExitCode::from(BROKEN)
        }
    }
}

fn run(arguments: Vec<OsString>) -> io::Result<()> {
    let [figures, program, arguments @ ..] = arguments.as_slice() else {
        return Err(io::Error::other(
            "usage: --warden FIGURES PROGRAM [ARGUMENT]...",
        ));
    };
    // The bench blocks signals that it waits for, and programs would inherit that.
    SigSet::empty().thread_set_mask()?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
    // Process ids fit: the kernel hands out `pid_t`.
    let pid = Pid::from_raw(child.id().cast_signed());
    let program = Arc::new(Watched {
        pid: Mutex::new(Some(pid)),
        ended: Condvar::new(),
    });
    thread::spawn({
        let program = Arc::clone(&program);
        move || program.end_when_told()
    });

    // WNOWAIT leaves a zombie, so that the other thread cannot signal a stranger's process.
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
    let wall = start.elapsed();
    program.forget();
    let status = child.wait()?;
    write_figures(Path::new(figures), wall, status)
}

/// The program, until it has ended.
struct Watched {
    pid: Mutex<Option<Pid>>,
    ended: Condvar,
}

impl Watched {
    /// Waits for the end of standard input, then ends the program.
    fn end_when_told(&self) {
        // Whatever the read says, nobody is there any more.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let program = self.lock();
        signal(*program, Signal::SIGTERM);
        let still_there = |program: &mut Option<Pid>| program.is_some();
        let waited = self.ended.wait_timeout_while(program, GRACE, still_there);
        let (program, _) = waited.unwrap_or_else(PoisonError::into_inner);
        signal(*program, Signal::SIGKILL);
    }

    fn forget(&self) {
        *self.lock() = None;
        self.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(program: Option<Pid>, signal: Signal) {
    if let Some(pid) = program {
        // It may be a zombie already, which is as good.
        let _ = kill(pid, signal);
    }
}

fn write_figures(file: &Path, wall: Duration, status: ExitStatus) -> io::Result<()> {
    let rusage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let usage = Usage {
        wall_seconds: wall.as_secs_f64(),
        user_seconds: seconds(rusage.user_time()),
        system_seconds: seconds(rusage.system_time()),
        peak_memory_bytes: u64::try_from(rusage.max_rss()).unwrap_or_default() * 1024,
        ended: match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, signal) => Ended::Signal(signal.unwrap_or_default()),
        },
    };
    std::fs::write(file, serde_json::to_vec(&usage)?)
}

fn seconds(time: TimeVal) -> f64 {
    let whole = Duration::from_secs(time.tv_sec().unsigned_abs());
    let part = Duration::from_micros(time.tv_usec().unsigned_abs());
    (whole + part).as_secs_f64()
}
