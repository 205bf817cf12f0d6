//! While no endpoint answers: what the API says about its job is shown, and ends the wait.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use serde_json::{Value, json};

use crate::coordinates::decode;
use crate::harness::{BINARY, DEADLINE, World, clean, client, run};

const QUEUED: &str = r#"{"transfer":{"jobId":"4711","system":"daint","state":"queued","jobState":"PENDING","reason":"ReqNodeNotAvail","estimatedStart":99999999999}}"#;
const CANCELLED: &str = r#"{"transfer":{"state":"cancelled","jobState":"CANCELLED","message":"the job was cancelled; what was received stays"}}"#;

/// Answers each request with the next of these, the last one again and again. Head of each
/// request.
fn api(answers: &[(u16, &str)]) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/f7t", listener.local_addr().unwrap());
    let (tell, heads) = channel();
    let answers: Vec<(u16, String)> = answers.iter().map(|(s, b)| (*s, (*b).into())).collect();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap() > 0 {}
            let (status, body) = &answers[number.min(answers.len() - 1)];
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            // The test may be over.
            let _ = tell.send(head);
        }
    });
    (url, heads)
}

/// Of an endpoint that is not there, hosted by job 4711.
fn coordinates(world: &World) -> String {
    let (first, last) = world.port_range();
    let ports: [u16; 2] = [first.parse().unwrap(), last.parse().unwrap()];
    let wire = json!({
        "ports": ports, "ips": ["127.0.0.1"], "secret": "wCQX1nYqHW3wxJ8vX0dQzA",
        "v": 2, "key": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc", "job": ["daint", "4711"],
    });
    BASE64_URL_SAFE.encode(wire.to_string())
}

fn receive(world: &World, options: &[&str]) -> Command {
    client(
        &coordinates(world),
        options,
        "receive",
        &world.path("target"),
    )
}

#[test]
fn a_job_that_is_cancelled_in_the_queue_ends_the_wait_with_the_cause() {
    let world = World::new();
    let (url, heads) = api(&[(200, QUEUED), (200, CANCELLED)]);
    let token = world.path("token");
    std::fs::write(&token, "the-token\n").unwrap();
    let options = ["--json", "--wait", "1h", "--api", &url];
    let mut command = receive(&world, &options);
    command.arg("--api-token-file").arg(&token);
    let begun = Instant::now();
    let exit = run(command);
    assert!(begun.elapsed() < DEADLINE);
    exit.assert(10, &[]);
    let lines: Vec<Value> = exit.stdout.lines().map(crate::harness::json).collect();
    let waiting: Vec<&Value> = lines.iter().filter(|l| l["state"] == "waiting").collect();
    assert_eq!(waiting.len(), 2, "{}", exit.stdout);
    assert_eq!(waiting[0]["message_type"], "status");
    assert_eq!(waiting[0]["job"]["state"], "queued");
    assert_eq!(waiting[0]["job"]["reason"], "ReqNodeNotAvail");
    assert_eq!(waiting[0]["job"]["estimated_start"], 99_999_999_999_u64);
    let said = waiting[0]["message"].as_str().unwrap();
    assert!(
        said.contains("queued (ReqNodeNotAvail), expected to start in"),
        "{said}"
    );
    let error = exit.message("error");
    assert_eq!(error["exit_code"], 10);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("the job was cancelled")
    );
    assert!(
        error["hint"]
            .as_str()
            .unwrap()
            .contains("request the transfer again")
    );
    let head = heads.recv().unwrap();
    assert!(
        head.starts_with("GET /f7t/filesystem/daint/transfer/4711 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_lowercase()
            .contains("authorization: bearer the-token\r\n"),
        "{head}"
    );
}

#[test]
fn on_a_terminal_the_line_that_waits_shows_how_the_job_stands() {
    let world = World::new();
    let (url, _heads) = api(&[(200, QUEUED), (200, QUEUED), (200, CANCELLED)]);
    let mut command = clean(Command::new("script"));
    command
        .args(["--quiet", "--return", "--command"])
        .arg(format!(
            "stty cols 150; '{BINARY}' receive --wait 1h --path target"
        ))
        .arg("/dev/null")
        .current_dir(world.dir())
        .env("TERM", "xterm")
        .env("FIRECREST_URL", url)
        .env("FIRECREST_TOKEN", "t")
        .env("STREAMER_COORDINATES", coordinates(&world));
    let exit = run(command);
    exit.assert(10, &[]);
    let line = "the job is queued (ReqNodeNotAvail), expected to start in";
    assert!(exit.stdout.contains(line), "{exit:#?}");
    assert!(!exit.stdout.contains("ETA"), "{exit:#?}");
}

#[test]
fn a_job_that_is_still_queued_when_the_wait_is_over_is_the_reason() {
    let world = World::new();
    let (url, _heads) = api(&[(503, "busy"), (200, QUEUED)]);
    let mut command = receive(&world, &["--wait", "4s"]);
    command
        .env("FIRECREST_URL", &url)
        .env("FIRECREST_TOKEN", "t");
    run(command).assert(
        10,
        &[
            "how the job stands is unknown: the API refuses: 503",
            "the job is queued (ReqNodeNotAvail)",
            "hint: --wait 2h",
        ],
    );
}

#[test]
fn an_api_that_does_not_know_stops_no_transfer() {
    let world = World::new();
    let source = world.file("source", 100);
    let (_endpoint, plain) = world.endpoint(&[], "send", &source);
    let mut wire = decode(&plain);
    wire["job"] = json!(["daint", "4711"]);
    let coordinates = BASE64_URL_SAFE.encode(wire.to_string());
    let (url, _heads) = api(&[(404, "{}")]);
    let mut command = client(&coordinates, &[], "receive", &world.path("target"));
    command
        .env("FIRECREST_URL", &url)
        .env("FIRECREST_TOKEN", "t");
    run(command).assert(0, &[]);
    let shown = run(client(
        &coordinates,
        &["--api", &url],
        "receive",
        &world.path("other"),
    ));
    shown.assert(2, &["--api-token-file is missing"]);
}

#[test]
fn no_address_in_coordinates_is_ever_given_a_token() {
    let world = World::new();
    let (url, heads) = api(&[(200, CANCELLED)]);
    let mut wire = decode(&coordinates(&world));
    for key in ["api", "status_url", "url"] {
        wire[key] = json!(url);
    }
    let text = BASE64_URL_SAFE.encode(wire.to_string());
    let mut command = client(&text, &["--wait", "2s"], "receive", &world.path("target"));
    command.env("FIRECREST_TOKEN", "t");
    run(command).assert(10, &[]);
    assert!(heads.try_recv().is_err());
}
