//! Files that arrive: every size, direction, transport and name.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::harness::{World, client, run, skipped};

const MIB: usize = 1 << 20;

#[track_caller]
fn assert_same(source: &Path, target: &Path) {
    let (old, new) = (source.metadata().unwrap(), target.metadata().unwrap());
    assert_eq!(old.len(), new.len());
    assert_eq!(old.mode(), new.mode());
    assert_eq!(
        (old.mtime(), old.mtime_nsec()),
        (new.mtime(), new.mtime_nsec())
    );
    assert!(std::fs::read(source).unwrap() == std::fs::read(target).unwrap());
}

#[track_caller]
fn moves(source_name: &OsStr, target_name: &OsStr, size: usize, verb: &str, transport: &str) {
    let world = World::new();
    let source = world.file(source_name, size);
    std::fs::set_permissions(&source, PermissionsExt::from_mode(0o640)).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    let file = std::fs::File::options().append(true).open(&source).unwrap();
    file.set_modified(modified).unwrap();
    let target = world.path(target_name);
    let (endpoint, coordinates, mine) = if verb == "receive" {
        let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
        (endpoint, coordinates, &target)
    } else {
        let (endpoint, coordinates) = world.endpoint(&[], "receive", &target);
        (endpoint, coordinates, &source)
    };
    let exit = run(client(
        &coordinates,
        &["--transport", transport, "--json"],
        verb,
        mine,
    ));
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert_same(&source, &target);
    let summary = exit.message("summary");
    assert_eq!(summary["bytes"], size);
    assert_eq!(summary["transport"], transport);
    assert_eq!(std::fs::read_dir(world.dir()).unwrap().count(), 2);
}

fn moves_all_sizes(verb: &str, transport: &str) {
    for size in [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 1] {
        moves(
            OsStr::new("source"),
            OsStr::new("target"),
            size,
            verb,
            transport,
        );
    }
}

#[test]
fn received_over_quic() {
    moves_all_sizes("receive", "quic");
}

#[test]
fn received_over_tls() {
    moves_all_sizes("receive", "tls");
}

#[test]
fn sent_over_quic() {
    moves_all_sizes("send", "quic");
}

#[test]
fn sent_over_tls() {
    moves_all_sizes("send", "tls");
}

#[test]
fn names_of_any_bytes() {
    for name in [
        &b"with space"[..],
        b"two\nlines",
        b"not \xff UTF-8",
        "größe".as_bytes(),
    ] {
        let name = OsStr::from_bytes(name);
        let mut target = name.to_owned();
        target.push(" target");
        moves(name, &target, 1000, "receive", "quic");
        moves(name, &target, 1000, "send", "tls");
    }
}

#[test]
fn files_move_over_ipv6_also_where_the_other_family_is_dead() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        skipped("needs IPv6 on loopback");
        return;
    }
    let world = World::new();
    let source = world.file("source", 3 * MIB);
    for (host, addresses) in [
        ("::1", &["::1"][..]),
        ("::", &["::1"]),
        // Nobody is at the first, which says so or says nothing.
        ("::1", &["127.0.0.1", "::1"]),
    ] {
        for transport in ["quic", "tls"] {
            let mut options = vec!["--host", host];
            options.extend(addresses.iter().flat_map(|ip| ["--public-ips", ip]));
            let (endpoint, coordinates) = world.endpoint(&options, "send", &source);
            let target = world.path("target");
            run(client(
                &coordinates,
                &["--transport", transport],
                "receive",
                &target,
            ))
            .assert(0, &[]);
            endpoint.wait().assert(0, &[]);
            assert_same(&source, &target);
            std::fs::remove_file(target).unwrap();
        }
    }
}
