//! What is printed where: contracts with scripts.

use std::process::Command;

use crate::coordinates::decode;
use crate::harness::{
    BINARY, Process, World, announced, clean, client, json, run, skipped, streamer,
};

#[test]
fn json_lines_of_both_sides() {
    let world = World::new();
    let source = world.file("source", 3 << 20);
    let (endpoint, coordinates) = world.endpoint(&["--json"], "send", &source);
    let here = run(client(
        &coordinates,
        &["--json", "--transport", "quic"],
        "receive",
        &world.path("target"),
    ));
    let there = endpoint.wait();
    assert_eq!(there.message("listening")["coordinates"], *coordinates);
    let mut roots = Vec::new();
    for (exit, operation) in [(here, "receive"), (there, "send")] {
        exit.assert(0, &[]);
        assert_eq!(exit.stderr, "");
        assert!(
            exit.stdout
                .lines()
                .map(json)
                .all(|line| line["message_type"].is_string())
        );
        let summary = exit.message("summary");
        assert_eq!(summary["operation"], operation);
        assert_eq!(summary["files"], 1);
        assert_eq!(summary["bytes"], 3 << 20);
        assert_eq!(summary["bytes_resumed"], 0);
        assert_eq!(summary["retries"], 0);
        assert_eq!(summary["connections"], 1);
        assert_eq!(summary["transport"], "quic");
        assert!(summary["seconds"].as_f64().unwrap() > 0.0);
        assert!(summary["bytes_per_second"].as_f64().unwrap() > 0.0);
        roots.push(summary["root"].as_str().unwrap().to_owned());
    }
    assert_eq!(roots[0], roots[1]);
    assert_eq!(roots[0].len(), 64);
    let (_endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let exit = run(client(
        &coordinates,
        &["--json"],
        "receive",
        &world.path("target"),
    ));
    exit.assert(13, &[]);
    let error = exit.message("error");
    assert_eq!(error["exit_code"], 13);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("already exists")
    );
    assert!(error["hint"].is_string());
}

#[test]
fn quiet_says_nothing_but_errors() {
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 10));
    let exit = run(client(
        &coordinates,
        &["--quiet"],
        "receive",
        &world.path("target"),
    ));
    exit.assert(0, &[]);
    assert_eq!((exit.stdout.as_str(), exit.stderr.as_str()), ("", ""));
    endpoint.wait().assert(0, &[]);
    let exit = run(client(
        &coordinates,
        &["--quiet"],
        "receive",
        &world.path("target"),
    ));
    exit.assert(13, &["error: ", "already exists"]);
}

#[test]
fn no_announcement() {
    let world = World::new();
    let source = world.file("source", 10);
    // The same secret leads to the same port: announced once, not the second time.
    let secret = "a-secret-of-more-than-22-characters";
    let mut server = world.server(&[], "send", &source);
    server.env("STREAMER_SECRET", secret);
    let (endpoint, coordinates) = announced(server);
    drop(endpoint);
    for (options, target) in [
        (&["--no-announce"][..], "text"),
        (&["--no-announce", "--json"], "json"),
    ] {
        let mut server = world.server(options, "send", &source);
        server.env("STREAMER_SECRET", secret);
        let endpoint = Process::start(server);
        run(client(&coordinates, &[], "receive", &world.path(target))).assert(0, &[]);
        let exit = endpoint.wait();
        exit.assert(0, &[]);
        assert!(!exit.stdout.contains("coordinates"), "{exit:#?}");
        assert!(!exit.stdout.contains(secret) && !exit.stderr.contains(secret));
        if target == "json" {
            assert!(
                exit.message("listening")["address"].is_string(),
                "{exit:#?}"
            );
        }
    }
    assert_eq!(decode(&coordinates)["secret"], secret);
}

#[test]
fn usage_errors() {
    for words in [
        "",
        "fetch",
        "receive",
        "receive --path",
        "receive --path -",
        "receive --path x --wait soon",
        "receive --path x --overwrite --skip-existing",
        "receive --path x --coordinates a --coordinates-file b",
        "receive --path x --transport pigeon",
        "server",
        "server send",
        "server --port-range 1 send --path x",
        "server --port-range 1 70000 send --path x",
        "server --inbound-transfer-limit 5x receive --path x",
        "server --secret a --secret-file b send --path x",
        "server --port-range 20 10 send --path x",
        "server --port-range 0 10 send --path x",
    ] {
        let mut command = streamer();
        command.args(words.split_whitespace());
        let exit = run(command);
        assert_eq!(exit.status.code(), Some(2), "{words}: {exit:#?}");
        assert!(!exit.stderr.is_empty() && exit.stdout.is_empty());
    }
}

/// A client that receives into `target`, on a terminal of 150 columns.
fn on_a_terminal(world: &World, coordinates: &str, options: &str) -> Command {
    let mut command = clean(Command::new("script"));
    command
        .args(["--quiet", "--return", "--command"])
        .arg(format!(
            "stty cols 150; '{BINARY}' receive {options} --path target"
        ))
        .arg("/dev/null")
        .current_dir(world.dir())
        .env("TERM", "xterm")
        .env("STREAMER_COORDINATES", coordinates);
    command
}

#[test]
fn a_bar_on_terminals_only() {
    if Command::new("script").arg("--version").output().is_err() {
        skipped("needs script of util-linux");
        return;
    }
    for (options, shown) in [
        ("", true),
        ("--no-progress", false),
        ("--quiet", false),
        ("--json", false),
    ] {
        let world = World::new();
        let source = world.sparse("source", 256 << 20);
        let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
        let exit = Process::start(on_a_terminal(&world, &coordinates, options)).wait();
        exit.assert(0, &[]);
        assert_eq!(exit.stdout.contains("ETA"), shown, "{options}: {exit:#?}");
        endpoint.wait().assert(0, &[]);
    }
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &world.sparse("source", 256 << 20));
    let exit = run(client(&coordinates, &[], "receive", &world.path("target")));
    exit.assert(0, &[]);
    assert_eq!(exit.stderr, "");
    endpoint.wait().assert(0, &[]);
}

#[test]
fn a_bar_is_not_full_before_it_is_known_how_much_there_is() {
    if Command::new("script").arg("--version").output().is_err() {
        skipped("needs script of util-linux");
        return;
    }
    let world = World::new();
    let source = world.file("source", 3 << 20);
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let command = on_a_terminal(&world, &coordinates, "--limit-rate 2MB");
    let exit = Process::start(command).wait();
    exit.assert(0, &[]);
    let (before, _) = exit.stdout.split_once('%').expect("a bar");
    assert!(!before.ends_with("100"), "{exit:#?}");
    endpoint.wait().assert(0, &[]);
}
