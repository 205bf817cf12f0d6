//! What cannot be transferred, at either side: exit code, text, and nothing written.

use std::path::Path;

use crate::harness::{Process, World, beside, bytes, client, client_by, run, skipped, streamer_by};

/// That nothing was left in the directory but these.
#[track_caller]
fn assert_only(world: &World, names: &[&str]) {
    let mut found: Vec<_> = std::fs::read_dir(world.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, names);
}

#[test]
fn nobody_there() {
    let world = World::new();
    let (endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 10));
    drop(endpoint);
    for transport in ["auto", "quic", "tls"] {
        let options = ["--wait", "1s", "--transport", transport];
        let exit = run(client(
            &coordinates,
            &options,
            "receive",
            &world.path("target"),
        ));
        exit.assert(
            10,
            &["no endpoint answered on 127.0.0.1", "within 1 s", "hint: "],
        );
    }
    assert_only(&world, &["source"]);
}

#[test]
fn a_wrong_secret_is_refused_and_the_right_one_served_after() {
    let world = World::new();
    let source = world.file("source", 10);
    let secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let other_secret = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";
    let mut server = world.server(&[], "send", &source);
    server.env("STREAMER_SECRET", secret);
    let (mut endpoint, coordinates) = crate::harness::announced(server);
    let port = crate::coordinates::decode(&coordinates)["ports"][0]
        .as_u64()
        .unwrap();
    let wrong = crate::coordinates::version_1(port, other_secret);
    for transport in ["auto", "quic", "tls"] {
        let options = ["--wait", "1s", "--transport", transport];
        let exit = run(client(&wrong, &options, "receive", &world.path("target")));
        exit.assert(11, &["hint: "]);
        assert!(endpoint.is_running());
    }
    run(client(&coordinates, &[], "receive", &world.path("target"))).assert(0, &[]);
    endpoint.wait().assert(0, &[]);
}

#[test]
fn wrong_direction_by_the_coordinates() {
    let world = World::new();
    let source = world.file("source", 10);
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let exit = run(client(&coordinates, &[], "send", &source));
    exit.assert(11, &["wants to send too", "hint: use 'streamer receive'"]);
    assert!(endpoint.is_running());
    let (mut endpoint, coordinates) = world.endpoint(&[], "receive", &world.path("x"));
    let exit = run(client(&coordinates, &[], "receive", &world.path("target")));
    exit.assert(11, &["wants to receive too", "hint: use 'streamer send'"]);
    assert!(endpoint.is_running());
}

#[test]
fn wrong_direction_by_the_endpoint() {
    for transport in ["quic", "tls"] {
        let world = World::new();
        let source = world.file("source", 10);
        let (mut endpoint, coordinates) = world.endpoint(&["--secret", "word"], "send", &source);
        let port = crate::coordinates::decode(&coordinates)["ports"][0]
            .as_u64()
            .unwrap();
        let silent = crate::coordinates::version_1(port, "word");
        let options = ["--transport", transport];
        let exit = run(client(&silent, &options, "send", &source));
        exit.assert(11, &["the other direction", "hint: use the other verb"]);
        assert!(endpoint.is_running());
        run(client(&silent, &options, "receive", &world.path("target"))).assert(0, &[]);
        endpoint.wait().assert(0, &[]);
    }
}

#[test]
fn an_existing_target_stays() {
    let world = World::new();
    let source = world.file("source", 10);
    let target = world.file("target", 3);
    run(world.server(&[], "receive", &target)).assert(13, &["already exists", "hint: "]);
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &source);
    run(client(&coordinates, &[], "receive", &target))
        .assert(13, &["already exists", "--overwrite"]);
    assert!(endpoint.is_running());
    assert_eq!(std::fs::read(&target).unwrap(), bytes(3));
    let exit = run(client(
        &coordinates,
        &["--skip-existing", "--json"],
        "receive",
        &target,
    ));
    exit.assert(0, &[]);
    assert_eq!(exit.message("summary")["skipped"], true);
    endpoint.wait().assert(0, &[]);
    assert_eq!(std::fs::read(&target).unwrap(), bytes(3));
    let (endpoint, coordinates) = world.endpoint(&[], "send", &source);
    run(client(&coordinates, &["--overwrite"], "receive", &target)).assert(0, &[]);
    endpoint.wait().assert(0, &[]);
    assert_eq!(std::fs::read(&target).unwrap(), bytes(10));
}

#[test]
fn a_target_that_appears_meanwhile_stays() {
    let world = World::new();
    let source = world.file("source", 10);
    let target = world.path("target");
    let (endpoint, coordinates) = world.endpoint(&[], "receive", &target);
    std::fs::write(&target, "mine").unwrap();
    let exit = run(client(&coordinates, &[], "send", &source));
    exit.assert(13, &["the other side", "already exists"]);
    endpoint
        .wait()
        .assert(13, &["cannot create", "already exists"]);
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    assert_only(&world, &["source", "target"]);
}

#[test]
fn a_missing_source() {
    let world = World::new();
    let missing = world.path("missing");
    run(world.server(&[], "send", &missing)).assert(13, &["missing'", "hint: "]);
    let (mut endpoint, coordinates) = world.endpoint(&[], "receive", &world.path("target"));
    run(client(&coordinates, &[], "send", &missing)).assert(13, &["missing'", "hint: "]);
    assert!(endpoint.is_running());
}

#[test]
fn a_missing_parent() {
    let world = World::new();
    let target = world.path("no").join("target");
    run(world.server(&[], "receive", &target)).assert(13, &["hint: create the directory"]);
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &world.file("source", 1));
    let exit = run(client(&coordinates, &[], "receive", &target));
    exit.assert(13, &["hint: create the directory"]);
    assert!(endpoint.is_running());
}

#[test]
fn no_permission() {
    if !rustix::process::getuid().is_root() {
        skipped("needs root, to become another user");
        return;
    }
    let nobody = || {
        streamer_by(
            "setpriv",
            &["--reuid=65534", "--regid=65534", "--clear-groups"],
        )
    };
    let world = World::new();
    let source = world.file("source", 10);
    mode(&source, 0o600);
    // Others may enter, but not write.
    mode(world.dir(), 0o755);
    let target = world.path("target");
    run(world.server_by(nobody(), &[], "send", &source))
        .assert(13, &["ermission denied", "hint: "]);
    let (_endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let exit = run(client_by(nobody(), &coordinates, &[], "receive", &target));
    exit.assert(13, &["ermission denied", "hint: "]);
    let (_endpoint, coordinates) = world.endpoint(&[], "receive", &target);
    let exit = run(client_by(nobody(), &coordinates, &[], "send", &source));
    exit.assert(13, &["ermission denied", "hint: "]);
    assert_only(&world, &["source"]);
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn the_inbound_limit_is_exact() {
    for transport in ["quic", "tls"] {
        let world = World::new();
        let target = world.path("target");
        let limit = ["--inbound-transfer-limit", "1000"];
        let options = ["--transport", transport];
        let (endpoint, coordinates) = world.endpoint(&limit, "receive", &target);
        let exit = run(client(
            &coordinates,
            &options,
            "send",
            &world.file("source", 1001),
        ));
        exit.assert(
            13,
            &[
                "the other side",
                "larger than the inbound transfer limit",
                "hint: ",
            ],
        );
        let exit = endpoint.wait();
        exit.assert(13, &["target'", "larger than the inbound transfer limit"]);
        assert!(!exit.stderr.contains("other side"), "{exit:#?}");
        assert_only(&world, &["source"]);
        let (endpoint, coordinates) = world.endpoint(&limit, "receive", &target);
        run(client(
            &coordinates,
            &options,
            "send",
            &world.file("source", 1000),
        ))
        .assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert_eq!(std::fs::read(&target).unwrap(), bytes(1000));
    }
}

#[test]
fn a_source_that_changed_between_two_runs() {
    for (verb, there) in [("receive", "send"), ("send", "receive")] {
        let world = World::new();
        let source = world.sparse("source", 512 << 20);
        let target = world.path("target");
        let (theirs, mine) = match verb {
            "receive" => (&source, &target),
            _ => (&target, &source),
        };
        let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let first = Process::start(client(&coordinates, &[], verb, mine));
        crate::harness::wait_for_partial(&target);
        drop((first, endpoint));
        let part = beside(&target, ".part");
        assert!(part.exists() && !target.exists());
        world.sparse("source", 100);
        let (endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let exit = run(client(&coordinates, &[], verb, mine));
        exit.assert(
            12,
            &["changed", "hint: ", "same client command with --restart"],
        );
        assert!(part.exists() && !target.exists());
        // The endpoint waits for whoever comes back.
        run(client(&coordinates, &["--restart"], verb, mine)).assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert_eq!(target.metadata().unwrap().len(), 100);
        assert!(!part.exists());
    }
}

#[test]
fn a_source_that_changed_before_anybody_came_is_sent_as_it_is_then() {
    for options in [&["--allow-websocket"][..], &[]] {
        let world = World::new();
        let (source, target) = (world.file("source", 1000), world.path("target"));
        let (endpoint, coordinates) = world.endpoint(options, "send", &source);
        // As editors save, and many programs write results.
        let new = world.file("new", 2000);
        std::fs::rename(&new, &source).unwrap();
        let plaintext = ["--transport", "ws"];
        let mine = if options.is_empty() {
            &[][..]
        } else {
            &plaintext
        };
        run(client(&coordinates, mine, "receive", &target)).assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert_eq!(std::fs::read(&target).unwrap(), bytes(2000));
    }
}

#[test]
fn addresses_that_no_client_takes() {
    let world = World::new();
    let source = world.file("source", 10);
    for address in ["node7:5665", "https://node7", "a,b", ""] {
        let server = world.server(&["--public-ips", address], "send", &source);
        run(server).assert(2, &["give --public-ips one name or address"]);
    }
}

#[test]
fn an_endpoint_that_nobody_calls() {
    let world = World::new();
    let exit = run(world.server(&["--wait-timeout", "1"], "send", &world.file("source", 1)));
    exit.assert(4, &["no client came within 1 s", "hint: "]);
}
