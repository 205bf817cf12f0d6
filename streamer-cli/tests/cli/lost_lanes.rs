//! Connections of a transfer that are cut one by one, by a relay in the middle.

use crate::harness::{Process, World, client, wait_until};
use crate::relay::{Datagrams, Relay, swallowing_tcp};

const MIB: usize = 1 << 20;

/// The first connection controls; lanes follow.
const CONTROL: usize = 0;

#[test]
fn lost_lanes_are_dialled_again_and_their_blocks_go_over_others() {
    for (verb, there) in [("receive", "send"), ("send", "receive")] {
        let world = World::new();
        let source = world.file("source", 40 * MIB + 1);
        let target = world.path("target");
        let (theirs, mine) = match verb {
            "receive" => (&source, &target),
            _ => (&target, &source),
        };
        let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let (relay, coordinates) = Relay::new(&coordinates);
        let options = ["--json", "--transport", "tls", "--connections", "3"];
        let slowly = ["--limit-rate", "20MiB"];
        let options = [&options[..], &slowly].concat();
        let client = Process::start(client(&coordinates, &options, verb, mine));
        for lane in CONTROL + 1..=CONTROL + 2 {
            wait_until("bytes on a lane", || relay.bytes(lane) > 3 * MIB as u64 / 2);
            relay.cut(lane);
        }
        // All that live.
        wait_until("two more lanes", || relay.count() == 6);
        wait_until("bytes on a new one", || relay.bytes(5) > MIB as u64 / 2);
        (CONTROL + 3..=CONTROL + 5).for_each(|lane| relay.cut(lane));
        let exit = client.wait();
        exit.assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
        let summary = exit.message("summary");
        assert_eq!(summary["retries"], 0, "{exit:#?}");
        assert!(summary["connections"].as_u64().unwrap() > 5, "{exit:#?}");
    }
}

#[test]
fn a_quic_connection_that_falls_silent_costs_no_session() {
    std::thread::scope(|scope| {
        for (verb, there) in [("receive", "send"), ("send", "receive")] {
            scope.spawn(move || silent_lane(verb, there));
        }
    });
}

/// Silence is noticed after ten seconds: the transfer cannot be over before.
fn silent_lane(verb: &str, there: &str) {
    let world = World::new();
    let source = world.file("source", 48 * MIB + 1);
    let target = world.path("target");
    let (theirs, mine) = match verb {
        "receive" => (&source, &target),
        _ => (&target, &source),
    };
    let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
    let (relay, coordinates) = Datagrams::new(&coordinates);
    let options = ["--json", "--transport", "quic", "--connections", "4"];
    let slowly = ["--limit-rate", "8MiB"];
    let options = [&options[..], &slowly].concat();
    let client = Process::start(client(&coordinates, &options, verb, mine));
    wait_until("bytes on each of four connections", || {
        (0..4).all(|connection| relay.bytes(connection) > MIB as u64 / 2)
    });
    relay.cut(CONTROL + 2);
    wait_until("another connection", || relay.count() > 4);
    let exit = client.wait();
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
    let summary = exit.message("summary");
    assert_eq!(summary["retries"], 0, "{exit:#?}");
    assert_eq!(summary["transport"], "quic", "{exit:#?}");
}

#[test]
fn a_transport_that_connects_and_carries_nothing_is_given_up_for_the_other_one() {
    std::thread::scope(|scope| {
        for (verb, there) in [("receive", "send"), ("send", "receive")] {
            scope.spawn(move || swallowed(verb, there));
        }
    });
}

fn swallowed(verb: &str, there: &str) {
    let world = World::new();
    let source = world.file("source", 4 * MIB);
    let target = world.path("target");
    let (theirs, mine) = match verb {
        "receive" => (&source, &target),
        _ => (&target, &source),
    };
    let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
    let (tcp, udp, coordinates) = swallowing_tcp(&coordinates);
    let mut client = Process::start(client(&coordinates, &["--json"], verb, mine));
    for _ in 0..2 {
        client.wait_for(|line| line.contains("\"lost\""));
    }
    udp.open();
    let exit = client.wait();
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(&source).unwrap() == std::fs::read(&target).unwrap());
    assert!(tcp.total() > 16 << 10, "{exit:#?}");
    assert!((0..udp.count()).any(|caller| udp.bytes(caller) > 4 * MIB as u64));
    let summary = exit.message("summary");
    assert_eq!(summary["transport"], "quic", "{exit:#?}");
    let reason = "the other one connected and carried nothing";
    assert_eq!(summary["transport_reason"], reason, "{exit:#?}");
}
