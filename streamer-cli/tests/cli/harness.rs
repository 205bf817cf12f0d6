//! Starts the binary, waits for what it prints, and leaves nothing behind.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_streamer");

/// Longest wait for anything: generous, for machines that are busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// Ports and a directory of a test's own.
pub(crate) struct World {
    dir: TempDir,
    ports: Ports,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            ports: Ports::new(),
        }
    }

    pub(crate) fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir.path().join(name.as_ref())
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of bytes that repeat nowhere near.
    pub(crate) fn file(&self, name: impl AsRef<OsStr>, size: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes(size)).unwrap();
        path
    }

    /// A large file that takes little space. Its bytes travel: there are some in each block, and others
    /// than in every other.
    pub(crate) fn sparse(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(size).unwrap();
        for offset in (0..size).step_by(1 << 20) {
            file.write_all_at(&(offset + 1).to_be_bytes(), offset)
                .unwrap();
        }
        path
    }

    /// A new file that a client with this verb moves.
    pub(crate) fn moved(&self, verb: &'static str, size: usize) -> Moved {
        Moved {
            verb,
            source: self.file("source", size),
            target: self.path("target"),
        }
    }

    /// `streamer server VERB --path PATH` on this world's ports.
    pub(crate) fn server(&self, options: &[&str], verb: &str, path: &Path) -> Command {
        self.server_by(streamer(), options, verb, path)
    }

    /// The same, with the binary started by something else.
    pub(crate) fn server_by(
        &self,
        mut command: Command,
        options: &[&str],
        verb: &str,
        path: &Path,
    ) -> Command {
        let (first, last) = self.port_range();
        command
            .args(["server", "--port-range", &first, &last])
            .args(options)
            .arg(verb)
            .arg("--path")
            .arg(path);
        command
    }

    pub(crate) fn port_range(&self) -> (String, String) {
        let last = self.ports.first + PORTS - 1;
        (self.ports.first.to_string(), last.to_string())
    }

    /// An endpoint that listens, and its coordinates.
    pub(crate) fn endpoint(&self, options: &[&str], verb: &str, path: &Path) -> (Process, String) {
        announced(self.server(options, verb, path))
    }
}

/// One file, from an endpoint to a client or the other way round.
pub(crate) struct Moved {
    verb: &'static str,
    source: PathBuf,
    target: PathBuf,
}

impl Moved {
    fn is_received(&self) -> bool {
        self.verb == "receive"
    }

    /// An endpoint that listens, and its coordinates.
    pub(crate) fn endpoint(&self, world: &World) -> (Process, String) {
        match self.is_received() {
            true => world.endpoint(&[], "send", &self.source),
            false => world.endpoint(&[], "receive", &self.target),
        }
    }

    /// A client that has begun.
    pub(crate) fn client(&self, coordinates: &str, options: &[&str]) -> Process {
        let mine = if self.is_received() {
            &self.target
        } else {
            &self.source
        };
        let options = [&["--json"], options].concat();
        Process::start(client(coordinates, &options, self.verb, mine))
    }

    /// Waits for the end of both, and compares. The client's summary.
    #[track_caller]
    pub(crate) fn assert_moved(&self, endpoint: Process, client: Process) -> Value {
        let exit = client.wait();
        exit.assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        let [sent, arrived] = [&self.source, &self.target].map(|path| std::fs::read(path).unwrap());
        assert!(sent == arrived, "other bytes arrived");
        exit.message("summary")
    }
}

/// Starts an endpoint and waits until it listens.
pub(crate) fn announced(command: Command) -> (Process, String) {
    let mut endpoint = Process::start(command);
    let line =
        endpoint.wait_for(|line| line.starts_with(ANNOUNCEMENT) || line.contains("\"listening\""));
    let coordinates = match line.strip_prefix(ANNOUNCEMENT) {
        Some(coordinates) => coordinates.to_owned(),
        None => json(&line)["coordinates"].as_str().unwrap().to_owned(),
    };
    (endpoint, coordinates)
}

pub(crate) const ANNOUNCEMENT: &str = "Use these coordinates to connect: ";

/// The binary, with no variable of ours around it.
pub(crate) fn streamer() -> Command {
    clean(Command::new(BINARY))
}

/// The binary started by another program, which must replace itself by it.
pub(crate) fn streamer_by(program: &str, args: &[&str]) -> Command {
    let mut command = clean(Command::new(program));
    command.args(args).arg(BINARY);
    command
}

pub(crate) fn clean(mut command: Command) -> Command {
    for name in [
        "STREAMER_COORDINATES",
        "STREAMER_SECRET",
        "STREAMER_LOG",
        "FIRECREST_URL",
        "FIRECREST_TOKEN",
    ] {
        command.env_remove(name);
    }
    command
}

/// `streamer VERB --path PATH` with the coordinates in the environment.
pub(crate) fn client(coordinates: &str, options: &[&str], verb: &str, path: &Path) -> Command {
    client_by(streamer(), coordinates, options, verb, path)
}

pub(crate) fn client_by(
    mut command: Command,
    coordinates: &str,
    options: &[&str],
    verb: &str,
    path: &Path,
) -> Command {
    command
        .env("STREAMER_COORDINATES", coordinates)
        .arg(verb)
        .args(options)
        .arg("--path")
        .arg(path);
    command
}

/// Runs to the end.
pub(crate) fn run(command: Command) -> Exit {
    Process::start(command).wait()
}

/// Says so past the test harness, which keeps what a test that passes prints to itself.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// How a process ended and all that it printed.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Exit {
    /// Checks the exit code and that stderr says all of this.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "no '{word}' in {self:#?}");
        }
    }

    /// The last JSON line of a type.
    #[track_caller]
    pub(crate) fn message(&self, message_type: &str) -> Value {
        let mut lines = self.stdout.lines().map(json);
        lines
            .rfind(|line| line["message_type"] == message_type)
            .unwrap_or_else(|| panic!("no {message_type} in {self:#?}"))
    }
}

/// A process that is killed and reaped when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<Line>,
    readers: Vec<JoinHandle<()>>,
    stdout: String,
    stderr: String,
}

struct Line {
    is_error: bool,
    text: String,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::start_with(command, None)
    }

    /// Starts it with this on standard input.
    pub(crate) fn start_with(mut command: Command, input: Option<&[u8]>) -> Self {
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // It may leave without reading all of it.
            let _ = stdin.write_all(input);
        }
        let (sender, lines) = channel();
        let readers = vec![
            forward(child.stdout.take().unwrap(), false, sender.clone()),
            forward(child.stderr.take().unwrap(), true, sender),
        ];
        Self {
            child,
            lines,
            readers,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line, on either stream, that is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_longer_for(DEADLINE, wanted)
    }

    /// The same, of what takes its time by design.
    #[track_caller]
    pub(crate) fn wait_longer_for(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let deadline = Instant::now() + patience;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.note(&line);
                    if wanted(&line.text) {
                        return line.text;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!(
                    "the line did not come\nstdout: {}\nstderr: {}",
                    self.stdout, self.stderr
                ),
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Exit {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => self.note(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!(
                    "it does not end\nstdout: {}\nstderr: {}",
                    self.stdout, self.stderr
                ),
            }
        }
        let status = self.child.wait().unwrap();
        Exit {
            status,
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
        }
    }

    fn note(&mut self, line: &Line) {
        let all = if line.is_error {
            &mut self.stderr
        } else {
            &mut self.stdout
        };
        all.push_str(&line.text);
        all.push('\n');
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, in most tests.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

fn forward(stream: impl Read + Send + 'static, is_error: bool, to: Sender<Line>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while matches!(stream.read_until(b'\n', &mut bytes), Ok(1..)) {
            let text = String::from_utf8_lossy(&bytes)
                .trim_end_matches('\n')
                .to_owned();
            bytes.clear();
            if to.send(Line { is_error, text }).is_err() {
                return;
            }
        }
    })
}

/// Polls until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until some blocks of `target` are proven.
#[track_caller]
pub(crate) fn wait_for_partial(target: &Path) {
    let journal = beside(target, ".part.journal");
    wait_until("proven blocks", || {
        std::fs::metadata(&journal).is_ok_and(|found| found.size() > 1000)
    });
}

/// `target` with something at its end.
pub(crate) fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[track_caller]
pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

pub(crate) fn bytes(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ size as u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Ports of one test.
const PORTS: u16 = 4;

/// Below those that the system gives out by itself.
const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;

/// Free, and nobody else's while this lives, also when an endpoint between two lives leaves them.
struct Ports {
    first: u16,
    /// Held by us, below the first: tells other processes with these tests.
    _guard: TcpListener,
}

impl Ports {
    fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let size = PORTS + 1;
        let groups = (LAST_PORT - FIRST_PORT) / size;
        let start = (std::process::id() % u32::from(groups)) as u16;
        let is_free = |port| {
            TcpListener::bind(("127.0.0.1", port)).is_ok()
                && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        };
        (0..groups)
            .find_map(|_| {
                let group = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % groups;
                let guard = FIRST_PORT + group * size;
                let first = guard + 1;
                let _guard = TcpListener::bind(("127.0.0.1", guard)).ok()?;
                (first..first + PORTS)
                    .all(is_free)
                    .then_some(Self { first, _guard })
            })
            .expect("free ports")
    }
}
