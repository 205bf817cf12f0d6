//! How commands go through a shell that stays: pure text and bytes.
//!
//! The shell reads commands on its standard input. Before and after each it prints a line with
//! a marker that is new each time; what lies between is the command's. The command itself gets
//! an empty input, and a subshell: it changes nothing for those after it.

use crate::command::quote;
use crate::executor::{ExecError, Output, RunLimits};

/// Characters of a marker.
const MARKER_LENGTH: usize = 32;

/// What a shell prints before its first command, such as greetings of its start-up files.
const NOISE_MAX_BYTES: usize = 64 * 1024;

/// How much of that is logged when no command follows.
const SAID_MAX_BYTES: usize = 200;

/// A marker that nothing else prints.
pub(super) fn marker() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// The lines that run one command.
pub(super) fn request(line: &str, marker: &str) -> String {
    let line = quote(line);
    // `timeout` leads a process group of its own, which signals to the shell's do not reach. A shell
    // that waits for a program in the background passes them on at once.
    format!(
        "printf '\\n%s\\n' {marker}; printf '\\n%s\\n' {marker} >&2\n\
         trap 'kill -s TERM -- \"-$!\" 2>/dev/null; exit 143' TERM\n\
         (eval {line}) </dev/null &\n\
         wait $!\n\
         printf '\\n%s %d\\n' {marker} $?; printf '\\n%s\\n' {marker} >&2; trap - TERM\n"
    )
}

/// What came back so far.
#[derive(Debug)]
pub(super) struct Reply {
    stdout: Stream,
    stderr: Stream,
}

impl Reply {
    /// Of a request with this marker; each stream bounded.
    pub(super) fn new(marker: &str, limits: RunLimits) -> Self {
        Self {
            stdout: Stream::new(marker, limits.output_bytes),
            stderr: Stream::new(marker, limits.error_bytes()),
        }
    }

    /// Takes what was printed.
    pub(super) fn stdout(&mut self, data: &[u8]) -> Result<(), ExecError> {
        self.stdout.push(data)
    }

    /// Takes what was complained.
    pub(super) fn stderr(&mut self, data: &[u8]) -> Result<(), ExecError> {
        self.stderr.push(data)
    }

    /// Whether the command may have begun.
    pub(super) fn has_begun(&self) -> bool {
        self.stdout.begun || self.stderr.begun
    }

    /// What a shell that ended before the command began has printed, as a log may show it.
    pub(super) fn said(&self) -> String {
        let bytes = [&self.stdout.bytes[..], &self.stderr.bytes[..]].concat();
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SAID_MAX_BYTES)]).into_owned();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The output, once the command has ended.
    pub(super) fn take(&mut self) -> Option<Output> {
        let (stdout, code) = self.stdout.end()?;
        let (stderr, _) = self.stderr.end()?;
        let (stdout, stderr) = (
            stdout..self.stdout.bytes.len(),
            stderr..self.stderr.bytes.len(),
        );
        self.stdout.bytes.drain(stdout);
        self.stderr.bytes.drain(stderr);
        Some(Output {
            exit_code: Some(code),
            signal: None,
            stdout: std::mem::take(&mut self.stdout.bytes),
            stderr: std::mem::take(&mut self.stderr.bytes),
        })
    }
}

/// One of the two streams.
#[derive(Debug)]
struct Stream {
    marker: String,
    max_bytes: usize,
    begun: bool,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(marker: &str, max_bytes: usize) -> Self {
        Self {
            marker: marker.to_owned(),
            max_bytes,
            begun: false,
            bytes: Vec::new(),
        }
    }

    fn push(&mut self, data: &[u8]) -> Result<(), ExecError> {
        self.bytes.extend_from_slice(data);
        if !self.begun {
            self.begin()?;
        }
        // Room for the end marker, which is no output.
        if self.begun && self.bytes.len() > self.max_bytes.saturating_add(TAIL_MAX) {
            return Err(ExecError::OutputTooLarge);
        }
        if self
            .end()
            .is_some_and(|(length, _)| length > self.max_bytes)
        {
            return Err(ExecError::OutputTooLarge);
        }
        Ok(())
    }

    /// Forgets everything up to the first marker.
    fn begin(&mut self) -> Result<(), ExecError> {
        let line = format!("\n{}\n", self.marker);
        let found = self
            .bytes
            .windows(line.len())
            .position(|w| w == line.as_bytes());
        if let Some(at) = found {
            self.bytes.drain(..at + line.len());
            self.begun = true;
        } else if self.bytes.len() > NOISE_MAX_BYTES {
            return Err(ExecError::OutputTooLarge);
        }
        Ok(())
    }

    /// Length of the output and the exit status, when the end marker is the last there is.
    fn end(&self) -> Option<(usize, i32)> {
        if !self.begun {
            return None;
        }
        let from = self.bytes.len().saturating_sub(TAIL_MAX);
        let tail = &self.bytes[from..];
        let start = format!("\n{}", self.marker);
        let at = tail
            .windows(start.len())
            .position(|w| w == start.as_bytes())?;
        let code = std::str::from_utf8(&tail[at + start.len()..]).ok()?;
        let code = code.strip_suffix('\n')?;
        let code = if code.is_empty() {
            0
        } else {
            code.trim_start().parse().ok()?
        };
        Some((from + at, code))
    }
}

/// Longest end: two line feeds, the marker, a blank and three digits.
const TAIL_MAX: usize = MARKER_LENGTH + 6;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    /// Sends requests through one real shell, and hands back what it printed.
    fn through_sh(lines: &[&str]) -> (Vec<String>, Vec<u8>, Vec<u8>) {
        let mut child = Command::new("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let markers: Vec<String> = lines.iter().map(|_| marker()).collect();
        let mut stdin = child.stdin.take().unwrap();
        for (line, marker) in lines.iter().zip(&markers) {
            stdin.write_all(request(line, marker).as_bytes()).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        (markers, output.stdout, output.stderr)
    }

    fn up_to(output_bytes: usize) -> RunLimits {
        RunLimits {
            timeout: std::time::Duration::from_secs(1),
            output_bytes,
        }
    }

    fn replied(marker: &str, stdout: &[u8], stderr: &[u8], step: usize) -> Option<Output> {
        let mut reply = Reply::new(marker, up_to(1 << 20));
        for part in stdout.chunks(step) {
            assert_eq!(reply.take(), None);
            reply.stdout(part).unwrap();
        }
        for part in stderr.chunks(step) {
            assert_eq!(reply.take(), None);
            reply.stderr(part).unwrap();
        }
        reply.take()
    }

    #[test]
    fn a_real_shell_answers_however_the_bytes_are_cut() {
        let line = "printf 'o\\n\\n'; printf e >&2; cat; exit 7";
        let (markers, stdout, stderr) = through_sh(&[line]);
        for step in 1..80 {
            let output = replied(&markers[0], &stdout, &stderr, step).unwrap();
            assert_eq!(output.exit_code, Some(7));
            assert_eq!(
                (&output.stdout[..], &output.stderr[..]),
                (&b"o\n\n"[..], &b"e"[..])
            );
        }
    }

    #[test]
    fn commands_do_not_change_the_shell() {
        // An unfinished quote is that command's failure only.
        let (markers, stdout, stderr) =
            through_sh(&["cd /tmp; A=1; '", "printf '%s\n' \"a$A\" 'b\nc'; pwd"]);
        let text = String::from_utf8(stdout).unwrap();
        let (first, second) = text.split_once(&format!("\n{}\n", markers[1])).unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        let errors = stderr.split_once(&format!("\n{}\n", markers[1])).unwrap();
        let failed = replied(&markers[0], first.as_bytes(), errors.0.as_bytes(), 9).unwrap();
        assert_ne!(failed.exit_code, Some(0));
        let second = format!("\n{}\n{second}", markers[1]);
        let errors = format!("\n{}\n{}", markers[1], errors.1);
        let output = replied(&markers[1], second.as_bytes(), errors.as_bytes(), 9).unwrap();
        let directory = std::env::current_dir().unwrap();
        let expected = format!("a\nb\nc\n{}\n", directory.display());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }

    #[test]
    fn a_signal_to_the_shell_ends_programs_under_timeout_too() {
        use std::os::unix::process::CommandExt as _;
        for shell in ["sh", "bash"] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("pids");
            let script = format!("sleep 600 & echo $! $$ > {}; wait", file.display());
            let line = crate::command::ShellLine::new("sh").args(["-c", &script]);
            let line = line.within(std::time::Duration::from_secs(300));
            let mut command = Command::new(shell);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // As in a session of sshd, which signals the group that the shell leads.
            let mut child = command.process_group(0).spawn().unwrap();
            let request = request(&line.replacing_the_shell(), &marker());
            let stdin = child.stdin.as_mut().unwrap();
            stdin.write_all(request.as_bytes()).unwrap();
            let pids = crate::test_support::line_of(&file);
            let group = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(143), "{shell}");
            crate::test_support::until_gone(&pids);
        }
    }

    #[test]
    fn greetings_are_skipped_up_to_a_bound() {
        let mut reply = Reply::new("m", up_to(10));
        reply.stdout(b"Welcome!\n\nm\nx\nm 0\n").unwrap();
        reply.stderr(b"\nm\n\nm\n").unwrap();
        assert_eq!(reply.take().unwrap().stdout, b"x");
        let mut reply = Reply::new("m", up_to(10));
        let noise = vec![b'x'; NOISE_MAX_BYTES + 1];
        assert!(matches!(
            reply.stdout(&noise),
            Err(ExecError::OutputTooLarge)
        ));
    }

    #[test]
    fn exactly_the_limit_passes() {
        let marker = marker();
        let with = |length: usize| {
            let mut reply = Reply::new(&marker, up_to(1000));
            let text = format!("\n{marker}\n{}\n{marker} 0\n", "x".repeat(length));
            reply.stdout(text.as_bytes())
        };
        assert!(with(1000).is_ok());
        assert!(matches!(with(1001), Err(ExecError::OutputTooLarge)));
        assert!(matches!(with(100_000), Err(ExecError::OutputTooLarge)));
    }

    #[test]
    fn complaints_are_short_where_the_output_may_be_long() {
        let long = crate::limits::STANDARD_ERROR_MAX_BYTES + 1000;
        let text = format!("\nm\n{}", "x".repeat(long));
        let mut reply = Reply::new("m", up_to(10 * long));
        assert!(reply.stdout(text.as_bytes()).is_ok());
        assert!(matches!(
            reply.stderr(text.as_bytes()),
            Err(ExecError::OutputTooLarge)
        ));
    }

    proptest! {
        #[test]
        fn any_output_comes_back(stdout: Vec<u8>, stderr: Vec<u8>, code in 0..256, step in 1_usize..50) {
            let marker = marker();
            let head = format!("\n{marker}\n").into_bytes();
            let one = [&head, &stdout[..], format!("\n{marker} {code}\n").as_bytes()].concat();
            let two = [&head, &stderr[..], &head].concat();
            let output = replied(&marker, &one, &two, step).unwrap();
            prop_assert_eq!(output.exit_code, Some(code));
            prop_assert_eq!(output.stdout, stdout);
            prop_assert_eq!(output.stderr, stderr);
        }
    }
}
