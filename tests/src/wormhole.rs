//! The servers of magic-wormhole, and its program as a user runs it, from the environment
//! that `tests/wormhole.sh` makes.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// A mailbox server and a transit relay of the test's own.
#[derive(Debug)]
pub struct Wormhole {
    mailbox: Child,
    relay: Child,
    /// URL of the mailbox server.
    pub mailbox_url: String,
    /// The transit relay, as the program takes it.
    pub transit_relay: String,
}

impl Wormhole {
    /// Starts both; they keep their files in `directory`.
    ///
    /// # Panics
    /// When they do not come up.
    pub fn start(directory: &Path) -> Self {
        let (mailbox_port, relay_port) = (free_port(), free_port());
        let server = |plugin: &str, port: u16, options: &[&str]| {
            let listen = format!("--port=tcp:{port}:interface=127.0.0.1");
            let mut command = Command::new(program("twist"));
            command.args([plugin, &listen]).args(options);
            command.current_dir(directory);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::null()).spawn().expect("twist starts")
        };
        let files = ["--channel-db=relay.sqlite", "--usage-db=usage.sqlite"];
        let servers = Self {
            mailbox: server("wormhole-mailbox", mailbox_port, &files),
            relay: server("transitrelay", relay_port, &[]),
            mailbox_url: format!("ws://127.0.0.1:{mailbox_port}/v1"),
            transit_relay: format!("tcp:127.0.0.1:{relay_port}"),
        };
        let deadline = Instant::now() + PATIENCE;
        for port in [mailbox_port, relay_port] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < deadline, "nothing listens on {port}");
                // A server that is starting can only be tried.
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        servers
    }

    /// A user who sends `file`, and the code that they were given.
    ///
    /// # Panics
    /// When the program does not print one.
    pub fn send(&self, file: &Path) -> (Child, String) {
        let mut command = self.command();
        command.args(["send", "--hide-progress"]).arg(file);
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("wormhole starts");
        let words = child.stderr.take().expect("a pipe");
        let code = code_in(words);
        (child, code)
    }

    /// A user who types a code and receives a file.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn receive(&self, code: &str, target: &Path) -> bool {
        let mut command = self.command();
        command.args([
            "receive",
            "--hide-progress",
            "--accept-file",
            "--output-file",
        ]);
        command.arg(target).arg(code).stderr(Stdio::null());
        command.status().expect("wormhole runs").success()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("wormhole"));
        command.env("WORMHOLE_RELAY_URL", &self.mailbox_url);
        command.env("WORMHOLE_TRANSIT_HELPER", &self.transit_relay);
        command.env("WORMHOLE_QR", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Wormhole {
    fn drop(&mut self) {
        for server in [&mut self.mailbox, &mut self.relay] {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The code among what a sender says. It may say more: that is read and thrown away.
fn code_in(words: ChildStderr) -> String {
    let mut words = BufReader::new(words);
    let mut line = String::new();
    loop {
        line.clear();
        let length = words.read_line(&mut line).expect("readable words");
        assert!(length > 0, "wormhole gave no code");
        if let Some((_, code)) = line.split_once("code is: ") {
            drop(std::thread::spawn(move || {
                let _ = std::io::copy(&mut words, &mut std::io::sink());
            }));
            return code.trim().to_owned();
        }
    }
}

/// A program of the environment.
///
/// # Panics
/// When the environment was not made.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path");
    let target = test.ancestors().nth(3).expect("TARGET/PROFILE/deps/TEST");
    let program = target.join("python/wormhole/bin").join(name);
    assert!(
        program.is_file(),
        "{} is missing; make it first: tests/wormhole.sh",
        program.display()
    );
    program
}

fn free_port() -> u16 {
    // Another process could take it meanwhile: then the server says so and the test fails.
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Python on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
