//! An endpoint that has no room for what is offered.

use std::time::Duration;

use streamer_core::ErrorCode;
use streamer_core::net::control::{read_message, write_message};
use streamer_core::net::tcp::{Connector, TlsStream};
use streamer_core::session::hello;
use streamer_core::wire::message::{
    Abort, Decision, Entry, EntryKind, Message, Offer, Role, SessionId, Timestamp,
};
use streamer_server::ServeError;

use crate::world::{DEADLINE, World};

/// More than any disk has.
const HUGE: u64 = 1 << 60;

/// A client of its own that offers a file of so many bytes; what it is told.
async fn offer(world: &World, session: u8, size: u64) -> (TlsStream, Message) {
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let mut control = connector.connect(world.address).await.unwrap();
    let greeting = hello(Role::Sender, SessionId([session; 16]), 0);
    let offer = Offer {
        first: 0,
        entries: vec![Entry {
            path: Default::default(),
            kind: EntryKind::File { size },
            mode: 0o600,
            modified: Timestamp::default(),
            has_holes: false,
        }],
        last: true,
    };
    for message in [Message::Hello(greeting), Message::Offer(offer)] {
        write_message(&mut control, &message).await.unwrap();
    }
    let greeting = read_message(&mut control).await.unwrap();
    assert!(matches!(greeting, Message::Hello(_)), "{greeting:?}");
    let told = read_message(&mut control).await.unwrap();
    (control, told)
}

#[tokio::test]
async fn it_waits_for_somebody_to_make_room() {
    let mut world = World::receiving_anything(DEADLINE).await;
    let code = ErrorCode::NoSpace;
    let (control, told) = offer(&world, 1, HUGE).await;
    assert_eq!(told, Message::Abort(Abort { code }));
    drop(control);
    lost(&mut world).await;
    // What fits is as good as room that was made.
    let (mut control, told) = offer(&world, 2, 5).await;
    let Message::Answer(answer) = told else {
        panic!("{told:?}")
    };
    assert_eq!(answer.verdicts[0].decision, Decision::Send);
    let code = ErrorCode::Interrupted;
    let abort = Message::Abort(Abort { code });
    write_message(&mut control, &abort).await.unwrap();
    lost(&mut world).await;
}

/// Waits until the endpoint has noticed that its client is gone, and waits for it.
async fn lost(world: &mut World) {
    let lost = tokio::time::timeout(DEADLINE, world.lost.recv());
    lost.await.unwrap().expect("it has left");
}

#[tokio::test]
async fn when_nobody_makes_room_that_is_why_it_fails() {
    let world = World::receiving_anything(Duration::from_secs(1)).await;
    let (_control, told) = offer(&world, 1, HUGE).await;
    assert!(matches!(told, Message::Abort(_)), "{told:?}");
    let error = world.left().await;
    let ServeError::Store(error) = error else {
        panic!("{error:?}")
    };
    assert_eq!(error.code, ErrorCode::NoSpace);
}
