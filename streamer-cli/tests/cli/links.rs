//! Networks that fail in the middle of a transfer.

use std::path::Path;

use rustix::process::Signal;

use crate::harness::{
    Exit, Process, World, announced, bytes, client_by, run, skipped, wait_for_partial,
};
use crate::namespace::{Cable, THERE};

/// Long enough to be caught in the middle.
const LARGE: usize = 256 << 20;

/// Runs a transfer over a cable, lets something happen to it in the middle, and returns how
/// the client ended: with the whole file.
fn disturbed(
    cable: &Cable,
    verb: &str,
    client_options: &[&str],
    disturb: impl FnOnce(&mut Process),
) -> Exit {
    let world = World::new();
    let (source, target) = (world.file("source", LARGE), world.path("target"));
    let (theirs, mine): (_, &Path) = match verb {
        "receive" => (("send", &source), &target),
        _ => (("receive", &target), &source),
    };
    let options = ["--host", THERE, "--public-ips", THERE];
    let server = world.server_by(cable.there.streamer(), &options, theirs.0, theirs.1);
    let (endpoint, coordinates) = announced(server);
    let options = [&["--json"], client_options].concat();
    let inside = cable.here.streamer();
    let mut client = Process::start(client_by(inside, &coordinates, &options, verb, mine));
    wait_for_partial(&target);
    disturb(&mut client);
    let exit = client.wait();
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert!(
        std::fs::read(&target).unwrap() == bytes(LARGE),
        "wrong bytes"
    );
    exit
}

#[test]
fn an_outage_longer_than_quic_waits_is_survived_by_dialling_again() {
    let Some(cable) = Cable::new() else { return };
    for verb in ["receive", "send"] {
        let exit = disturbed(&cable, verb, &["--transport", "quic"], |client| {
            cable.pull();
            client.wait_for(|line| line.contains("lost"));
            cable.plug_in();
        });
        let summary = exit.message("summary");
        assert!(summary["retries"].as_u64().unwrap() > 0, "{exit:#?}");
        assert!(summary["bytes_resumed"].as_u64().unwrap() > 0, "{exit:#?}");
    }
}

/// As where somebody moves to another network in the middle: nobody answers at the old address, and
/// the endpoint has to find that out.
#[test]
fn who_starts_anew_from_another_address_is_not_told_that_the_endpoint_is_busy() {
    std::thread::scope(|scope| {
        for (verb, transport) in [("receive", "tls"), ("send", "tls"), ("receive", "quic")] {
            scope.spawn(move || moved(verb, transport));
        }
    });
}

fn moved(verb: &str, transport: &str) {
    let Some(cable) = Cable::new() else { return };
    let world = World::new();
    let (source, target) = (world.file("source", LARGE), world.path("target"));
    let (theirs, mine): (_, &Path) = match verb {
        "receive" => (("send", &source), &target),
        _ => (("receive", &target), &source),
    };
    let options = ["--host", THERE, "--public-ips", THERE];
    let server = world.server_by(cable.there.streamer(), &options, theirs.0, theirs.1);
    let (endpoint, coordinates) = announced(server);
    let slowly = ["--transport", transport, "--limit-rate", "40MB"];
    let inside = cable.here.streamer();
    let first = Process::start(client_by(inside, &coordinates, &slowly, verb, mine));
    wait_for_partial(&target);
    cable.here.sh("ip link set cable down");
    first.signal(Signal::KILL);
    drop(first);
    let options = ["--json", "--transport", transport];
    let inside = cable.there.streamer();
    let exit = run(client_by(inside, &coordinates, &options, verb, mine));
    exit.assert(0, &[]);
    let resumed = exit.message("summary")["bytes_resumed"].as_u64().unwrap();
    assert!(resumed > 0, "{exit:#?}");
    endpoint.wait().assert(0, &[]);
}

#[test]
fn a_short_outage_is_not_even_noticed() {
    let Some(cable) = Cable::new() else { return };
    for transport in ["quic", "tls"] {
        let exit = disturbed(&cable, "receive", &["--transport", transport], |_| {
            cable.pull();
            // The length of the outage is the point.
            std::thread::sleep(std::time::Duration::from_secs(1));
            cable.plug_in();
        });
        assert_eq!(exit.message("summary")["retries"], 0, "{exit:#?}");
    }
}

#[test]
fn where_udp_is_dropped_in_the_middle_tls_goes_on() {
    let Some(cable) = Cable::new() else { return };
    // So that `auto` takes QUIC, also when the other machine is near.
    if !cable.drop("tcp") {
        skipped("needs ip of iproute2 with rules by protocol");
        return;
    }
    let exit = disturbed(&cable, "receive", &["--limit-rate", "100MB"], |_| {
        cable.pass("tcp");
        assert!(cable.drop("udp"));
    });
    let summary = exit.message("summary");
    assert_eq!(summary["transport"], "tls", "{exit:#?}");
    assert!(summary["bytes_resumed"].as_u64().unwrap() > 0, "{exit:#?}");
}

#[test]
fn a_path_whose_packets_must_become_smaller_is_found_out_in_the_same_session() {
    let Some(cable) = Cable::new() else { return };
    for verb in ["receive", "send"] {
        cable.take_packets_of(1500);
        let options = ["--transport", "quic", "--limit-rate", "100MB"];
        let exit = disturbed(&cable, verb, &options, |_| cable.shrink_towards(verb, 1300));
        assert_eq!(exit.message("summary")["retries"], 0, "{exit:#?}");
        assert!(cable.dropped(verb) > 0, "nothing was too large");
    }
}

#[test]
fn where_large_packets_vanish_tcp_goes_on_with_small_ones() {
    std::thread::scope(|scope| {
        for verb in ["receive", "send"] {
            scope.spawn(move || {
                let Some(cable) = Cable::new() else { return };
                cable.take_packets_of(9000);
                cable.hide_smaller_path(verb, 1500);
                let exit = disturbed(&cable, verb, &["--transport", "tls"], |_| {});
                let summary = exit.message("summary");
                assert_eq!(summary["retries"], 0, "{exit:#?}");
                assert!(cable.dropped(verb) > 0, "nothing was too large");
            });
        }
    });
}

#[test]
fn packets_are_as_large_as_the_path_takes_them() {
    for verb in ["receive", "send"] {
        let Some(cable) = Cable::new() else { return };
        cable.take_packets_of(9000);
        disturbed(&cable, verb, &["--transport", "quic"], |_| {});
        let bytes = cable.packet_bytes(verb);
        // Handshakes and acknowledgements included.
        assert!((7000..=9014).contains(&bytes), "{bytes} bytes in a packet");
    }
}
