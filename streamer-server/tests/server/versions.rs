//! Clients that hold the secret and are of another version.

use streamer_core::ErrorCode;
use streamer_core::net::control::read_message;
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::Connector;
use streamer_core::session::hello;
use streamer_core::wire::codec::encode;
use streamer_core::wire::message::{Abort, Finish, Message, Role, SessionId};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::world::{DEADLINE, World};

/// First messages that are refused, and why.
fn refused() -> [(Vec<u8>, ErrorCode); 3] {
    let mut newer = greeting();
    newer[5] += 1;
    let mut unknown = greeting();
    // A role that there is not.
    unknown[6] = 9;
    let other = encode(&Message::Finish(Finish { entries: 0 })).unwrap();
    [
        (newer, ErrorCode::UnsupportedVersion),
        (unknown, ErrorCode::ProtocolViolation),
        (other, ErrorCode::ProtocolViolation),
    ]
}

fn greeting() -> Vec<u8> {
    let greeting = hello(Role::Receiver, SessionId([9; 16]), 0);
    encode(&Message::Hello(greeting)).unwrap()
}

#[tokio::test]
async fn whoever_is_not_understood_over_tls_is_told() {
    let world = World::new().await;
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    for (greeting, code) in refused() {
        let mut stream = connector.connect(world.address).await.unwrap();
        stream.write_all(&greeting).await.unwrap();
        // As a client that does not wait for the answer: what is not read must not undo it.
        stream.write_all(&[7; 20_000]).await.unwrap();
        stream.flush().await.unwrap();
        let answer = timeout(DEADLINE, read_message(&mut stream)).await.unwrap();
        assert_eq!(answer.unwrap(), Message::Abort(Abort { code }));
    }
    world.assert_serves().await;
}

#[tokio::test]
async fn whoever_is_not_understood_over_quic_is_told() {
    let world = World::new().await;
    for (greeting, code) in refused() {
        let endpoint = Endpoint::dialer(world.address, &world.coordinates.secret).unwrap();
        let connection = endpoint.connect(world.address).unwrap().await.unwrap();
        let (mut control, _answers) = connection.open_bi().await.unwrap();
        control.write_all(&greeting).await.unwrap();
        let ended = timeout(DEADLINE, connection.closed()).await.unwrap();
        let quinn::ConnectionError::ApplicationClosed(close) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(close.error_code.into_inner(), u64::from(code.number()));
    }
    world.assert_serves().await;
}

#[tokio::test]
async fn a_greeting_with_a_field_that_is_not_known_is_answered() {
    let world = World::new().await;
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let mut stream = connector.connect(world.address).await.unwrap();
    let mut greeting = greeting();
    greeting[3] += 1;
    greeting.push(1);
    stream.write_all(&greeting).await.unwrap();
    stream.flush().await.unwrap();
    let answer = timeout(DEADLINE, read_message(&mut stream)).await.unwrap();
    assert!(matches!(answer, Ok(Message::Hello(_))), "{answer:?}");
}
