//! Directories: everything in them arrives as it was, or is reported.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt, symlink,
};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::harness::{Exit, Process, World, announced, beside, bytes, client, run, wait_until};
use crate::relay::Relay;

/// A tree with something of everything that is kept.
fn plant(root: &Path) {
    std::fs::create_dir_all(root.join("deep/er/still")).unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    for (name, size) in [
        (&b"zero"[..], 0),
        (b"small", 10_000),
        (b"deep/er/still/large", (3 << 20) + 17),
        (b"deep/medium", 200_000),
        (b"with space", 1),
        (b"two\nlines", 2),
        (b"not \xff UTF-8", 3),
        // Names that a partial might have.
        (b"small.part", 4),
        (b"small.part.journal", 5),
        (&[b'n'; 255], 6),
    ] {
        std::fs::write(root.join(OsStr::from_bytes(name)), bytes(size)).unwrap();
    }
    symlink("deep/er", root.join("link")).unwrap();
    symlink("../../small", root.join("deep/er/up")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    mode(&root.join("small"), 0o640);
    mode(&root.join("deep/medium"), 0o6755);
    mode(&root.join("deep"), 0o2775);
    mode(&root.join("empty"), 0o1777);
    for (name, seconds) in [
        ("small", 1_234_567_890),
        ("deep/er", 1_111_111_111),
        ("", 1_000),
    ] {
        let modified = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123_456_789);
        let file = std::fs::File::open(root.join(name)).unwrap();
        file.set_modified(modified).unwrap();
    }
    mode(&root.join("deep/er"), 0o550);
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// Every name, kind, byte, mode and time.
#[track_caller]
pub(crate) fn assert_same(source: &Path, target: &Path) {
    let (old, new) = (
        source.symlink_metadata().unwrap(),
        target.symlink_metadata().unwrap(),
    );
    assert_eq!(old.file_type(), new.file_type(), "{target:?}");
    let time = |found: &std::fs::Metadata| (found.mtime(), found.mtime_nsec());
    assert_eq!(time(&old), time(&new), "{target:?}");
    if old.is_symlink() {
        let link = |path: &Path| std::fs::read_link(path).unwrap();
        assert_eq!(link(source), link(target));
        return;
    }
    // Setgid and sticky are kept where they say whose the files in a directory are.
    let bits = if old.is_dir() { 0o3777 } else { 0o777 };
    assert_eq!(old.mode() & bits, new.mode() & 0o7777, "{target:?}");
    if old.is_file() {
        assert!(std::fs::read(source).unwrap() == std::fs::read(target).unwrap());
        return;
    }
    assert_eq!(names(source), names(target));
    for name in names(source) {
        assert_same(&source.join(&name), &target.join(&name));
    }
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    let names = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Moves `source` to `target` of a world, either way. How both ended, the client first.
#[track_caller]
fn move_tree(world: &World, verb: &str, options: &[&str]) -> [Exit; 2] {
    let (source, target) = (world.path("source"), world.path("target"));
    let (theirs, mine) = match verb {
        "receive" => (("send", &source), &target),
        _ => (("receive", &target), &source),
    };
    let (endpoint, coordinates) = world.endpoint(&["--json"], theirs.0, theirs.1);
    let exit = run(client(&coordinates, options, verb, mine));
    [exit, endpoint.wait()]
}

#[test]
fn everything_in_a_tree_arrives_as_it_was() {
    for (verb, transport) in [
        ("receive", "quic"),
        ("receive", "tls"),
        ("send", "quic"),
        ("send", "tls"),
    ] {
        let world = World::new();
        plant(&world.path("source"));
        let exits = move_tree(&world, verb, &["--json", "--transport", transport]);
        for exit in &exits {
            exit.assert(0, &[]);
            let summary = exit.message("summary");
            assert_eq!(summary["files"], 10, "{summary}");
            assert_eq!(summary["directories"], 5);
            assert_eq!(summary["links"], 3);
            assert_eq!(summary["failed"], 0);
        }
        let [root, other] = exits.map(|exit| exit.message("summary")["root"].clone());
        assert_eq!(root, other);
        assert_eq!(root.as_str().unwrap().len(), 64);
        assert_same(&world.path("source"), &world.path("target"));
        assert_eq!(names(world.dir()), ["source", "target"]);
    }
}

#[test]
fn one_file_may_be_all_of_a_tree_and_an_empty_tree_is_one() {
    let world = World::new();
    std::fs::create_dir(world.path("source")).unwrap();
    let [exit, _] = move_tree(&world, "receive", &["--json"]);
    exit.assert(0, &[]);
    assert_eq!(exit.message("summary")["directories"], 1);
    assert_same(&world.path("source"), &world.path("target"));
}

/// A disk that fails is no reason to throw away what was read from it before.
#[test]
fn what_an_earlier_run_received_stays_when_it_cannot_be_sent_any_more() {
    for verb in ["receive", "send"] {
        let world = World::new();
        let (source, target) = (world.path("source"), world.path("target"));
        std::fs::create_dir(&source).unwrap();
        let _unsent = UnixListener::bind(source.join("unsent")).unwrap();
        std::fs::write(source.join("sent"), "now").unwrap();
        // As an earlier run leaves it.
        let (part, journal) = (beside(&target, ".part"), beside(&target, ".part.journal"));
        std::fs::create_dir(&part).unwrap();
        std::fs::create_dir(&journal).unwrap();
        std::fs::write(journal.join("lock"), "FSBESID1").unwrap();
        for name in ["unsent", "removed"] {
            std::fs::write(part.join(name), "then").unwrap();
        }
        let [exit, _] = move_tree(&world, verb, &[]);
        exit.assert(3, &["unsent'", "1 entry failed"]);
        assert_eq!(std::fs::read(target.join("unsent")).unwrap(), b"then");
        assert_eq!(std::fs::read(target.join("sent")).unwrap(), b"now");
        assert!(!target.join("removed").exists());
    }
}

#[test]
fn what_another_filter_leaves_out_of_an_earlier_run_is_removed_and_that_is_said() {
    for options in [&["--exclude", "left"][..], &["--json", "--exclude", "left"]] {
        let world = World::new();
        let (source, target) = (world.path("source"), world.path("target"));
        std::fs::create_dir_all(source.join("left/out")).unwrap();
        for name in ["wanted", "left/first", "left/out/second"] {
            std::fs::write(source.join(name), name).unwrap();
        }
        // As an earlier run leaves it that wanted everything.
        let (part, journal) = (beside(&target, ".part"), beside(&target, ".part.journal"));
        std::fs::create_dir_all(part.join("left/out")).unwrap();
        std::fs::create_dir(&journal).unwrap();
        std::fs::write(journal.join("lock"), "FSTREE01").unwrap();
        std::fs::write(journal.join(format!("{}.part", "0".repeat(64))), "begun").unwrap();
        for name in ["left/first", "left/out/second"] {
            std::fs::copy(source.join(name), part.join(name)).unwrap();
        }
        let [exit, _] = move_tree(&world, "receive", options);
        exit.assert(0, &[]);
        assert_eq!(names(&target), ["wanted"]);
        match options.contains(&"--json") {
            true => assert_eq!(exit.message("summary")["files_removed"], 3),
            false => assert!(exit.stdout.contains("removed: 3 files"), "{exit:#?}"),
        }
    }
}

#[test]
fn what_cannot_be_sent_is_reported_and_the_rest_arrives() {
    for verb in ["receive", "send"] {
        let world = World::new();
        let source = world.path("source");
        plant(&source);
        symlink("/etc/passwd", source.join("absolute")).unwrap();
        symlink("../outside", source.join("deep/er/../../leaves")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            source.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        assert!(
            source
                .join("pipe")
                .metadata()
                .unwrap()
                .file_type()
                .is_fifo()
        );
        let _socket = UnixListener::bind(source.join("socket")).unwrap();
        std::fs::write(source.join("one name"), "of two").unwrap();
        std::fs::hard_link(source.join("one name"), source.join("another name")).unwrap();
        let [exit, other] = move_tree(&world, verb, &[]);
        exit.assert(
            3,
            &[
                "'",
                "pipe'",
                "socket'",
                "absolute'",
                "leaves'",
                "4 entries failed",
            ],
        );
        assert_eq!(other.status.code(), Some(3), "{other:#?}");
        let failed = |line: &&str| line.contains("\"failed\",\"code\"");
        assert_eq!(other.stdout.lines().filter(failed).count(), 4, "{other:#?}");
        // Each a file of its own.
        let twice = world.path("target").join("another name");
        assert_eq!(twice.metadata().unwrap().nlink(), 1);
        for name in ["pipe", "socket", "absolute", "leaves"] {
            std::fs::remove_file(source.join(name)).unwrap();
        }
        let modified = SystemTime::UNIX_EPOCH + Duration::new(1_000, 123_456_789);
        let root = std::fs::File::open(&source).unwrap();
        root.set_modified(modified).unwrap();
        std::fs::File::open(world.path("target"))
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_same(&source, &world.path("target"));
    }
}

#[test]
fn a_tree_on_something_that_exists() {
    let world = World::new();
    let (source, target) = (world.path("source"), world.path("target"));
    plant(&source);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("small"), "mine").unwrap();
    std::fs::write(target.join("other"), "mine too").unwrap();
    std::fs::write(target.join("deep"), "a file where a directory is offered").unwrap();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    run(client(&coordinates, &[], "receive", &target)).assert(13, &["already exists"]);
    drop(endpoint);
    let [exit, _] = move_tree(&world, "receive", &["--skip-existing"]);
    exit.assert(3, &["target/deep'", "already exists"]);
    assert_eq!(std::fs::read(target.join("small")).unwrap(), b"mine");
    std::fs::remove_file(target.join("deep")).unwrap();
    let [exit, _] = move_tree(&world, "receive", &["--overwrite", "--json"]);
    exit.assert(0, &[]);
    // What the first try left is recognised by size and time.
    assert_eq!(exit.message("summary")["files_kept"], 7);
    assert_eq!(std::fs::read(target.join("other")).unwrap(), b"mine too");
    std::fs::remove_file(target.join("other")).unwrap();
    let root = std::fs::File::open(&target).unwrap();
    root.set_modified(source.metadata().unwrap().modified().unwrap())
        .unwrap();
    assert_same(&source, &target);
    assert_eq!(names(world.dir()), ["source", "target"]);
}

#[test]
fn an_endpoint_fills_a_directory_that_exists_where_it_is_told_to() {
    let world = World::new();
    let (source, target) = (world.path("source"), world.path("target"));
    plant(&source);
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("small"), "mine").unwrap();
    run(world.server(&[], "receive", &target)).assert(13, &["already exists", "--skip-existing"]);
    let theirs = std::fs::read(source.join("small")).unwrap();
    for (option, small) in [("--skip-existing", &b"mine"[..]), ("--overwrite", &theirs)] {
        let mut server = world.server(&[], "receive", &target);
        server.arg(option);
        let (endpoint, coordinates) = announced(server);
        run(client(&coordinates, &[], "send", &source)).assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert_eq!(std::fs::read(target.join("small")).unwrap(), small);
    }
    assert_same(&source, &target);
}

#[test]
fn only_what_is_wanted_is_moved() {
    for verb in ["receive", "send"] {
        let world = World::new();
        plant(&world.path("source"));
        let options = [
            "--include",
            "*.part",
            "--include",
            "/deep/**",
            "--exclude",
            "still/",
        ];
        let [exit, _] = move_tree(&world, verb, &options);
        exit.assert(0, &[]);
        let target = world.path("target");
        assert_eq!(names(&target), ["deep", "small.part"]);
        assert_eq!(names(&target.join("deep")), ["er", "medium"]);
        assert_eq!(names(&target.join("deep/er")), ["up"]);
    }
    let world = World::new();
    let options = ["--include", "a["];
    run(client("x", &options, "send", world.dir())).assert(2, &["'a['"]);
}

#[test]
fn a_directory_that_is_included_comes_with_what_is_in_it_and_nothing_at_all_is_warned_of() {
    for verb in ["receive", "send"] {
        let world = World::new();
        plant(&world.path("source"));
        let [exit, _] = move_tree(&world, verb, &["--include", "er/"]);
        exit.assert(0, &[]);
        assert!(!exit.stderr.contains("nothing matches"), "{exit:#?}");
        let arrived = world.path("target/deep/er");
        assert_eq!(names(&arrived), names(&world.path("source/deep/er")));
        assert_eq!(names(&world.path("target")), ["deep"]);

        let world = World::new();
        plant(&world.path("source"));
        let [exit, _] = move_tree(&world, verb, &["--include", "misspelt"]);
        exit.assert(0, &["warning: nothing matches --include"]);
        assert!(names(&world.path("target")).is_empty());
    }
}

/// Enough to be caught in the middle.
pub(crate) fn plant_many(root: &Path) {
    for directory in 0..20 {
        let directory = root.join(format!("{directory:03}"));
        std::fs::create_dir_all(&directory).unwrap();
        for file in 0..60 {
            std::fs::write(directory.join(format!("{file}")), bytes(20_000 + file)).unwrap();
        }
        std::fs::write(directory.join("large"), bytes(2 << 20)).unwrap();
    }
}

fn count_files(directory: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    let count = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => count_files(&entry.path()),
        false => 1,
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}

#[test]
fn a_tree_that_is_cut_off_is_continued() {
    for (verb, victim, signal) in [
        ("receive", "client", Signal::KILL),
        ("receive", "client", Signal::INT),
        ("send", "endpoint", Signal::KILL),
        ("send", "endpoint", Signal::TERM),
    ] {
        let world = World::new();
        let (source, target) = (world.path("source"), world.path("target"));
        plant_many(&source);
        let there = if verb == "receive" { "send" } else { "receive" };
        let (theirs, mine) = match verb {
            "receive" => (&source, &target),
            _ => (&target, &source),
        };
        let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let options = ["--transport", "tls", "--wait", "1s"];
        let client = Process::start(client(&coordinates, &options, verb, mine));
        let part = beside(&target, ".part");
        wait_until("some files", || count_files(&part) > 200);
        let process = if victim == "client" {
            &client
        } else {
            &endpoint
        };
        process.signal(signal);
        if victim == "client" {
            assert_ne!(client.wait().status.code(), Some(0));
            drop(endpoint);
        } else {
            assert_ne!(endpoint.wait().status.code(), Some(0));
            assert_eq!(client.wait().status.code(), Some(10));
        }
        assert!(!target.exists() && part.exists());
        let [exit, other] = move_tree(&world, verb, &["--json"]);
        exit.assert(0, &[]);
        other.assert(0, &[]);
        let kept = other.message("summary")["files_kept"].as_u64().unwrap();
        assert!(kept >= 200, "{kept}");
        assert_same(&source, &target);
        assert_eq!(names(world.dir()), ["source", "target"]);
    }
}

#[test]
fn holes_stay_holes() {
    let world = World::new();
    let (source, target) = (world.path("source"), world.path("target"));
    std::fs::create_dir(&source).unwrap();
    for (name, size) in [("small", 100_000), ("large", 20 << 20)] {
        let file = std::fs::File::create(source.join(name)).unwrap();
        file.set_len(size).unwrap();
        file.write_all_at(b"here", size / 2).unwrap();
    }
    std::fs::write(source.join("zeros"), vec![0; 50_000]).unwrap();
    let [exit, _] = move_tree(&world, "receive", &[]);
    exit.assert(0, &[]);
    assert_same(&source, &target);
    let space = |name: &str| target.join(name).metadata().unwrap().blocks() * 512;
    assert!(space("small") <= 16 << 10 && space("large") <= 64 << 10);
    assert!(space("zeros") >= 50_000);
}

#[test]
fn a_file_that_is_mostly_a_hole_moves_what_is_in_it() {
    const SIZE: u64 = 600 << 20;
    let there: [(u64, &[u8]); 3] = [(0, b"first"), (SIZE / 2, b"middle"), (SIZE - 4, b"last")];
    for verb in ["receive", "send"] {
        let world = World::new();
        let (source, target) = (world.path("source"), world.path("target"));
        let file = std::fs::File::create(&source).unwrap();
        file.set_len(SIZE).unwrap();
        for (offset, bytes) in there {
            file.write_all_at(bytes, offset).unwrap();
        }
        let (theirs, mine) = match verb {
            "receive" => (("send", &source), &target),
            _ => (("receive", &target), &source),
        };
        let (endpoint, coordinates) = world.endpoint(&[], theirs.0, theirs.1);
        let (relay, coordinates) = Relay::new(&coordinates);
        run(client(&coordinates, &["--transport", "tls"], verb, mine)).assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        // Three blocks, and little more.
        assert!(relay.total() < 4 << 20, "{} bytes", relay.total());
        let found = target.metadata().unwrap();
        assert!(
            found.len() == SIZE && found.blocks() * 512 <= 1 << 20,
            "{found:?}"
        );
        let target = std::fs::File::open(&target).unwrap();
        for (offset, bytes) in there {
            let mut found = vec![0; bytes.len()];
            target.read_exact_at(&mut found, offset).unwrap();
            assert_eq!(found, bytes);
        }
    }
}

#[test]
fn the_inbound_limit_counts_all_files() {
    let world = World::new();
    let (source, target) = (world.path("source"), world.path("target"));
    std::fs::create_dir(&source).unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(source.join(name), bytes(400)).unwrap();
    }
    let limit = ["--inbound-transfer-limit", "1000"];
    let (endpoint, coordinates) = world.endpoint(&limit, "receive", &target);
    let exit = run(client(&coordinates, &[], "send", &source));
    exit.assert(3, &["'c'", "larger than the inbound transfer limit"]);
    endpoint.wait().assert(3, &["target/c'"]);
    assert_eq!(names(&target), ["a", "b"]);
}

#[test]
fn a_tree_over_a_websocket_is_refused_with_what_to_do_instead() {
    let world = World::new();
    let source = world.path("source");
    std::fs::create_dir(&source).unwrap();
    let options = ["--transport", "ws"];
    let (mut endpoint, coordinates) =
        world.endpoint(&["--allow-websocket"], "receive", &world.path("target"));
    let exit = run(client(&coordinates, &options, "send", &source));
    let words = [
        "single files",
        "hint: a directory needs QUIC or TLS",
        "leave out --transport ws",
    ];
    exit.assert(13, &words);
    // It has not been disturbed.
    run(client(&coordinates, &[], "send", &source)).assert(0, &[]);
    endpoint.wait_for(|line| line.contains("received"));
    endpoint.wait().assert(0, &[]);
    let (_endpoint, coordinates) = world.endpoint(&["--allow-websocket"], "send", &source);
    let exit = run(client(
        &coordinates,
        &options,
        "receive",
        &world.path("other"),
    ));
    exit.assert(
        13,
        &[
            "hint: a directory needs QUIC or TLS",
            "leave out --transport ws",
        ],
    );
}
