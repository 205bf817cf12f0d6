//! How many connections carry a transfer, and how fast it may be.

use std::time::{Duration, Instant};

use crate::harness::{World, client, run};

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
