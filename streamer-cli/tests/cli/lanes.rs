//! How many connections carry a transfer, and how fast it may be.

use std::time::{Duration, Instant};

use crate::harness::{Process, World, client, json, run};

const MIB: usize = 1 << 20;

/// Moves a file slowly enough that every connection takes part.
fn connections(verb: &str, transport: &str, count: &str) -> serde_json::Value {
    let world = World::new();
    let source = world.file("source", 9 * MIB + 1);
    let target = world.path("target");
    let (endpoint, coordinates) = match verb {
        "receive" => world.endpoint(&[], "send", &source),
        _ => world.endpoint(&[], "receive", &target),
    };
    let mine = if verb == "receive" { &target } else { &source };
    let options = [
        "--json",
        "--transport",
        transport,
        "--connections",
        count,
        "--limit-rate",
        "9MiB",
    ];
    let exit = run(client(&coordinates, &options, verb, mine));
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
    exit.message("summary")
}

#[test]
fn as_many_connections_carry_a_transfer_as_were_asked_for() {
    for verb in ["receive", "send"] {
        assert_eq!(connections(verb, "quic", "3")["connections"], 3);
        assert_eq!(connections(verb, "tls", "2")["connections"], 2);
    }
}

#[test]
fn without_being_asked_quic_takes_one_connection() {
    let summary = connections("receive", "quic", "auto");
    assert_eq!(summary["connections"], 1);
    assert_eq!(summary["transport_reason"], "it was asked for");
}

#[test]
fn a_limited_transfer_takes_its_time_in_both_directions() {
    for verb in ["receive", "send"] {
        let begun = Instant::now();
        connections(verb, "quic", "2");
        // The lower bound only: a busy machine may take longer.
        assert!(begun.elapsed() > Duration::from_millis(900), "{verb}");
    }
}

/// No bytes for seconds, on connections that are watched for silence.
#[test]
fn a_transfer_that_is_slower_than_every_patience_is_long_is_not_lost_once() {
    std::thread::scope(|scope| {
        for (verb, there) in [("receive", "send"), ("send", "receive")] {
            for transport in ["quic", "tls"] {
                scope.spawn(move || slow(verb, there, transport));
            }
        }
    });
}

fn slow(verb: &str, there: &str, transport: &str) {
    let world = World::new();
    let source = world.file("source", 35 * 64 * 1024);
    let target = world.path("target");
    let (theirs, mine) = match verb {
        "receive" => (&source, &target),
        _ => (&target, &source),
    };
    let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
    let options = ["--json", "--transport", transport];
    let options = [&options[..], &["--limit-rate", "64KiB"]].concat();
    let mut client = Process::start(client(&coordinates, &options, verb, mine));
    client.wait_for(|line| json(line)["bytes_moved"].as_u64() > Some(MIB as u64));
    let exit = client.wait();
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
    let summary = exit.message("summary");
    assert_eq!(summary["retries"], 0, "{exit:#?}");
    assert!(summary["seconds"].as_f64().unwrap() > 33.0, "{exit:#?}");
}

#[test]
fn no_connections_and_no_rate_are_refused() {
    let world = World::new();
    for option in [
        ["--connections", "0"],
        ["--connections", "33"],
        ["--limit-rate", "0"],
    ] {
        let exit = run(client("x", &option, "receive", &world.path("target")));
        exit.assert(2, &[option[0]]);
    }
}
