//! Transfers that end in the middle: by signal, by kill, by a client too many.

use std::time::Duration;

use rustix::process::Signal;

use crate::half::{Half, LARGE, assert_partial, assert_whole};
use crate::harness::{
    Process, World, client, client_by, run, skipped, streamer_by, wait_for_partial,
};
use crate::relay::Relay;

const WAYS: [(&str, &str); 4] = [
    ("receive", "quic"),
    ("receive", "tls"),
    ("send", "quic"),
    ("send", "tls"),
];

#[test]
fn an_interrupted_client_is_continued_by_the_next() {
    for (verb, transport) in WAYS {
        let mut half = Half::new(verb, transport, &[]);
        half.client.signal(Signal::INT);
        half.client = replace(half.client, |exit| {
            exit.assert(130, &["interrupted", "hint: the same command continues"]);
        });
        assert_partial(&half.world.path("target"));
        half.endpoint
            .wait_for(|line| line.contains("lost the client"));
        half.finish(&half.coordinates);
        half.endpoint.wait().assert(0, &[]);
    }
}

/// Waits for the end of a process, and puts one in its place that is over too.
#[track_caller]
fn replace(process: Process, check: impl FnOnce(crate::harness::Exit)) -> Process {
    check(process.wait());
    Process::start(std::process::Command::new("true"))
}

#[test]
fn a_killed_client_is_continued_by_the_next() {
    for (verb, transport) in WAYS {
        let half = Half::new(verb, transport, &[]);
        half.client.signal(Signal::KILL);
        half.finish(&half.coordinates);
        half.endpoint.wait().assert(0, &[]);
    }
}

#[test]
fn a_terminated_endpoint_tells_its_client_and_a_new_one_continues() {
    for (verb, transport) in WAYS {
        let mut half = Half::new(verb, transport, &[]);
        half.endpoint.signal(Signal::TERM);
        half.endpoint = replace(half.endpoint, |exit| {
            exit.assert(130, &["the job is ending", "hint: "]);
        });
        half.client = replace(half.client, |exit| {
            exit.assert(
                10,
                &["the other side", "the job is ending", "hint: request"],
            );
        });
        assert_partial(&half.world.path("target"));
        let (endpoint, coordinates) = half.another_endpoint();
        half.finish(&coordinates);
        endpoint.wait().assert(0, &[]);
    }
}

#[test]
fn a_killed_endpoint_is_redialled_and_a_new_one_continues() {
    // Over QUIC silence is all that tells of it, for ten seconds.
    for (verb, transport) in [("receive", "quic"), ("send", "tls"), ("receive", "tls")] {
        let mut half = Half::new(verb, transport, &["--wait", "1s"]);
        half.endpoint.signal(Signal::KILL);
        half.client.wait_for(|line| line.contains("trying again"));
        half.client = replace(half.client, |exit| {
            exit.assert(10, &["did not come back", "hint: "]);
        });
        assert_partial(&half.world.path("target"));
        let (endpoint, coordinates) = half.another_endpoint();
        half.finish(&coordinates);
        endpoint.wait().assert(0, &[]);
    }
}

#[test]
fn a_second_client_is_told_that_the_endpoint_is_busy() {
    for transport in ["quic", "tls"] {
        let mut half = Half::new("receive", transport, &[]);
        let other = half.world.path("other");
        let exit = run(client(
            &half.coordinates,
            &["--transport", transport],
            "receive",
            &other,
        ));
        exit.assert(11, &["another client is being served", "hint: "]);
        half.endpoint.wait_for(|line| line.contains("refused"));
        half.client.wait().assert(0, &[]);
        half.endpoint.wait().assert(0, &[]);
        assert_whole(&half.world.path("source"), &half.world.path("target"));
        assert!(!other.exists());
    }
}

#[test]
fn an_endpoint_that_waits_can_be_ended() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new();
        let (endpoint, _) = world.endpoint(&[], "send", &world.file("source", 1));
        endpoint.signal(signal);
        endpoint.wait().assert(130, &[]);
    }
}

#[test]
fn a_client_that_looks_for_its_endpoint_can_be_ended() {
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 1));
    drop(endpoint);
    let options = ["--json", "--wait", "1h"];
    let mut client = Process::start(client(&coordinates, &options, "receive", &world.path("x")));
    client.wait_for(|line| line.contains("connecting"));
    let begun = std::time::Instant::now();
    client.signal(Signal::INT);
    let exit = client.wait();
    assert_eq!(exit.status.code(), Some(130), "{exit:#?}");
    assert_eq!(exit.message("error")["exit_code"], 130);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_client_between_two_tries_can_be_ended() {
    let world = World::new();
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 3 << 20));
    let (relay, coordinates) = Relay::new(&coordinates);
    // No block is proven meanwhile: it waits longer each time.
    let options = ["--transport", "tls", "--limit-rate", "1000"];
    let mut client = Process::start(client(&coordinates, &options, "receive", &world.path("x")));
    for _ in 0..6 {
        endpoint.wait_for(|line| line.contains("serving"));
        (0..relay.count()).for_each(|connection| relay.cut(connection));
        client.wait_for(|line| line.contains("trying again"));
    }
    let begun = std::time::Instant::now();
    client.signal(Signal::INT);
    client.wait().assert(130, &["interrupted"]);
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_client_whose_terminal_is_closed_takes_its_leave() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    if u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap() & 1 == 1 {
        skipped("SIGHUP is ignored here, as nohup has it");
        return;
    }
    for (verb, transport) in [("receive", "quic"), ("send", "tls")] {
        let mut half = Half::new(verb, transport, &[]);
        half.client.signal(Signal::HUP);
        half.client = replace(half.client, |exit| {
            exit.assert(130, &["interrupted", "hint: the same command continues"]);
        });
        let lost = half
            .endpoint
            .wait_for(|line| line.contains("lost the client"));
        assert!(!lost.contains("timed out"), "{lost}");
        half.finish(&half.coordinates);
        half.endpoint.wait().assert(0, &[]);
    }
}

#[test]
fn a_client_under_nohup_goes_on_when_its_terminal_is_closed() {
    let world = World::new();
    let source = world.sparse("source", LARGE / 4);
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let target = world.path("target");
    let options = ["--transport", "quic", "--limit-rate", "100MB"];
    let nohup = streamer_by("nohup", &[]);
    let client = Process::start(client_by(nohup, &coordinates, &options, "receive", &target));
    wait_for_partial(&target);
    client.signal(Signal::HUP);
    client.wait().assert(0, &[]);
    endpoint.wait().assert(0, &[]);
}
