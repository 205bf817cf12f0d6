//! Clients that vanish after the file has its name, and before they heard of it.

use std::sync::Arc;

use streamer_core::hash::Hash;
use streamer_core::net::control::{read_message, write_message};
use streamer_core::net::dial::{Choice, Dialled, dial};
use streamer_core::net::link::Link;
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::{Connector, TlsStream};
use streamer_core::net::{Progress, Transferred, send};
use streamer_core::session::hello;
use streamer_core::store::source::Source;
use streamer_core::store::walk::Walk;
use streamer_core::wire::message::{
    Abort, Answer, Complete, Decision, Done, Entry, EntryRoot, Finish, Message, Offer, Outcome,
    Role, SessionId, Verdict,
};
use streamer_core::{ErrorCode, Transport};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::{DEADLINE, World};

/// How far a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vanishes {
    BeforeFinish,
    BeforeTheReceipt,
}

#[tokio::test]
async fn the_next_run_of_a_client_that_was_killed_before_the_receipt_gets_it() {
    for vanishes in [Vanishes::BeforeFinish, Vanishes::BeforeTheReceipt] {
        let mut world = World::receiving().await;
        drop(almost_send(&world, vanishes).await);
        let received = world.path("received");
        assert!(received.exists() && world.path("received.part.journal").exists());
        let transferred = send_again(&world, SessionId([8; 16])).await;
        assert_eq!(transferred.root, Some(Hash::of(&[])));
        assert_eq!(world.assert_served().await.transport, Transport::Quic);
        assert!(received.exists() && !world.path("received.part.journal").exists());
    }
}

#[tokio::test]
async fn a_client_that_waited_hears_that_the_transfer_is_over() {
    let mut world = World::receiving().await;
    let mut control = almost_send(&world, Vanishes::BeforeTheReceipt).await;
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let mut others = JoinSet::new();
    for session in [7, 8] {
        let mut other = connector.connect(world.address).await.unwrap();
        others.spawn(async move {
            let greeting = Message::Hello(hello(Role::Sender, SessionId([session; 16]), 0));
            write_message(&mut other, &greeting).await.unwrap();
            let heard = read_message(&mut other).await.unwrap();
            other.shutdown().await.unwrap();
            heard
        });
    }
    // Of two the one that came later waits: whether the first client is there is being asked.
    let mut heard = Vec::new();
    while let Some(message) = others.join_next().await {
        heard.push(message.unwrap());
        if heard.len() == 1 {
            control.shutdown().await.unwrap();
        }
    }
    let codes = [ErrorCode::Busy, ErrorCode::TransferOver];
    let aborts = codes.map(|code| Message::Abort(Abort { code }));
    assert_eq!(heard, aborts);
    assert!(world.assert_served().await.transferred.is_settled);
}

#[tokio::test]
async fn a_transfer_that_is_complete_stays_so_whatever_the_next_client_brings() {
    let mut world = World::receiving().await;
    let tree = world.path("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("file"), "").unwrap();
    let source = Source::open(&tree).unwrap();
    drop(almost_send_all(&world, &source, Vanishes::BeforeTheReceipt).await);
    std::fs::write(tree.join("file"), "of another size").unwrap();
    let sent = send_as(&world, SessionId([8; 16]), source).await;
    assert_eq!(sent.conclusion.failures[0].code, ErrorCode::TargetExists);
    let served = world.assert_served().await.transferred;
    assert_eq!(served.conclusion.receipt.entries, 2);
    assert!(served.conclusion.failures.is_empty());
}

#[tokio::test]
async fn a_receipt_that_nobody_hears_is_success_all_the_same() {
    let mut world = World::receiving().await;
    drop(almost_send(&world, Vanishes::BeforeTheReceipt).await);
    tokio::time::pause();
    let served = world.assert_served().await;
    assert_eq!((served.sessions, served.transferred.is_settled), (1, false));
}

#[tokio::test]
async fn a_client_that_has_everything_and_vanishes_is_waited_for_no_longer_than_for_its_receipt() {
    let mut world = World::sending(b"").await;
    let endpoint = Endpoint::dialer(world.address, &world.coordinates.secret).unwrap();
    let connection = endpoint.connect(world.address).unwrap().await.unwrap();
    let (mut say, mut hear) = connection.open_bi().await.unwrap();
    let (send, entry) = (Decision::Send, 0);
    let outcome = Outcome {
        entry,
        failure: None,
    };
    let exchange = [
        (
            Message::Hello(hello(Role::Receiver, SessionId([9; 16]), 0)),
            ["Hello", "Offer"],
        ),
        (
            Message::Answer(Answer {
                verdicts: vec![Verdict {
                    entry,
                    decision: send,
                }],
            }),
            ["Complete", "Finish"],
        ),
    ];
    for (message, answers) in exchange {
        write_message(&mut say, &message).await.unwrap();
        for answer in answers {
            let heard = timeout(DEADLINE, read_message(&mut hear)).await.unwrap();
            assert_eq!(heard.unwrap().name(), answer);
        }
    }
    let done = Message::Done(Done {
        outcomes: vec![outcome],
    });
    write_message(&mut say, &done).await.unwrap();
    say.finish().unwrap();
    say.stopped().await.unwrap();
    endpoint.close().await;
    timeout(DEADLINE, world.lost.recv()).await.unwrap().unwrap();
    tokio::time::pause();
    let served = world.assert_served().await;
    assert_eq!((served.sessions, served.transferred.is_settled), (1, false));
    assert!(served.transferred.conclusion.failures.is_empty());
}

/// Sends an empty file as far as that, and reads on until the endpoint has done its part.
async fn almost_send(world: &World, vanishes: Vanishes) -> TlsStream {
    almost_send_all(world, &source(world), vanishes).await
}

/// The same with whatever holds nothing but empty files.
async fn almost_send_all(world: &World, source: &Source, vanishes: Vanishes) -> TlsStream {
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let mut control = connector.connect(world.address).await.unwrap();
    let entries: Vec<Entry> = match source {
        Source::File(file) => vec![file.entry()],
        Source::Tree(tree) => Walk::new(Arc::clone(tree), None).unwrap().collect(),
    };
    let count = u32::try_from(entries.len()).unwrap();
    let files = (0..)
        .zip(&entries)
        .filter(|(_, entry)| entry.plan().is_some());
    let roots = files.map(|(entry, _)| EntryRoot {
        entry,
        root: Hash::of(&[]),
    });
    let roots = roots.collect();
    let exchange = [
        (
            Message::Hello(hello(Role::Sender, SessionId([9; 16]), 0)),
            "Hello",
        ),
        (
            Message::Offer(Offer {
                first: 0,
                entries,
                last: true,
            }),
            "Answer",
        ),
        (Message::Complete(Complete { roots }), "Done"),
    ];
    for (message, answer) in exchange {
        write_message(&mut control, &message).await.unwrap();
        assert_eq!(read_message(&mut control).await.unwrap().name(), answer);
    }
    if vanishes == Vanishes::BeforeTheReceipt {
        let finish = Message::Finish(Finish { entries: count });
        write_message(&mut control, &finish).await.unwrap();
        // Its half of the connection ends without a word: whether the receipt came is not said.
        assert_eq!(read_message(&mut control).await.unwrap().name(), "Receipt");
    }
    control.flush().await.unwrap();
    control
}

fn source(world: &World) -> Source {
    let path = world.path("empty");
    if !path.exists() {
        std::fs::write(&path, "").unwrap();
    }
    Source::open(&path).unwrap()
}

async fn send_again(world: &World, session: SessionId) -> Transferred {
    send_as(world, session, source(world)).await
}

async fn send_as(world: &World, session: SessionId, source: Source) -> Transferred {
    let dialled = dial(&world.coordinates, Choice::Quic, DEADLINE).await;
    let Dialled::Quic {
        endpoint,
        connection,
    } = dialled.unwrap()
    else {
        panic!("not over QUIC")
    };
    let control = connection.open_bi().await.unwrap();
    let (link, _lanes) = Link::quic(connection, control, session, None);
    let progress = Arc::<Progress>::default();
    let never = std::future::pending();
    let sent = send::send(link, source, Default::default(), progress, never).await;
    endpoint.close().await;
    sent.unwrap()
}
