//! Full file systems and networks that drop UDP, in namespaces of the test's own.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{BINARY, Process, World, announced, clean, client, client_by, run, skipped};

/// Whether namespaces may be made here; says so if not.
fn may(options: &[&str]) -> bool {
    let made = Command::new("unshare").args(options).arg("true").output();
    let may = made.is_ok_and(|made| made.status.success());
    if !may {
        skipped(&format!("needs to make namespaces ({})", options.join(" ")));
    }
    may
}

/// The binary after a script, which runs in new namespaces with a path as `$1`.
fn within(options: &[&str], script: &str, path: &std::path::Path) -> Command {
    let mut command = clean(Command::new("unshare"));
    let script = format!("set -e; {script}; shift; exec \"$@\"");
    command
        .args(options)
        .args(["sh", "-c", &script, "sh"])
        .arg(path)
        .arg(BINARY);
    command
}

#[test]
fn no_space() {
    if !may(&["-m"]) {
        return;
    }
    let world = World::new();
    let source = world.file("source", 5 << 20);
    let mounted = world.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let target = mounted.join("target");
    let small = || within(&["-m"], "mount -t tmpfs -o size=2m none \"$1\"", &mounted);
    let (mut endpoint, coordinates) = world.endpoint(&[], "send", &source);
    let exit = run(client_by(small(), &coordinates, &[], "receive", &target));
    exit.assert(13, &["target.part'", "space", "hint: free some space"]);
    let _ = endpoint.is_running();
    // An endpoint waits for somebody to make room; when nobody does, that is why it fails.
    let options = ["--wait-timeout", "2"];
    let server = world.server_by(small(), &options, "receive", &target);
    let (mut endpoint, coordinates) = announced(server);
    run(client(&coordinates, &[], "send", &source)).assert(13, &["the other side", "no space"]);
    endpoint.wait_for(|line| line.contains("lost the client") && line.contains("space"));
    endpoint
        .wait()
        .assert(13, &["target.part'", "space", "hint: free some space"]);
}

#[test]
fn where_udp_is_dropped_tls_takes_over() {
    if !may(&["-n"]) {
        return;
    }
    // The rule for local addresses is moved behind one that drops UDP.
    let script = "ip link set lo up; ip rule add table local prio 10; \
        ip rule add ipproto udp prio 5 blackhole; ip rule del prio 0; exec sleep 1000";
    let mut holder = clean(Command::new("unshare"));
    holder.args(["-n", "sh", "-ec", &format!("echo begun; {script}")]);
    let mut holder = Process::start(holder);
    holder.wait_for(|line| line == "begun");
    let pid = holder.id().to_string();
    let inside = |program: &str| {
        let mut command = clean(Command::new("nsenter"));
        command.args(["--net", "--target", &pid]).arg(program);
        command
    };
    crate::harness::wait_until("the rules", || {
        let is_ready =
            std::fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n");
        is_ready || !holder.is_running()
    });
    if !holder.is_running() {
        skipped("needs ip of iproute2 with rules by protocol");
        return;
    }
    let world = World::new();
    let source = world.file("source", 3 << 20);
    let server = world.server_by(
        inside(BINARY),
        &["--host", "127.0.0.1", "--public-ips", "127.0.0.1"],
        "send",
        &source,
    );
    let (endpoint, coordinates) = announced(server);
    let options = ["--wait", "1s", "--transport", "quic"];
    let exit = run(client_by(
        inside(BINARY),
        &coordinates,
        &options,
        "receive",
        &world.path("x"),
    ));
    exit.assert(10, &[]);
    let begun = Instant::now();
    let mut client = Process::start(client_by(
        inside(BINARY),
        &coordinates,
        &["--json"],
        "receive",
        &world.path("target"),
    ));
    client.wait_for(|line| line.contains("over tls"));
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    let exit = client.wait();
    exit.assert(0, &[]);
    assert_eq!(exit.message("summary")["transport"], "tls");
    endpoint.wait().assert(0, &[]);
}
