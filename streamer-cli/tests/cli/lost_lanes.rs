//! Connections of a transfer that are cut one by one, by a relay in the middle.

use crate::harness::{DEADLINE, World, wait_until};
use crate::relay::{Datagrams, Relay, swallowing_tcp};

const MIB: usize = 1 << 20;

/// The first connection controls; lanes follow.
const CONTROL: usize = 0;

#[test]
fn lost_lanes_are_dialled_again_and_their_blocks_go_over_others() {
    for verb in ["receive", "send"] {
        let world = World::new();
        let moved = world.moved(verb, 40 * MIB + 1);
        let (endpoint, coordinates) = moved.endpoint(&world);
        let (relay, coordinates) = Relay::new(&coordinates);
        let options = ["--transport", "tls", "--connections", "3"];
        let slowly = ["--limit-rate", "20MiB"];
        let client = moved.client(&coordinates, &[&options[..], &slowly].concat());
        for lane in CONTROL + 1..=CONTROL + 2 {
            wait_until("bytes on a lane", || relay.bytes(lane) > 3 * MIB as u64 / 2);
            relay.cut(lane);
        }
        // All that live.
        wait_until("two more lanes", || relay.count() == 6);
        wait_until("bytes on a new one", || relay.bytes(5) > MIB as u64 / 2);
        (CONTROL + 3..=CONTROL + 5).for_each(|lane| relay.cut(lane));
        let summary = moved.assert_moved(endpoint, client);
        assert_eq!(summary["retries"], 0, "{summary}");
        assert!(summary["connections"].as_u64().unwrap() > 5, "{summary}");
    }
}

/// In both directions at the same time: most of it is waiting.
fn both_ways(test: fn(&'static str)) {
    std::thread::scope(|scope| {
        for verb in ["receive", "send"] {
            scope.spawn(move || test(verb));
        }
    });
}

#[test]
fn a_quic_connection_that_falls_silent_costs_no_session() {
    both_ways(silent_lane);
}

/// Silence is noticed after ten seconds: the transfer cannot be over before.
fn silent_lane(verb: &'static str) {
    let world = World::new();
    let moved = world.moved(verb, 48 * MIB + 1);
    let (endpoint, coordinates) = moved.endpoint(&world);
    let (relay, coordinates) = Datagrams::new(&coordinates);
    let options = ["--transport", "quic", "--connections", "4"];
    let slowly = ["--limit-rate", "8MiB"];
    let client = moved.client(&coordinates, &[&options[..], &slowly].concat());
    wait_until("bytes on each of four connections", || {
        (0..4).all(|connection| relay.bytes(connection) > MIB as u64 / 2)
    });
    relay.cut(CONTROL + 2);
    wait_until("another connection", || relay.count() > 4);
    let summary = moved.assert_moved(endpoint, client);
    assert_eq!(summary["retries"], 0, "{summary}");
    assert_eq!(summary["transport"], "quic", "{summary}");
}

#[test]
fn a_transport_that_connects_and_carries_nothing_is_given_up_for_the_other_one() {
    both_ways(swallowed);
}

fn swallowed(verb: &'static str) {
    let world = World::new();
    let moved = world.moved(verb, 4 * MIB);
    let (endpoint, coordinates) = moved.endpoint(&world);
    let (tcp, udp, coordinates) = swallowing_tcp(&coordinates);
    let mut client = moved.client(&coordinates, &[]);
    for _ in 0..2 {
        client.wait_for(|line| line.contains("connected"));
        // Twenty seconds after the last byte, of a lane that was dialled again after ten perhaps.
        client.wait_longer_for(3 * DEADLINE, |line| line.contains("\"lost\""));
    }
    udp.open();
    let summary = moved.assert_moved(endpoint, client);
    assert!(tcp.total() > 16 << 10, "{summary}");
    assert!((0..udp.count()).any(|caller| udp.bytes(caller) > 4 * MIB as u64));
    assert_eq!(summary["transport"], "quic", "{summary}");
    let reason = "the other one connected and carried nothing";
    assert_eq!(summary["transport_reason"], reason, "{summary}");
}
