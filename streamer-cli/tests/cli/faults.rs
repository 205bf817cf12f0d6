//! Files and directories that fail in the middle of a transfer.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::half::{Half, LARGE, assert_partial};
use crate::harness::{
    Process, World, beside, client, client_by, run, streamer_by, wait_for_partial,
};
use crate::namespace::Namespace;

const BOTH: [&str; 2] = ["receive", "send"];

/// A source that changes: exit 12 on both sides, the partial stays, and how to go on is said.
fn source_changes(change: impl Fn(&File)) {
    for verb in BOTH {
        let half = Half::new(verb, "quic", &[]);
        let source = half.world.path("source");
        change(&OpenOptions::new().write(true).open(source).unwrap());
        half.client
            .wait()
            .assert(12, &["source changed", "hint: ", "--restart"]);
        half.endpoint
            .wait()
            .assert(12, &["source changed", "hint: "]);
        assert_partial(&half.world.path("target"));
    }
}

#[test]
fn a_source_that_is_truncated() {
    source_changes(|source| source.set_len(LARGE / 2).unwrap());
}

#[test]
fn a_source_that_is_rewritten() {
    source_changes(|source| source.write_all_at(b"other", LARGE - 5).unwrap());
}

#[test]
fn a_target_directory_that_is_replaced_by_a_symlink() {
    for verb in BOTH {
        let world = World::new();
        let [out, moved, elsewhere] = ["out", "moved", "elsewhere"].map(|name| world.path(name));
        std::fs::create_dir(&out).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        let half = Half::to(world, &out.join("target"), verb, "quic", &[]);
        std::fs::rename(&out, &moved).unwrap();
        symlink(&elsewhere, &out).unwrap();
        half.client.wait().assert(0, &[]);
        half.endpoint.wait().assert(0, &[]);
        assert_eq!(moved.join("target").metadata().unwrap().len(), LARGE);
        assert_eq!(std::fs::read_dir(&moved).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_that_may_not_be_written_any_more() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: needs root, to become another user");
        return;
    }
    let nobody = || {
        streamer_by(
            "setpriv",
            &["--reuid=65534", "--regid=65534", "--clear-groups"],
        )
    };
    let world = World::new();
    let source = world.file("source", 256 << 20);
    let out = world.path("out");
    std::fs::create_dir(&out).unwrap();
    std::os::unix::fs::chown(&out, Some(65534), Some(65534)).unwrap();
    mode(world.dir(), 0o755);
    let target = out.join("target");
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let receiver = Process::start(client_by(nobody(), &coordinates, &[], "receive", &target));
    wait_for_partial(&target);
    mode(&out, 0o555);
    receiver.wait().assert(13, &["ermission denied", "hint: "]);
    endpoint.wait().assert(13, &["ermission denied"]);
    assert_partial(&target);
    mode(&out, 0o755);
    continued(
        &world,
        &source,
        &target,
        client_by(nobody(), "", &[], "receive", &target),
    );
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A new endpoint, and the same client to the end.
fn continued(world: &World, source: &Path, target: &Path, mut client: std::process::Command) {
    let (endpoint, coordinates) = world.endpoint(&[], "send", source);
    client
        .env("STREAMER_COORDINATES", coordinates)
        .arg("--json");
    let exit = run(client);
    exit.assert(0, &[]);
    let resumed = exit.message("summary")["bytes_resumed"].as_u64().unwrap();
    assert!(resumed > 0, "{exit:#?}");
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(target).unwrap() == std::fs::read(source).unwrap());
}

#[test]
fn a_disk_that_fills_up() {
    const SIZE: usize = 120 << 20;
    let world = World::new();
    let source = world.file("source", SIZE);
    let mounted = world.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let Some(disk) = Namespace::memory("124m", &mounted) else {
        return;
    };
    // The same directory, as it is seen from outside.
    let inside = PathBuf::from(format!("/proc/{}/root", disk.pid()));
    let inside = inside.join(mounted.strip_prefix("/").unwrap());
    let (target, seen) = (mounted.join("target"), inside.join("target"));
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let receive = |coordinates: &str, options: &[&str]| {
        client_by(disk.streamer(), coordinates, options, "receive", &target)
    };
    let receiver = Process::start(receive(&coordinates, &[]));
    wait_for_partial(&seen);
    // It must not be done before the disk is full.
    receiver.signal(Signal::STOP);
    let filler = inside.join("filler");
    let full = File::create(&filler).unwrap().write_all(&vec![1; SIZE]);
    assert_eq!(full.unwrap_err().kind(), ErrorKind::StorageFull);
    receiver.signal(Signal::CONT);
    receiver
        .wait()
        .assert(13, &["target.part", "space", "hint: free some space"]);
    endpoint.wait().assert(13, &["the other side", "no space"]);
    assert_partial(&seen);
    // Not enough room: refused at once, and what is there stays.
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    run(receive(&coordinates, &[])).assert(13, &["space"]);
    endpoint.wait().assert(13, &["no space"]);
    assert_partial(&seen);
    std::fs::remove_file(filler).unwrap();
    continued(&world, &source, &seen, receive("", &[]));
}

#[test]
fn two_clients_that_receive_into_one_target() {
    let half = Half::new("receive", "quic", &[]);
    let target = half.world.path("target");
    let other = World::new();
    let (endpoint, coordinates) = other.endpoint(&[], "send", &half.world.path("source"));
    run(client(&coordinates, &[], "receive", &target)).assert(13, &["another transfer", "hint: "]);
    drop(endpoint);
    half.client.wait().assert(0, &[]);
    half.endpoint.wait().assert(0, &[]);
    assert!(!beside(&target, ".part").exists());
}
