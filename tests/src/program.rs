//! The programs of the workspace as processes.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A program of the workspace, from the directory in which this test was built.
///
/// # Panics
/// When it is not built: cargo builds no programs of other packages for a test.
pub fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let target = test.parent().and_then(Path::parent);
    let program = target.expect("target/PROFILE/deps/TEST").join(name);
    assert!(
        program.is_file(),
        "{} is missing; build it first: cargo build -p streamer-cli -p api-server",
        program.display()
    );
    program
}

/// A running `streamer` client that prints JSON lines.
#[derive(Debug)]
pub struct Client {
    child: Child,
    stdout: ChildStdout,
}

/// How a client ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its last line: a summary or an error.
    pub last: Value,
    /// Everything it printed.
    pub text: String,
}

impl Client {
    /// Starts `streamer VERB --path PATH OPTIONS`; the coordinates go by environment.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(verb: &str, coordinates: &str, at: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(path("streamer"));
        command
            .args([verb, "--json", "--path"])
            .arg(at)
            .args(options);
        command.env("STREAMER_COORDINATES", coordinates);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("streamer starts");
        let stdout = child.stdout.take().expect("its output is a pipe");
        Self { child, stdout }
    }

    /// Stops it where it is; its connection stays.
    pub fn hold(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        signal_process(self.child.id(), signal);
    }

    /// Reads to its end.
    ///
    /// # Panics
    /// When its output is not JSON lines.
    pub fn end(mut self) -> Ended {
        let mut text = String::new();
        self.stdout
            .read_to_string(&mut text)
            .expect("readable output");
        let last = text.lines().last().unwrap_or("null");
        Ended {
            code: self.child.wait().expect("it can be waited for").code(),
            last: serde_json::from_str(last).expect("a JSON line"),
            text,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Has ended already, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that this test started and has not waited for.
///
/// # Panics
/// When that is not possible.
pub fn signal_process(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("the process is there");
}
