//! Coordinates of any bytes, from every place.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use serde_json::Value;

use crate::harness::{Process, World, run, streamer};

pub(crate) fn decode(coordinates: &str) -> Value {
    serde_json::from_slice(&BASE64_URL_SAFE.decode(coordinates).unwrap()).unwrap()
}

/// As the existing Python service writes them: they do not say what the endpoint does.
pub(crate) fn version_1(port: u64, secret: &str) -> String {
    let wire = serde_json::json!({
        "ports": [port, port], "ips": ["localhost"], "secret": secret,
    });
    BASE64_URL_SAFE.encode(wire.to_string())
}

fn receive(target: &Path) -> Command {
    let mut command = streamer();
    command.arg("receive").arg("--path").arg(target);
    command
}

#[test]
fn malformed_ones_from_everywhere() {
    let valid_json = BASE64_URL_SAFE.encode(r#"{"ports":[0,1],"ips":["localhost"],"secret":"x"}"#);
    let cases: [&[u8]; 7] = [
        b"",
        b" \n",
        b"garbage!",
        b"\xff\xfe\x80",
        b"eyJ9",
        valid_json.as_bytes(),
        &[b'A'; 40_000],
    ];
    let world = World::new();
    let target = world.path("target");
    let file = world.path("coordinates");
    for case in cases {
        let assert = |exit: crate::harness::Exit| {
            exit.assert(11, &["error: ", "coordinates", "hint: "]);
            assert_eq!(exit.stdout, "");
        };
        let text = OsString::from_vec(case.to_vec());
        let mut command = receive(&target);
        command.env("STREAMER_COORDINATES", &text);
        assert(run(command));
        let mut command = receive(&target);
        command.arg("--coordinates").arg(&text);
        assert(run(command));
        std::fs::write(&file, case).unwrap();
        let mut command = receive(&target);
        command.arg("--coordinates-file").arg(&file);
        assert(run(command));
        let mut command = receive(&target);
        command.args(["--coordinates-file", "-"]);
        assert(Process::start_with(command, Some(case)).wait());
        let mut command = streamer();
        command.arg("inspect").env("STREAMER_COORDINATES", &text);
        assert(run(command));
    }
}

#[test]
fn none_at_all() {
    let world = World::new();
    run(receive(&world.path("target"))).assert(11, &["empty", "hint: "]);
}

#[test]
fn a_file_of_coordinates_that_is_missing() {
    let world = World::new();
    let mut command = receive(&world.path("target"));
    command.arg("--coordinates-file").arg(world.path("missing"));
    run(command).assert(13, &["missing'"]);
}

#[test]
fn from_a_file_standard_input_and_the_argument() {
    let world = World::new();
    let source = world.file("source", 10);
    for (name, warned) in [("file", false), ("stdin", false), ("argument", true)] {
        let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
        let mut command = receive(&world.path(name));
        let mut input = None;
        match name {
            "file" => {
                std::fs::write(world.path("c"), format!("{coordinates}\n")).unwrap();
                command.arg("--coordinates-file").arg(world.path("c"));
            }
            "stdin" => {
                command.args(["--coordinates-file", "-"]);
                input = Some(coordinates.as_bytes());
            }
            _ => {
                command.args(["--coordinates", &coordinates]);
            }
        }
        let exit = Process::start_with(command, input).wait();
        exit.assert(0, &[]);
        assert_eq!(exit.stderr.contains("visible to every user"), warned);
        endpoint.wait().assert(0, &[]);
    }
}

#[test]
fn inspected_without_the_secret() {
    let world = World::new();
    let (_endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 10));
    for option in [None, Some("--json")] {
        let mut command = streamer();
        command
            .arg("inspect")
            .args(option)
            .env("STREAMER_COORDINATES", &coordinates);
        let exit = run(command);
        exit.assert(0, &[]);
        assert!(exit.stdout.contains("redacted"));
        let wire = decode(&coordinates);
        for secret in ["secret", "key"] {
            assert!(!exit.stdout.contains(wire[secret].as_str().unwrap()));
        }
    }
}
