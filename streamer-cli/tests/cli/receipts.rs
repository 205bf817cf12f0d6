//! Receipts that are lost on the way, once the file is in place.

use crate::harness::{Process, World, client, wait_for_partial};
use crate::relay::{Datagrams, Relay};

const SIZE: usize = (24 << 20) + 1;

/// The first connection controls.
const CONTROL: usize = 0;

/// An endpoint that has heard nothing from its client since the middle of the transfer, and the
/// client, which has everything and has said so. `before` is done while the endpoint still waits.
fn unheard(world: &World, options: &[&str], before: impl FnOnce(&Relay)) -> (Process, Process) {
    let (source, target) = (world.file("source", SIZE), world.path("target"));
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let (relay, coordinates) = Relay::new(&coordinates);
    let limited = ["--json", "--transport", "tls", "--limit-rate", "12MiB"];
    let options = [&limited[..], options].concat();
    let client = Process::start(client(&coordinates, &options, "receive", &target));
    wait_for_partial(&target);
    relay.mute(CONTROL);
    before(&relay);
    // The client ends its half of the connection behind the receipt.
    endpoint.wait_for(|line| line.contains("lost the client"));
    assert!(target.exists());
    (endpoint, client)
}

#[test]
fn over_quic_too_a_client_dials_again_with_a_receipt_that_was_lost() {
    let world = World::new();
    let (source, target) = (world.file("source", SIZE), world.path("target"));
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let (relay, coordinates) = Datagrams::new(&coordinates);
    relay.cut_when_there_is(&target);
    let options = ["--json", "--transport", "quic"];
    let exit = Process::start(client(&coordinates, &options, "receive", &target)).wait();
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert_eq!(relay.count(), 2, "{exit:#?}");
    assert_eq!(exit.message("summary")["verified"], true, "{exit:#?}");
    assert_received(&world);
}

fn assert_received(world: &World) {
    let (source, target) = (world.path("source"), world.path("target"));
    assert!(std::fs::read(source).unwrap() == std::fs::read(&target).unwrap());
    assert_eq!(std::fs::read_dir(world.dir()).unwrap().count(), 2);
}

#[test]
fn a_client_that_has_everything_dials_again_so_that_its_endpoint_may_leave() {
    let world = World::new();
    let (endpoint, client) = unheard(&world, &[], |_| ());
    let exit = client.wait();
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    let summary = exit.message("summary");
    assert_eq!(summary["retries"], 1, "{exit:#?}");
    // Of this transfer, not of the session that passed the receipt on.
    assert_eq!(summary["bytes_resumed"], 0, "{exit:#?}");
    assert_eq!(summary["verified"], true, "{exit:#?}");
    assert_received(&world);
}

#[test]
fn a_client_that_has_everything_ends_well_though_its_endpoint_is_gone() {
    let world = World::new();
    let (_endpoint, client) = unheard(&world, &["--wait", "1s"], Relay::close);
    let exit = client.wait();
    exit.assert(0, &[]);
    assert!(exit.stdout.contains("\"unheard\""), "{exit:#?}");
    assert_eq!(exit.message("summary")["verified"], true, "{exit:#?}");
    assert_received(&world);
}
