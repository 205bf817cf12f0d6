//! Terminals and pipes that nobody reads, or not for a while.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, PipeReader, Read as _, Write as _, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::half::LARGE;
use crate::harness::{
    DEADLINE, Process, World, beside, client, json, run, wait_for_partial, wait_until,
};
use crate::memory::{MOST_KIB, peak_kib};

/// A process that prints to something of a test's, killed when dropped.
struct Printing(Child);

impl Printing {
    fn start(mut command: Command, stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Self(command.spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    fn code(&mut self) -> Option<i32> {
        wait_until("its end", || self.0.try_wait().unwrap().is_some());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Printing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A terminal in which nothing fits any more until it is read.
struct Terminal {
    screen: File,
    keyboard: OwnedFd,
}

impl Terminal {
    fn full() -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let keyboard = open(&name, flags, Mode::empty()).unwrap();
        let mut filler = File::from(open(&name, flags | OFlags::NONBLOCK, Mode::empty()).unwrap());
        let mut last = Instant::now();
        // What is written moves on to another buffer after a while.
        while last.elapsed() < Duration::from_millis(200) {
            match filler.write_all(b".") {
                Ok(()) => last = Instant::now(),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        Self {
            screen: screen.into(),
            keyboard,
        }
    }

    fn print(&self, command: Command) -> Printing {
        let [out, err] = [(); 2].map(|()| self.keyboard.try_clone().unwrap());
        Printing::start(command, out, err)
    }

    /// All that is printed.
    fn read(self) -> String {
        drop(self.keyboard);
        let (mut screen, mut text) = (self.screen, Vec::new());
        // Ends with an error when nobody has the other end.
        let _ = screen.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[test]
fn a_terminal_that_is_not_read_holds_up_nothing_but_the_end() {
    for is_read in [true, false] {
        let world = World::new();
        let source = world.file("source", 20 << 20);
        let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
        let terminal = Terminal::full();
        let options = ["--transport", "quic"];
        let command = client(&coordinates, &options, "receive", &world.path("target"));
        let mut client = terminal.print(command);
        endpoint.wait().assert(0, &[]);
        std::thread::sleep(Duration::from_millis(300));
        assert!(client.is_running());
        if is_read {
            let text = terminal.read();
            assert!(text.contains("received "), "{text}");
            assert!(text.contains("verified: blake3"), "{text}");
            assert_eq!(client.code(), Some(0));
        } else {
            client.signal(Signal::TERM);
            assert_eq!(client.code(), Some(130));
        }
    }
}

#[test]
fn a_client_on_a_terminal_that_is_not_read_can_be_ended_and_says_so() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new();
        world.sparse("source", LARGE);
        let (mut endpoint, coordinates) = world.endpoint(&[], "send", &world.path("source"));
        let terminal = Terminal::full();
        let options = ["--transport", "quic", "--limit-rate", "100MB"];
        let target = world.path("target");
        let mut client = terminal.print(client(&coordinates, &options, "receive", &target));
        wait_for_partial(&target);
        client.signal(signal);
        assert_eq!(client.code(), Some(130));
        let lost = endpoint.wait_for(|line| line.contains("lost the client"));
        assert!(!lost.contains("timed out"), "{lost}");
    }
}

#[test]
fn a_second_signal_ends_what_still_waits_for_a_reader() {
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 1));
    let terminal = Terminal::full();
    let mut client = terminal.print(client(&coordinates, &[], "receive", &world.path("target")));
    endpoint.wait().assert(0, &[]);
    let begun = Instant::now();
    client.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(400));
    client.signal(Signal::TERM);
    assert_eq!(client.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_millis(1700));
}

/// Of a tree whose names say much more than fits in a pipe, and in what may wait.
const FILES: usize = 6000;

fn talkative_tree(world: &World) -> PathBuf {
    let name = |number: usize| {
        let mut bytes = vec![0xff; 200];
        bytes.extend(number.to_string().into_bytes());
        OsString::from_vec(bytes)
    };
    let root = world.path("source");
    let below = root.join(name(0));
    std::fs::create_dir_all(&below).unwrap();
    for number in 0..FILES {
        std::fs::write(below.join(name(number)), number.to_string()).unwrap();
    }
    root
}

/// Reads the rest, after a connection would have been lost that nobody looks after.
#[track_caller]
fn read_late(mut reader: BufReader<PipeReader>, process: &mut Printing, target: PathBuf) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(18) {
        assert!(process.is_running());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!target.exists(), "nothing was held up");
    let peak = peak_kib(process.0.id()).unwrap();
    assert!(peak < MOST_KIB, "{peak} KiB");
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(process.code(), Some(0));
    let lines: Vec<_> = text.lines().map(json).collect();
    let of = |message_type: &str| {
        let is_one = |line: &&serde_json::Value| line["message_type"] == message_type;
        lines.iter().filter(is_one).count()
    };
    assert_eq!(of("entry"), FILES + 2);
    assert_eq!(lines.last().unwrap()["message_type"], "summary");
    assert!(!text.contains("\"lost\""));
    assert!(target.exists());
}

#[test]
fn a_client_whose_pipe_is_read_late_keeps_its_connection_and_tells_all() {
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &talkative_tree(&world));
    let (reader, writer) = pipe().unwrap();
    let target = world.path("target");
    let options = ["--json", "--transport", "quic"];
    let command = client(&coordinates, &options, "receive", &target);
    let mut client = Printing::start(command, writer, Stdio::null());
    read_late(BufReader::new(reader), &mut client, target);
    let exit = endpoint.wait();
    exit.assert(0, &[]);
    assert!(!exit.stderr.contains("lost"), "{exit:#?}");
}

#[test]
fn an_endpoint_whose_pipe_is_read_late_keeps_its_client_and_tells_all() {
    let world = World::new();
    let source = talkative_tree(&world);
    let (reader, writer) = pipe().unwrap();
    let mut reader = BufReader::new(reader);
    let target = world.path("target");
    let command = world.server(&["--json"], "receive", &target);
    let mut endpoint = Printing::start(command, writer, Stdio::null());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let coordinates = json(&line)["coordinates"].as_str().unwrap().to_owned();
    let options = ["--transport", "quic"];
    let client = Process::start(client(&coordinates, &options, "send", &source));
    read_late(reader, &mut endpoint, target);
    let exit = client.wait();
    exit.assert(0, &[]);
    assert_eq!(exit.stderr, "");
}

#[test]
fn an_endpoint_whose_pipe_is_not_read_answers_clients_and_takes_the_next() {
    for transport in ["quic", "tls"] {
        let world = World::new();
        let source = talkative_tree(&world);
        let (reader, writer) = pipe().unwrap();
        let mut reader = BufReader::new(reader);
        let target = world.path("target");
        let command = world.server(&["--json"], "receive", &target);
        let mut endpoint = Printing::start(command, writer, Stdio::null());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let coordinates = json(&line)["coordinates"].as_str().unwrap().to_owned();
        let send = || client(&coordinates, &["--transport", transport], "send", &source);
        let first = Process::start(send());
        let below = beside(&target, ".part").join(
            std::fs::read_dir(&source)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .file_name(),
        );
        let arrived = || std::fs::read_dir(&below).map_or(0, Iterator::count);
        wait_until("a session that rests", || {
            let before = arrived();
            std::thread::sleep(Duration::from_millis(700));
            before > 0 && arrived() == before
        });
        assert!(arrived() < FILES, "nothing was held up");
        run(send()).assert(11, &["another client is being served"]);
        first.signal(Signal::KILL);
        drop(first);
        let second = Process::start(send());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(endpoint.code(), Some(0));
        second.wait().assert(0, &[]);
        // What is said of clients may be left out while nobody reads, and is counted then.
        let count = |state: &str| {
            let states = text.lines().map(|line| json(line)["state"].clone());
            states.filter(|found| *found == state).count()
        };
        assert!(count("lost") == 1 || count("left_out") == 1, "{text}");
    }
}

#[test]
fn a_client_whose_pipe_is_not_read_can_be_ended() {
    let world = World::new();
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &talkative_tree(&world));
    let (_reader, writer) = pipe().unwrap();
    let options = ["--json", "--transport", "quic"];
    let command = client(&coordinates, &options, "receive", &world.path("target"));
    let mut client = Printing::start(command, writer, Stdio::null());
    // More than the pipe takes by far.
    std::thread::sleep(Duration::from_secs(4));
    let begun = Instant::now();
    client.signal(Signal::TERM);
    assert_eq!(client.code(), Some(130));
    assert!(begun.elapsed() < DEADLINE / 2);
    let lost = endpoint.wait_for(|line| line.contains("lost the client"));
    assert!(!lost.contains("timed out"), "{lost}");
}

#[test]
fn a_reader_that_left_is_no_error() {
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 1 << 20));
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let command = client(&coordinates, &["--json"], "receive", &world.path("target"));
    let mut client = Printing::start(command, writer, Stdio::null());
    assert_eq!(client.code(), Some(0));
    endpoint.wait().assert(0, &[]);
}
