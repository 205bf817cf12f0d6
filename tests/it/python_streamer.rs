//! The Python streamer as its users have it today, with our endpoint and our client.

use std::path::Path;

use streamer_core::{Coordinates, TransferSecret};
use streamer_tests::file;
use streamer_tests::process::{Exit, Process};
use streamer_tests::program::{self, Client};
use streamer_tests::python::Environment;

/// Around what one message of the protocol holds, and one that takes a while.
const SIZES: [u64; 5] = [0, 1, 5 << 20, (5 << 20) + 1, 300 << 20];

/// As FirecREST makes it: 22 characters.
const SECRET: &str = "TVRCYkFHaUQ0TlRjMQ-aaa";

/// The command of the Python job template: `program` and its options, then the verb.
fn endpoint(
    program: &mut std::process::Command,
    extra: &[&str],
    limit: u64,
    verb: &str,
    path: &Path,
) -> Process {
    let first = free_port();
    program.args(["server", "--secret", SECRET, "--host", "127.0.0.1"]);
    program.args(["--public-ips", "127.0.0.1", "--public-ips", "localhost"]);
    program.args(["--port-range", &first.to_string(), &(first + 5).to_string()]);
    program.args(["--wait-timeout", "60"]);
    program.args(["--inbound-transfer-limit", &limit.to_string()]);
    program.args(extra).args([verb, "--path"]).arg(path);
    Process::start(program)
}

fn ours(extra: &[&str], limit: u64, verb: &str, path: &Path) -> Process {
    let mut program = std::process::Command::new(program::path("streamer"));
    endpoint(&mut program, extra, limit, verb, path)
}

fn theirs(limit: u64, verb: &str, path: &Path) -> Process {
    let mut program = Environment::PyPi.program("streamer");
    endpoint(&mut program, &[], limit, verb, path)
}

fn their_client(verb: &str, coordinates: &str, path: &Path) -> Process {
    let mut program = Environment::PyPi.program("streamer");
    program.args([verb, "--coordinates", coordinates, "--path"]);
    Process::start(program.arg(path))
}

/// The first of six ports, free just now; other tests take theirs from the system.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port().min(u16::MAX - 5)
}

/// Exit code and text of ours; the Python programs exit with 0 whatever happened.
fn expect(exit: &Exit, code: i32, text: &str) {
    assert_eq!(exit.code, Some(code), "{}", exit.text);
    assert!(exit.text.contains(text), "no {text:?}: {}", exit.text);
}

const WEBSOCKET: &[&str] = &["--allow-websocket"];

#[test]
fn their_client_downloads_from_our_endpoint_and_verifies() {
    for size in SIZES {
        let here = file::directory();
        let (source, copy) = (here.path().join("source"), here.path().join("copy"));
        let sum = file::random(&source, size);
        let mut endpoint = ours(WEBSOCKET, 0, "send", &source);
        let client = their_client("receive", &endpoint.coordinates(), &copy).end();
        // It says so only where it compared the hash.
        expect(&client, 0, "File received successfully.");
        expect(&endpoint.end(), 0, "warning: PLAINTEXT");
        assert_eq!(file::sha256(&copy), sum, "{size}");
    }
}

#[test]
fn their_client_uploads_to_our_endpoint_up_to_the_very_limit() {
    for size in SIZES {
        let here = file::directory();
        let (source, copy) = (here.path().join("source"), here.path().join("copy"));
        let sum = file::random(&source, size);
        let mut endpoint = ours(WEBSOCKET, size, "receive", &copy);
        let client = their_client("send", &endpoint.coordinates(), &source).end();
        expect(&client, 0, "sent successfully");
        expect(&endpoint.end(), 0, "verified: blake3");
        assert_eq!(file::sha256(&copy), sum, "{size}");
    }
}

#[test]
fn our_client_downloads_from_their_endpoint_without_its_trailer() {
    for size in SIZES {
        let here = file::directory();
        let (source, copy) = (here.path().join("source"), here.path().join("copy"));
        let sum = file::random(&source, size);
        let mut endpoint = theirs(0, "send", &source);
        // Both ways to ask for it; in one QUIC and TLS are tried first.
        let options = match size {
            0 => ["--allow-websocket"].as_slice(),
            _ => ["--transport", "ws"].as_slice(),
        };
        let client = Client::start("receive", &endpoint.coordinates(), &copy, options).end();
        assert_eq!(client.code, Some(0), "{}", client.text);
        assert_eq!(client.last["transport"], "ws", "{}", client.text);
        assert_eq!(client.last["verified"], true, "{}", client.text);
        assert!(client.text.contains("PLAINTEXT"), "{}", client.text);
        assert_eq!(file::sha256(&copy), sum, "{size}");
        endpoint.end();
    }
}

#[test]
fn our_client_uploads_to_their_endpoint_which_verifies() {
    for size in SIZES {
        let here = file::directory();
        let (source, copy) = (here.path().join("source"), here.path().join("copy"));
        let sum = file::random(&source, size);
        // It counts 5 MiB for every message.
        let mut endpoint = theirs(size + (5 << 20), "receive", &copy);
        let options = ["--transport", "ws"];
        let client = Client::start("send", &endpoint.coordinates(), &source, &options).end();
        assert_eq!(client.code, Some(0), "{}", client.text);
        assert_eq!(client.last["verified"], false, "{}", client.text);
        let text = endpoint.end().text;
        assert!(text.contains("File received successfully."), "{text}");
        assert_eq!(file::sha256(&copy), sum, "{size}");
    }
}

#[test]
fn a_wrong_secret_gets_nowhere_and_the_right_one_is_still_served() {
    let here = file::directory();
    let (source, copy) = (here.path().join("source"), here.path().join("copy"));
    let sum = file::random(&source, 100);
    let mut endpoint = ours(WEBSOCKET, 0, "send", &source);
    let right = endpoint.coordinates();
    let wrong = other_secret(&right);
    let refused = their_client("receive", &wrong, &copy).end();
    expect(&refused, 0, "Unable to establish connection");
    assert!(!copy.exists());
    expect(
        &their_client("receive", &right, &copy).end(),
        0,
        "File received successfully.",
    );
    endpoint.end();
    assert_eq!(file::sha256(&copy), sum);

    let mut endpoint = theirs(0, "send", &source);
    let wrong = other_secret(&endpoint.coordinates());
    let target = here.path().join("none");
    let options = ["--transport", "ws", "--wait", "1s"];
    let refused = Client::start("receive", &wrong, &target, &options).end();
    // Others may have the rest of its ports.
    assert_eq!(refused.code, Some(10), "{}", refused.text);
    assert!(
        refused.text.contains("another one answered"),
        "{}",
        refused.text
    );
    assert!(!target.exists());
}

fn other_secret(coordinates: &str) -> String {
    let mut coordinates = Coordinates::parse(coordinates).unwrap();
    coordinates.secret = TransferSecret::parse("TVRCYkFHaUQ0TlRjMQ-aab").unwrap();
    coordinates.encode().to_string()
}

#[test]
fn plaintext_is_spoken_by_nobody_who_was_not_told_to() {
    let here = file::directory();
    let (source, copy) = (here.path().join("source"), here.path().join("copy"));
    let sum = file::random(&source, 100);
    let mut endpoint = ours(&[], 0, "send", &source);
    let coordinates = endpoint.coordinates();
    let refused = their_client("receive", &coordinates, &copy).end();
    expect(&refused, 0, "Unable to establish connection");
    let client = Client::start("receive", &coordinates, &copy, &["--allow-websocket"]).end();
    // Their coordinates, our endpoint: plaintext is not needed, so it is not used.
    assert_ne!(client.last["transport"], "ws", "{}", client.text);
    endpoint.end();
    assert_eq!(file::sha256(&copy), sum);

    let mut endpoint = theirs(0, "send", &source);
    let target = here.path().join("none");
    let options = ["--wait", "1s"];
    let refused = Client::start("receive", &endpoint.coordinates(), &target, &options).end();
    assert_eq!(refused.code, Some(10), "{}", refused.text);
    let hint = refused.last["hint"].as_str().unwrap();
    assert!(hint.contains("--allow-websocket"), "{hint}");
    assert!(!target.exists());
}

#[test]
fn a_target_that_exists_stays_as_it_is_on_every_side() {
    let here = file::directory();
    let (source, taken) = (here.path().join("source"), here.path().join("taken"));
    file::random(&source, 100);
    let before = file::random(&taken, 10);

    let mut endpoint = ours(WEBSOCKET, 0, "send", &source);
    let client = their_client("receive", &endpoint.coordinates(), &taken).end();
    expect(&client, 0, "already exists");
    expect(&endpoint.end(), 13, "the target already exists");

    let mut endpoint = theirs(1 << 30, "receive", &taken);
    let options = ["--transport", "ws"];
    let client = Client::start("send", &endpoint.coordinates(), &source, &options).end();
    assert_eq!(client.code, Some(13), "{}", client.text);
    endpoint.end();
    assert_eq!(file::sha256(&taken), before);
}

#[test]
fn the_inbound_limit_holds_on_both_sides_and_leaves_nothing() {
    let here = file::directory();
    let (source, copy) = (here.path().join("source"), here.path().join("copy"));
    file::random(&source, (6 << 20) + 1);
    let mut endpoint = ours(WEBSOCKET, 6 << 20, "receive", &copy);
    // Whether their client says 1009 or "sent successfully" depends on when it looks.
    their_client("send", &endpoint.coordinates(), &source).end();
    expect(
        &endpoint.end(),
        13,
        "larger than the inbound transfer limit",
    );

    let mut endpoint = theirs(6 << 20, "receive", &copy);
    let options = ["--transport", "ws"];
    let client = Client::start("send", &endpoint.coordinates(), &source, &options).end();
    assert_eq!(client.code, Some(13), "{}", client.text);
    endpoint.end();
    let left: Vec<_> = std::fs::read_dir(here.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn the_wrong_direction_is_told_to_whoever_asks() {
    let here = file::directory();
    let (source, other) = (here.path().join("source"), here.path().join("other"));
    file::random(&source, 100);
    file::zeros(&other, 64 << 20);
    let mut endpoint = ours(WEBSOCKET, 0, "send", &source);
    // Their client may have said all, and left, before it hears.
    their_client("send", &endpoint.coordinates(), &other).end();
    endpoint.wait_for("for the other direction");

    let mut endpoint = theirs(0, "send", &source);
    let options = ["--transport", "ws"];
    let client = Client::start("send", &endpoint.coordinates(), &other, &options).end();
    assert_eq!(client.code, Some(11), "{}", client.text);
}

#[test]
fn a_killed_peer_leaves_no_file_and_our_endpoint_waits_for_another() {
    let here = file::directory();
    let (source, copy) = (here.path().join("source"), here.path().join("copy"));
    let sum = file::random(&source, 300 << 20);
    let mut endpoint = ours(WEBSOCKET, 1 << 30, "receive", &copy);
    let coordinates = endpoint.coordinates();
    let client = their_client("send", &coordinates, &source);
    endpoint.wait_for("serving 127.0.0.1");
    client.kill();
    endpoint.wait_for("lost the client");
    let left: Vec<_> = std::fs::read_dir(here.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let client = their_client("send", &coordinates, &source).end();
    expect(&client, 0, "sent successfully");
    expect(&endpoint.end(), 0, "verified: blake3");
    assert_eq!(file::sha256(&copy), sum);

    let mut endpoint = theirs(0, "send", &source);
    let target = here.path().join("none");
    let options = ["--transport", "ws"];
    let client = Client::start("receive", &endpoint.coordinates(), &target, &options);
    endpoint.wait_for("Transfering");
    endpoint.kill();
    let client = client.end();
    assert_eq!(client.code, Some(10), "{}", client.text);
    let left: Vec<_> = std::fs::read_dir(here.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_second_plain_client_is_refused_before_it_creates_its_file() {
    let here = file::directory();
    let (source, copy) = (here.path().join("source"), here.path().join("copy"));
    file::zeros(&source, 1 << 30);
    let mut endpoint = ours(WEBSOCKET, 0, "send", &source);
    let coordinates = endpoint.coordinates();
    let first = Client::start("receive", &coordinates, &copy, &["--transport", "ws"]);
    endpoint.wait_for("serving 127.0.0.1");
    first.hold();
    let other = here.path().join("other");
    let second = their_client("receive", &coordinates, &other).end();
    expect(&second, 0, "Unable to establish connection");
    assert!(!other.exists());
    let third = Client::start("receive", &coordinates, &other, &["--transport", "ws"]).end();
    assert_eq!(third.code, Some(11), "{}", third.text);
    first.release();
    let first = first.end();
    assert_eq!(first.code, Some(0), "{}", first.text);
}
