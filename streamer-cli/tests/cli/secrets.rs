//! Where secrets may be seen, and where not.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;

use crate::coordinates::decode;
use crate::harness::{
    ANNOUNCEMENT, Exit, Process, World, announced, client, run, streamer_by, wait_for_partial,
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

#[test]
fn a_crash_leaves_no_core() {
    let world = World::new();
    let source = world.file("source", 1);
    // As another user, whose processes belong to them unless they are not to be looked into.
    let (program, options) = match rustix::process::getuid().is_root() {
        true => {
            let public = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(world.dir(), public).unwrap();
            let ids = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
            ("setpriv", ids.to_vec())
        }
        false => ("env", Vec::new()),
    };
    let script = "ulimit -S -c $(ulimit -H -c); exec \"$@\"";
    let options = [&options[..], &["sh", "-c", script, "sh"]].concat();
    let server = world.server_by(streamer_by(program, &options), &[], "send", &source);
    let (endpoint, _) = announced(server);
    let about = |name: &str| format!("/proc/{}/{name}", endpoint.id());
    let limits = std::fs::read_to_string(about("limits")).unwrap();
    let core = limits.lines().find(|line| line.contains("core file"));
    let core: Vec<&str> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
    // What it holds in memory is not for its user's other programs either.
    assert_eq!(std::fs::metadata(about("mem")).unwrap().uid(), 0);
    endpoint.signal(Signal::ABORT);
    let status = endpoint.wait().status;
    assert!(
        status.signal().is_some() && !status.core_dumped(),
        "{status:?}"
    );
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
