//! Memory does not grow with the file.

use crate::harness::{Process, World, client, wait_until};

/// For one file of any size.
pub(crate) const MOST_KIB: u64 = 64 << 10;

/// Peak resident memory of a process; `None` once it has left.
pub(crate) fn peak_kib(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn two_gib_each_way_within_64_mib() {
    each_way(2 << 30, &[], MOST_KIB);
}

#[test]
fn over_quic_it_is_the_same_and_eight_connections_take_no_more_than_twice_as_much() {
    each_way(512 << 20, &["--transport", "quic"], MOST_KIB);
    each_way(
        512 << 20,
        &["--transport", "quic", "--connections", "8"],
        2 * MOST_KIB,
    );
}

fn each_way(size: u64, options: &[&str], most: u64) {
    for (here, there) in [("receive", "send"), ("send", "receive")] {
        let world = World::new();
        let source = world.sparse("source", size);
        let target = world.path("target");
        let (mine, theirs) = if here == "send" {
            (&source, &target)
        } else {
            (&target, &source)
        };
        let (mut endpoint, coordinates) = world.endpoint(&[], there, theirs);
        let options = [options, &["--quiet"]].concat();
        let mut client = Process::start(client(&coordinates, &options, here, mine));
        let mut peaks = [0, 0];
        wait_until("the end of both", || {
            for (peak, process) in peaks.iter_mut().zip([&client, &endpoint]) {
                // The high-water mark only rises: the last look counts.
                *peak = peak_kib(process.id()).unwrap_or(0).max(*peak);
            }
            !client.is_running() && !endpoint.is_running()
        });
        client.wait().assert(0, &[]);
        endpoint.wait().assert(0, &[]);
        assert_eq!(target.metadata().unwrap().len(), size);
        for peak in peaks {
            assert!((1 << 10..most).contains(&peak), "{here}: {peaks:?} KiB");
        }
    }
}
