//! Memory does not grow with the file.

use crate::harness::{Process, World, client, wait_until};

const SIZE: u64 = 2 << 30;
const MOST_KIB: u64 = 64 << 10;

/// Peak resident memory; `None` once the process has left.
fn peak_kib(process: &Process) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn two_gib_each_way_within_64_mib() {
    for (here, there) in [("receive", "send"), ("send", "receive")] {
        let world = World::new();
        let source = world.sparse("source", SIZE);
        let target = world.path("target");
        let (mine, theirs) = if here == "send" {
            (&source, &target)
        } else {
            (&target, &source)
        };
        let (mut endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let mut client = Process::start(client(&coordinates, &["--quiet"], here, mine));
        let mut peaks = [0, 0];
        wait_until("the end of both", || {
            for (peak, process) in peaks.iter_mut().zip([&client, &endpoint]) {
                // The high-water mark only rises: the last look counts.
                *peak = peak_kib(process).unwrap_or(0).max(*peak);
            }
            !client.is_running() && !endpoint.is_running()
        });
        client.wait().assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert_eq!(target.metadata().unwrap().len(), SIZE);
        for peak in peaks {
            assert!((1 << 10..MOST_KIB).contains(&peak), "{here}: {peaks:?} KiB");
        }
    }
}
