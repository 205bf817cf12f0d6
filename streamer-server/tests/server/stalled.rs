//! Clients that stay connected and do nothing.

use std::time::Duration;

use streamer_core::blocks::BlockPlan;
use streamer_core::hash::{BlockHasher, Hash};
use streamer_core::limits;
use streamer_core::net::control::{ControlError, read_message, write_message};
use streamer_core::net::tcp::{Connector, TlsStream};
use streamer_core::session::hello;
use streamer_core::wire::message::{
    Complete, Decision, Entry, EntryKind, EntryRoot, Message, Offer, Role, SessionId, Timestamp,
};
use streamer_core::wire::record::RecordHeader;
use tokio::io::AsyncWriteExt as _;

use crate::world::World;

const SESSION: SessionId = SessionId([9; 16]);
const SIZE: u64 = 2 * limits::BLOCK_MIN_BYTES;

#[tokio::test]
async fn a_sender_that_keeps_a_block_to_itself_loses_its_session_and_the_rest_is_kept() {
    let world = World::receiving().await;
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let mut control = connector.connect(world.address).await.unwrap();
    offer(&mut control).await;
    let mut lane = connector.connect(world.address).await.unwrap();
    let greeting = Message::Hello(hello(Role::Sender, SESSION, 1));
    write_message(&mut lane, &greeting).await.unwrap();
    send_first_block(&mut lane).await;
    let root = EntryRoot {
        entry: 0,
        root: Hash([1; 32]),
    };
    let complete = Complete { roots: vec![root] };
    write_message(&mut control, &Message::Complete(complete))
        .await
        .unwrap();

    let told = tokio::spawn(async move { read_message(&mut control).await });
    tokio::time::pause();
    // The connection is as alive as can be: only its minutes pass.
    while !told.is_finished() {
        tokio::time::advance(Duration::from_secs(1)).await;
        let real = || std::thread::sleep(Duration::from_millis(1));
        tokio::task::spawn_blocking(real).await.unwrap();
    }
    // Another session may bring it.
    let told = told.await.unwrap();
    assert!(matches!(told, Err(ControlError::Ended)), "{told:?}");
    assert!(!world.path("received").exists());
    let journal = world.path("received.part.journal");
    assert!(journal.metadata().unwrap().len() > 40, "no block in it");
    drop(lane);
}

/// Up to the verdict.
async fn offer(control: &mut TlsStream) {
    let greeting = Message::Hello(hello(Role::Sender, SESSION, 0));
    write_message(control, &greeting).await.unwrap();
    let answer = read_message(control).await.unwrap();
    assert!(matches!(answer, Message::Hello(_)), "{answer:?}");
    let entries = vec![Entry {
        path: Default::default(),
        kind: EntryKind::File { size: SIZE },
        mode: 0o600,
        modified: Timestamp::default(),
        has_holes: false,
    }];
    let offer = Offer {
        first: 0,
        entries,
        last: true,
    };
    write_message(control, &Message::Offer(offer))
        .await
        .unwrap();
    let Message::Answer(answer) = read_message(control).await.unwrap() else {
        panic!("no answer")
    };
    assert_eq!(answer.verdicts[0].decision, Decision::Send);
}

async fn send_first_block(lane: &mut TlsStream) {
    let plan = BlockPlan::new(SIZE).unwrap();
    let bytes = vec![5; plan.block_bytes() as usize];
    let mut hasher = BlockHasher::new(plan, 0);
    hasher.update(&bytes);
    let header = RecordHeader {
        entry: 0,
        offset: 0,
        length: plan.block_bytes(),
        is_hole: false,
    };
    lane.write_all(&header.encode()).await.unwrap();
    lane.write_all(&bytes).await.unwrap();
    lane.write_all(&hasher.finish().0).await.unwrap();
    lane.flush().await.unwrap();
}
