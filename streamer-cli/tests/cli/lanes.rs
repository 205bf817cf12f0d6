//! How many connections carry a transfer, and how fast it may be.

use std::time::{Duration, Instant};

use crate::harness::{World, client, run};

const MIB: usize = 1 << 20;

/// Moves a file slowly enough that every connection takes part.
fn connections(verb: &'static str, transport: &str, count: &str) -> serde_json::Value {
    let world = World::new();
    let moved = world.moved(verb, 9 * MIB + 1);
    let (endpoint, coordinates) = moved.endpoint(&world);
    let options = ["--transport", transport, "--connections", count];
    let options = [&options[..], &["--limit-rate", "9MiB"]].concat();
    let client = moved.client(&coordinates, &options);
    moved.assert_moved(endpoint, client)
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

/// The first block takes longer than one that was sent is waited for, and comes in small pieces.
#[test]
fn a_slow_transfer_is_not_taken_for_one_that_does_not_arrive() {
    std::thread::scope(|scope| {
        for verb in ["receive", "send"] {
            for transport in ["quic", "tls"] {
                // Slower than that, all of it arrives at once and waits for the limit.
                for kib in [4, 12] {
                    scope.spawn(move || slow(verb, transport, kib));
                }
            }
        }
    });
}

fn slow(verb: &'static str, transport: &str, kib: usize) {
    let world = World::new();
    let moved = world.moved(verb, 33 * kib * 1024);
    let (endpoint, coordinates) = moved.endpoint(&world);
    let rate = format!("{kib}KiB");
    let options = ["--transport", transport, "--limit-rate", &rate];
    let mut client = moved.client(&coordinates, &options);
    client.wait_for(|line| line.contains("transferring"));
    let summary = moved.assert_moved(endpoint, client);
    assert_eq!(summary["retries"], 0, "{summary}");
    assert!(summary["seconds"].as_f64().unwrap() > 31.0, "{summary}");
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
