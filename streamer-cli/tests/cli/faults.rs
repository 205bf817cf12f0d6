//! Files and directories that fail in the middle of a transfer.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::half::{Half, LARGE, assert_partial};
use crate::harness::{
    Process, World, announced, beside, client, client_by, json, run, skipped, streamer_by,
    wait_for_partial, wait_until,
};
use crate::namespace::Namespace;
use crate::trees::plant_many;

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
fn a_directory_inside_of_a_tree_that_is_replaced_by_a_symlink() {
    for verb in BOTH {
        let world = World::new();
        let [source, target, moved, elsewhere] =
            ["source", "target", "moved", "elsewhere"].map(|name| world.path(name));
        std::fs::create_dir(&elsewhere).unwrap();
        plant_many(&source);
        let (there, theirs, mine) = match verb {
            "receive" => ("send", &source, &target),
            _ => ("receive", &target, &source),
        };
        let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let slowly = ["--limit-rate", "32MB"];
        let client = Process::start(client(&coordinates, &slowly, verb, mine));
        let part = beside(&target, ".part");
        // Each is made when it is offered, and the last one is filled last.
        let last = part.join("019");
        wait_until("the last directory", || last.exists());
        std::fs::rename(&last, &moved).unwrap();
        symlink(&elsewhere, &last).unwrap();
        client.wait().assert(3, &["019"]);
        endpoint.wait().assert(3, &[]);
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert!(target.join("000/large").exists());
    }
}

fn can_be_nobody() -> bool {
    let can = rustix::process::getuid().is_root();
    if !can {
        skipped("needs root, to become another user");
    }
    can
}

/// The binary as a user who owns nothing.
fn nobody() -> std::process::Command {
    let options = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    streamer_by("setpriv", &options)
}

#[test]
fn a_device_and_an_unreadable_file_are_named_and_the_rest_arrives() {
    if !can_be_nobody() {
        return;
    }
    let world = World::new();
    mode(world.dir(), 0o755);
    let (source, target) = (world.path("source"), world.path("target"));
    std::fs::create_dir(&source).unwrap();
    mode(&source, 0o755);
    for name in ["unreadable", "readable"] {
        std::fs::write(source.join(name), name).unwrap();
        mode(&source.join(name), 0o644);
    }
    mode(&source.join("unreadable"), 0o600);
    let mut device = std::process::Command::new("mknod");
    device.arg(source.join("device")).args(["c", "1", "5"]);
    assert!(device.status().unwrap().success());
    let (endpoint, coordinates) = world.endpoint(&[], "receive", &target);
    let exit = run(client_by(nobody(), &coordinates, &[], "send", &source));
    let named = [
        "device'",
        "unreadable'",
        "ermission denied",
        "2 entries failed",
    ];
    exit.assert(3, &named);
    endpoint.wait().assert(3, &[]);
    assert_eq!(std::fs::read(target.join("readable")).unwrap(), b"readable");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn a_directory_and_then_a_partial_that_may_not_be_written_any_more() {
    if !can_be_nobody() {
        return;
    }
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
    // So a run leaves that of a read-only file when it is killed before it gave the name.
    mode(&beside(&target, ".part"), 0o444);
    continued(
        &world,
        &source,
        &target,
        client_by(nobody(), "", &[], "receive", &target),
    );
}

/// The name of a journal that cannot be beside its directory.
const WITHIN: &str = ".streamer.part.journal";

#[test]
fn a_directory_in_one_that_takes_no_names_is_filled_and_nothing_is_left_in_it() {
    if !can_be_nobody() {
        return;
    }
    let world = World::new();
    let source = world.path("source");
    std::fs::create_dir(&source).unwrap();
    world.file("source/large", 64 << 20);
    std::fs::write(source.join("small"), "small").unwrap();
    std::fs::write(source.join(WITHIN), "has the name of ours").unwrap();
    mode(&source, 0o555);
    let home = world.path("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::write(home.join("mine"), "mine").unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    mode(world.dir(), 0o755);
    let receive = |coordinates: &str, options: &[&str]| {
        client_by(nobody(), coordinates, options, "receive", &home)
    };
    // Cut off, it goes on.
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let limited = ["--overwrite", "--limit-rate", "40MB"];
    let mut receiver = Process::start(receive(&coordinates, &limited));
    wait_until("the first blocks", || {
        let journal = std::fs::read_dir(home.join(WITHIN)).into_iter().flatten();
        let mut partials = journal.filter_map(Result::ok);
        let is_begun = |file: std::fs::DirEntry| {
            file.file_name()
                .as_encoded_bytes()
                .ends_with(b".part.journal")
                && file.metadata().is_ok_and(|found| found.len() > 100)
        };
        partials.any(is_begun)
    });
    assert!(receiver.is_running());
    receiver.signal(Signal::KILL);
    drop((receiver, endpoint));
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let exit = run(receive(&coordinates, &["--overwrite", "--json"]));
    exit.assert(3, &[]);
    let is_refused =
        |line: serde_json::Value| line["path"] == WITHIN && line["outcome"] == "failed";
    assert!(exit.stdout.lines().map(json).any(is_refused), "{exit:#?}");
    let resumed = exit.message("summary")["bytes_resumed"].as_u64().unwrap();
    assert!(resumed > 0, "{exit:#?}");
    endpoint.wait().assert(3, &[]);
    let mut names: Vec<_> = std::fs::read_dir(&home)
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["large", "mine", "small"]);
    let read = |of: &Path| std::fs::read(of.join("large")).unwrap();
    assert!(read(&home) == read(&source));
    // Its own mode and time, although the journal was removed from it after it got them.
    let [there, here] = [&source, &home].map(|path| path.metadata().unwrap());
    assert_eq!(there.modified().unwrap(), here.modified().unwrap());
    assert_eq!(mode_of(&home), 0o555);
    // Its journal can be made in it all the same.
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    run(receive(&coordinates, &["--overwrite"])).assert(3, &[WITHIN]);
    endpoint.wait().assert(3, &[]);
    assert_eq!(mode_of(&home), 0o555);
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_mount_point_is_filled() {
    let world = World::new();
    let source = world.path("source");
    std::fs::create_dir_all(source.join("deep")).unwrap();
    let large = world.file("source/deep/large", 3 << 20);
    let mounted = world.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let Some(disk) = Namespace::memory("40m", &mounted) else {
        return;
    };
    let inside = PathBuf::from(format!("/proc/{}/root", disk.pid()));
    let inside = inside.join(mounted.strip_prefix("/").unwrap());
    let fill = |target: &Path, option: &str| {
        let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
        let receive = client_by(disk.streamer(), &coordinates, &[option], "receive", target);
        run(receive).assert(0, &[]);
        endpoint.wait().assert(0, &[]);
    };
    let is_filled = |directory: &Path| {
        let found = std::fs::read(directory.join("deep/large")).unwrap();
        assert!(found == std::fs::read(&large).unwrap());
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 1);
    };
    for option in ["--skip-existing", "--overwrite"] {
        fill(&mounted, option);
        is_filled(&inside);
    }
    // Of the same file system, and a mount all the same.
    let [real, bound] = ["real", "bound"].map(|name| mounted.join(name));
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    let (real, place) = (shown(&real), shown(&bound));
    disk.sh(&format!(
        "mkdir '{real}' '{place}'; mount --bind '{real}' '{place}'"
    ));
    fill(&bound, "--overwrite");
    is_filled(&inside.join("bound"));
}

#[test]
fn a_file_of_somebody_else_that_is_as_offered_but_for_its_mode_is_kept() {
    if !can_be_nobody() {
        return;
    }
    let world = World::new();
    let source = world.path("source");
    std::fs::create_dir(&source).unwrap();
    let original = world.file("source/file", 1000);
    mode(&original, 0o664);
    let target = world.path("target");
    std::fs::create_dir(&target).unwrap();
    let copied = target.join("file");
    std::fs::copy(&original, &copied).unwrap();
    let times =
        std::fs::FileTimes::new().set_modified(original.metadata().unwrap().modified().unwrap());
    File::options()
        .write(true)
        .open(&copied)
        .unwrap()
        .set_times(times)
        .unwrap();
    mode(&copied, 0o644);
    std::os::unix::fs::chown(&target, Some(65534), Some(65534)).unwrap();
    mode(world.dir(), 0o755);
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let receive = client_by(
        nobody(),
        &coordinates,
        &["--overwrite", "--json"],
        "receive",
        &target,
    );
    let exit = run(receive);
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert_eq!(exit.message("summary")["files_kept"], 1);
}

#[test]
fn a_file_arrives_in_a_directory_that_takes_names_and_shows_none() {
    if !can_be_nobody() {
        return;
    }
    let world = World::new();
    let source = world.file("source", 3 << 20);
    let target = world.path("box/target");
    std::fs::create_dir(world.path("box")).unwrap();
    mode(&world.path("box"), 0o733);
    mode(world.dir(), 0o755);
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    run(client_by(nobody(), &coordinates, &[], "receive", &target)).assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(&target).unwrap() == std::fs::read(&source).unwrap());
    assert_eq!(std::fs::read_dir(world.path("box")).unwrap().count(), 1);
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
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &source);
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
    endpoint.wait_for(|line| line.contains("lost the client") && line.contains("no space"));
    assert_partial(&seen);
    // Not enough room: refused at once, and what is there stays.
    run(receive(&coordinates, &[])).assert(13, &["space"]);
    assert_partial(&seen);
    // The endpoint has waited for somebody to make room.
    std::fs::remove_file(filler).unwrap();
    let exit = run(receive(&coordinates, &["--json"]));
    exit.assert(0, &[]);
    let resumed = exit.message("summary")["bytes_resumed"].as_u64().unwrap();
    assert!(resumed > 0, "{exit:#?}");
    endpoint.wait().assert(0, &[]);
    assert!(std::fs::read(seen).unwrap() == std::fs::read(source).unwrap());
}

#[test]
fn a_disk_that_fills_up_with_a_tree() {
    let world = World::new();
    let source = world.path("source");
    std::fs::create_dir(&source).unwrap();
    for number in 0..30 {
        let file = world.file(format!("source/{number}"), 1 << 20);
        assert!(file.starts_with(&source));
    }
    let mounted = world.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let Some(disk) = Namespace::memory("40m", &mounted) else {
        return;
    };
    let inside = PathBuf::from(format!("/proc/{}/root", disk.pid()));
    let inside = inside.join(mounted.strip_prefix("/").unwrap());
    let filler = inside.join("filler");
    std::fs::write(&filler, vec![1; 24 << 20]).unwrap();
    let target = mounted.join("target");
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let receive = |coordinates: &str, options: &[&str]| {
        client_by(disk.streamer(), coordinates, options, "receive", &target)
    };
    run(receive(&coordinates, &[])).assert(13, &["space", "hint: free some space"]);
    assert!(!inside.join("target").exists());
    // The endpoint waits for the client to come back.
    std::fs::remove_file(filler).unwrap();
    let exit = run(receive(&coordinates, &["--json"]));
    exit.assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    let kept = exit.message("summary")["files_kept"].as_u64().unwrap();
    assert!(kept > 0, "{exit:#?}");
    for number in 0..30 {
        let name = number.to_string();
        let arrived = std::fs::read(inside.join("target").join(&name)).unwrap();
        assert!(arrived == std::fs::read(source.join(&name)).unwrap());
    }
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

#[test]
fn a_limit_for_files_is_an_error_on_either_side() {
    let limited = || streamer_by("sh", &["-c", "ulimit -f 2048; exec \"$0\" \"$@\""]);
    let world = World::new();
    let source = world.file("source", 4 << 20);
    let target = world.path("target");
    let (_endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let exit = run(client_by(limited(), &coordinates, &[], "receive", &target));
    exit.assert(13, &["error: ", "File too large", "hint: "]);
    let world = World::new();
    let command = world.server_by(limited(), &[], "receive", &world.path("target"));
    let (mut endpoint, coordinates) = announced(command);
    let exit = run(client(&coordinates, &[], "send", &source));
    exit.assert(13, &["error: ", "hint: "]);
    // It waits for somebody to make room, as on a full disk.
    endpoint.wait_for(|line| line.contains("File too large"));
    assert!(endpoint.is_running());
}
