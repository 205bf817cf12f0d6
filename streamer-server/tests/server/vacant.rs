//! A client that says its target is vacant, and finds that it is not any more.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use streamer_core::error::ErrorCode;
use streamer_core::hash::BlockHasher;
use streamer_core::path::RelPath;
use streamer_core::session::ReceiverConfig;
use streamer_core::store::leaving::Leaving;
use streamer_core::store::target::{Prepared, Target, TargetPolicy};
use streamer_core::wire::message::{Entry, EntryKind, Timestamp};

use crate::world::{DEADLINE, World};

/// Longer than what travels before a target is looked at, and than one block.
fn content() -> Vec<u8> {
    (0..5_000_000u32).map(|i| (i % 251) as u8).collect()
}

fn vacant() -> ReceiverConfig {
    ReceiverConfig {
        vacant: true,
        ..ReceiverConfig::default()
    }
}

#[test]
fn a_vacant_target_gets_its_file_however_early_it_comes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, receive_many()).await });
    // A session that does not end has threads that do not either.
    runtime.shutdown_background();
    ended.unwrap();
}

async fn receive_many() {
    // Small ones are there before their target is found.
    let small = std::iter::repeat_n(vec![1; 10], 50);
    for content in small.chain([content(), Vec::new()]) {
        let mut world = World::sending(&content).await;
        let transferred = world.receive(vacant()).await;
        assert_eq!(transferred.conclusion.failures, []);
        assert_eq!(std::fs::read(world.path("target")).unwrap(), content);
        world.assert_served().await;
    }
}

#[tokio::test]
async fn a_file_that_came_there_meanwhile_stays() {
    let mut world = World::sending(&content()).await;
    std::fs::write(world.path("target"), "of somebody else").unwrap();
    let error = world.try_receive(vacant()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TargetExists));
    let there = std::fs::read(world.path("target")).unwrap();
    assert_eq!(there, b"of somebody else");
    // The endpoint is there for the next attempt.
    std::fs::remove_file(world.path("target")).unwrap();
    world.receive(vacant()).await;
    assert_eq!(std::fs::read(world.path("target")).unwrap(), content());
    world.assert_served().await;
}

#[tokio::test]
async fn blocks_that_another_run_received_meanwhile_are_let_pass() {
    let mut world = World::sending(&content()).await;
    let file = File::open(world.path("source")).unwrap();
    let target = Target::new(&world.path("target"), TargetPolicy::default());
    let Ok(Prepared::File(partial, _)) = target.prepare(&offer(&file), &Leaving::default()) else {
        panic!("no partial")
    };
    let first = partial.plan().range(0);
    let bytes = &content()[..first.end as usize];
    let mut hasher = BlockHasher::new(partial.plan(), 0);
    hasher.update(bytes);
    partial.write_all_at(bytes, 0).unwrap();
    partial.prove(0, hasher.finish()).unwrap();
    partial.suspend().unwrap();
    drop((partial, target));

    let transferred = world.receive(vacant()).await;
    assert_eq!(transferred.conclusion.failures, []);
    assert_eq!(std::fs::read(world.path("target")).unwrap(), content());
    world.assert_served().await;
}

/// What the endpoint offers.
fn offer(file: &File) -> Entry {
    let found = file.metadata().unwrap();
    Entry {
        path: RelPath::root(),
        kind: EntryKind::File { size: found.len() },
        mode: 0o600,
        modified: Timestamp {
            seconds: found.mtime(),
            nanos: found.mtime_nsec() as u32,
        },
        has_holes: false,
    }
}
