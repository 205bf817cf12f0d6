//! Where secrets may be seen, and where not.

use rustix::process::Signal;

use crate::coordinates::decode;
use crate::harness::{
    ANNOUNCEMENT, Exit, Process, World, announced, client, run, wait_for_partial,
};

const SECRET: &str = "a-secret-of-more-than-22-characters";

#[test]
fn a_guessable_secret_serves_loopback_only() {
    let world = World::new();
    let source = world.file("source", 1);
    for host in ["0.0.0.0", "::"] {
        let mut server = world.server(&["--host", host], "send", &source);
        server.env("STREAMER_SECRET", "word");
        let exit = run(server);
        exit.assert(1, &["too short", "hint: use a secret of at least 22"]);
        assert_eq!(exit.stdout, "");
        assert!(!exit.stderr.contains("'word'"));
    }
    let mut server = world.server(&["--host", "127.0.0.1"], "send", &source);
    server.env("STREAMER_SECRET", "word");
    let (endpoint, coordinates) = announced(server);
    run(client(&coordinates, &[], "receive", &world.path("target"))).assert(0, &[]);
    endpoint.wait().assert(0, &[]);
}

#[test]
fn a_secret_of_no_text_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    for secret in [&b""[..], b" ", b"\xff\xfe", b"two words", &[b'a'; 2000]] {
        let mut server = world.server(&[], "send", &world.file("source", 1));
        server.env("STREAMER_SECRET", std::ffi::OsStr::from_bytes(secret));
        let exit = run(server);
        exit.assert(1, &["error: the secret"]);
        assert_eq!(exit.stdout, "");
    }
}

#[test]
fn a_secret_on_the_command_line_is_warned_of() {
    let world = World::new();
    let (endpoint, coordinates) =
        world.endpoint(&["--secret", SECRET], "send", &world.file("source", 1));
    assert_eq!(decode(&coordinates)["secret"], SECRET);
    run(client(&coordinates, &[], "receive", &world.path("target"))).assert(0, &[]);
    endpoint
        .wait()
        .assert(0, &["the secret is visible to every user", "--secret-file"]);
}

#[test]
fn secrets_are_in_no_log_and_no_argument() {
    for from_file in [false, true] {
        let world = World::new();
        let source = world.sparse("source", 256 << 20);
        let target = world.path("target");
        let file = world.path("secret");
        std::fs::write(&file, SECRET).unwrap();
        let options = ["--secret-file", file.to_str().unwrap()];
        let mut server = world.server(if from_file { &options } else { &[] }, "send", &source);
        if !from_file {
            server.env("STREAMER_SECRET", SECRET);
        }
        server.env("STREAMER_LOG", "trace");
        let (endpoint, coordinates) = announced(server);
        let mut command = client(&coordinates, &[], "receive", &target);
        command.env("STREAMER_LOG", "trace");
        let client = Process::start(command);
        wait_for_partial(&target);
        for process in [&endpoint, &client] {
            process.signal(Signal::STOP);
            let line = std::fs::read(format!("/proc/{}/cmdline", process.id())).unwrap();
            let line = String::from_utf8_lossy(&line).into_owned();
            assert!(line.contains("--path"), "{line}");
            assert_no_secret(&line, &coordinates);
            process.signal(Signal::CONT);
        }
        for process in [endpoint, client] {
            let Exit {
                status,
                stdout,
                stderr,
            } = process.wait();
            assert!(status.success());
            assert!(stderr.contains("TRACE"), "nothing was traced");
            assert_no_secret(&stderr, &coordinates);
            let announced = |line: &&str| line.starts_with(ANNOUNCEMENT);
            stdout
                .lines()
                .filter(|line| !announced(line))
                .for_each(|line| {
                    assert_no_secret(line, &coordinates);
                });
        }
    }
}

#[track_caller]
fn assert_no_secret(text: &str, coordinates: &str) {
    for secret in [SECRET, coordinates] {
        if let Some(at) = text.find(secret) {
            let line = text[..at].lines().last().unwrap_or_default();
            panic!("a secret after: {line}");
        }
    }
}
