//! An endpoint that waits for a day costs its node nothing.

use std::time::Duration;

use crate::harness::{Process, World};

/// How often the threads of a process were given a processor.
fn turns(process: &Process) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let of_task = |task: std::path::PathBuf| -> u64 {
        let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    };
    tasks.map(|task| of_task(task.unwrap().path())).sum()
}

#[test]
fn an_endpoint_that_waits_sleeps() {
    let world = World::new();
    let source = world.file("source", 1);
    let (endpoint, _) = world.endpoint(&["--wait-timeout", "86400"], "send", &source);
    let before = turns(&endpoint);
    // The time itself is what is looked at.
    std::thread::sleep(Duration::from_secs(2));
    let after = turns(&endpoint);
    assert!(before > 0 && after - before < 20, "{before} then {after}");
}
