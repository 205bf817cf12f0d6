//! Runs one program and says what it cost: time, processor, memory.
//!
//! Each program runs under a small parent of its own (the *warden*, this same executable),
//! because the kernel keeps the figures per parent: `getrusage(RUSAGE_CHILDREN)` there covers
//! exactly the program and the descendants it waited for. The warden ends its program when
//! its standard input closes, so nothing outlives a bench that was killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// First argument that turns the executable into a warden.
pub const WARDEN_ARGUMENT: &str = "--warden";

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(2);

/// How much of a failed program's output an error repeats.
const TAIL_BYTES: usize = 2000;

/// What one program cost, its descendants included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// From before its start to after its end.
    pub wall_seconds: f64,
    /// Processor time in user mode.
    pub user_seconds: f64,
    /// Processor time in the kernel.
    pub system_seconds: f64,
    /// Resident memory of the largest single process at its peak. Never under the warden's
    /// own 2 to 4 MB: the kernel starts counting before `exec`.
    pub peak_memory_bytes: u64,
    /// Exit code, or the number of the signal that ended it.
    pub ended: Ended,
}

impl Usage {
    /// User and kernel mode together.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a program could not be measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// It could not be started or watched.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Its name.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// It left with a code that is not success.
    #[error("{program} ended with {ended:?}; the end of its output:\n{tail}")]
    Failed {
        /// Its name.
        program: String,
        /// How.
        ended: Ended,
        /// Standard output and error, the last part.
        tail: String,
    },
    /// What was waited for did not happen in time.
    #[error("{program}: {what} did not happen within {seconds} s; the end of its output:\n{tail}")]
    Late {
        /// Its name.
        program: String,
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// Standard output and error, the last part.
        tail: String,
    },
    /// The warden left no readable figures.
    #[error("no figures for {program}: {reason}")]
    NoFigures {
        /// Its name.
        program: String,
        /// Why.
        reason: String,
    },
}

/// Starts programs under wardens.
#[derive(Debug, Clone)]
pub struct Meter {
    warden: PathBuf,
    logs: PathBuf,
}

impl Meter {
    /// `warden` is an executable that hands [`WARDEN_ARGUMENT`] to [`crate::warden::main`];
    /// output and figures go to files in `logs`.
    pub fn new(warden: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Self {
        Self {
            warden: warden.into(),
            logs: logs.into(),
        }
    }

    /// The directory of output and figures.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Starts `program`; `name` tells its files from those of others in the same directory.
    ///
    /// # Errors
    /// If files cannot be made or the warden does not start.
    pub fn start(&self, name: &str, program: &Program) -> Result<Running, MeasureError> {
        let failed = |source| MeasureError::Run {
            program: name.to_owned(),
            source,
        };
        let stem = self.logs.join(name);
        let files = Files {
            figures: stem.with_extension("json"),
            stdout: stem.with_extension("out"),
            stderr: stem.with_extension("err"),
        };
        let warden = Command::new(&self.warden)
            .arg(WARDEN_ARGUMENT)
            .arg(&files.figures)
            .arg(&program.program)
            .args(&program.arguments)
            .envs(program.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::piped())
            .stdout(File::create(&files.stdout).map_err(failed)?)
            .stderr(File::create(&files.stderr).map_err(failed)?)
            .spawn()
            .map_err(failed)?;
        Ok(Running {
            name: name.to_owned(),
            warden,
            files,
        })
    }
}

/// A command line to measure.
#[derive(Clone)]
pub struct Program {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// A program by name or path.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Run by another program, whose last arguments it and its own become.
    #[must_use]
    pub fn by(self, other: Self) -> Self {
        let Self {
            program,
            arguments,
            environment,
        } = self;
        let mut other = other.arg(program).args(arguments);
        other.environment.extend(environment);
        other
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }
}

impl std::fmt::Debug for Program {
    /// Values of the environment stay out: they hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("Program")
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .field("environment", &names)
            .finish()
    }
}

/// A program under its warden. Dropping it ends the program.
#[derive(Debug)]
pub struct Running {
    name: String,
    warden: Child,
    files: Files,
}

#[derive(Debug)]
struct Files {
    figures: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Waits until `ready` holds.
    ///
    /// # Errors
    /// If the program ends first, or `limit` passes.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&Self) -> bool,
    ) -> Result<(), MeasureError> {
        let deadline = Instant::now() + limit;
        loop {
            if ready(self) {
                return Ok(());
            }
            if self.has_ended()? {
                return Err(self.failed(self.figures()?.ended));
            }
            if Instant::now() >= deadline {
                return Err(self.late(what, limit));
            }
            thread::sleep(POLL);
        }
    }

    /// Whether `text` is in what the program printed so far, on either stream.
    pub fn printed(&self, text: &str) -> bool {
        let has = |file: &Path| {
            std::fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
        };
        has(&self.files.stdout) || has(&self.files.stderr)
    }

    /// What the program wrote to its standard output so far.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn stdout(&self) -> Result<String, MeasureError> {
        let bytes = std::fs::read(&self.files.stdout).map_err(|e| self.run_error(e))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for the program to end by itself, with success.
    ///
    /// # Errors
    /// If it fails, or is still running after `limit`; then it is ended.
    pub fn finish(mut self, limit: Duration) -> Result<Usage, MeasureError> {
        let deadline = Instant::now() + limit;
        while !self.has_ended()? {
            if Instant::now() >= deadline {
                return Err(self.late("its end", limit));
            }
            thread::sleep(POLL);
        }
        let usage = self.figures()?;
        match usage.ended {
            Ended::Code(0) => Ok(usage),
            ended => Err(self.failed(ended)),
        }
    }

    /// Ends a program that runs until it is told to (SIGTERM, then SIGKILL) and takes its
    /// figures; how it ended is not judged.
    ///
    /// # Errors
    /// If the warden left no figures.
    pub fn stop(mut self) -> Result<Usage, MeasureError> {
        drop(self.warden.stdin.take());
        self.warden.wait().map_err(|e| self.run_error(e))?;
        self.figures()
    }

    fn has_ended(&mut self) -> Result<bool, MeasureError> {
        match self.warden.try_wait() {
            Ok(status) => Ok(status.is_some()),
            Err(source) => Err(self.run_error(source)),
        }
    }

    fn figures(&self) -> Result<Usage, MeasureError> {
        let no_figures = |reason: String| MeasureError::NoFigures {
            program: self.name.clone(),
            reason: format!("{reason}; the end of its output:\n{}", self.tail()),
        };
        let text = std::fs::read(&self.files.figures).map_err(|e| no_figures(e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| no_figures(e.to_string()))
    }

    fn run_error(&self, source: io::Error) -> MeasureError {
        MeasureError::Run {
            program: self.name.clone(),
            source,
        }
    }

    fn failed(&self, ended: Ended) -> MeasureError {
        MeasureError::Failed {
            program: self.name.clone(),
            ended,
            tail: self.tail(),
        }
    }

    fn late(&self, what: &str, limit: Duration) -> MeasureError {
        MeasureError::Late {
            program: self.name.clone(),
            what: what.to_owned(),
            seconds: limit.as_secs(),
            tail: self.tail(),
        }
    }

    /// The last part of what it printed.
    pub fn tail(&self) -> String {
        let read = |file: &Path| {
            let bytes = std::fs::read(file).unwrap_or_default();
            let from = bytes.len().saturating_sub(TAIL_BYTES);
            String::from_utf8_lossy(&bytes[from..]).trim().to_owned()
        };
        let parts = [read(&self.files.stdout), read(&self.files.stderr)];
        parts
            .iter()
            .filter(|part| !part.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        // The warden kills what does not end on SIGTERM, so this wait is short.
        let _ = self.warden.wait();
    }
}
