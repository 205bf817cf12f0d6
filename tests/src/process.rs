//! A program whose output is followed line by line, whoever wrote it.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::signal_process;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Exit {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Everything that it printed, on both streams.
    pub text: String,
}

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // Else the lines of a Python program stay with it until it ends.
        command.env("PYTHONUNBUFFERED", "1");
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{:?}: {error}", command.get_program()));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("its output is a pipe");
        let stderr = child.stderr.take().expect("its errors are a pipe");
        follow(stdout, sender.clone());
        follow(stderr, sender);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// The first line that contains `text`, printed already or yet to come.
    ///
    /// # Panics
    /// When there is none in time, or the program ends before.
    pub fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
            return line.clone();
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {text:?}: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without {text:?}: {:?}", self.seen)
                }
            }
        }
    }

    /// The coordinates that an endpoint announces, ours and the Python one alike.
    pub fn coordinates(&mut self) -> String {
        let line = self.wait_for(ANNOUNCEMENT);
        let (_, coordinates) = line.split_once(ANNOUNCEMENT).unwrap_or_default();
        coordinates.trim().to_owned()
    }

    /// Ends it as `kill -9` does, and waits.
    pub fn kill(mut self) {
        signal_process(self.child.id(), Signal::KILL);
        let _ = self.child.wait();
    }

    /// Reads to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn end(mut self) -> Exit {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:?}", self.seen),
            }
        }
        let code = self.child.wait().expect("it can be waited for").code();
        Exit {
            code,
            text: self.seen.join("\n"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Has ended already, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(stream: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if lines
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
}

/// What both programs say before their coordinates.
const ANNOUNCEMENT: &str = "Use these coordinates to connect:";

/// More than any step of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
