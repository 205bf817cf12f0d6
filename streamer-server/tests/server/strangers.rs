//! Who does not hold the secret gets no further, and is in nobody's way.

use std::time::Duration;

use streamer_core::TransferSecret;
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::Connector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::world::{DEADLINE, World};

fn wrong_secret() -> TransferSecret {
    TransferSecret::generate().unwrap()
}

#[tokio::test]
async fn the_wrong_key_over_quic() {
    let world = World::new().await;
    let endpoint = Endpoint::dialer(world.address, &wrong_secret()).unwrap();
    let connecting = endpoint.connect(world.address).unwrap();
    let error = timeout(DEADLINE, connecting).await.unwrap().unwrap_err();
    assert!(
        matches!(error, quinn::ConnectionError::TransportError(_)),
        "{error:?}"
    );
    world.assert_serves().await;
}

#[tokio::test]
async fn the_wrong_key_over_tls() {
    let world = World::new().await;
    let connector = Connector::new(&wrong_secret()).unwrap();
    let error = timeout(DEADLINE, connector.connect(world.address))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error:?}");
    world.assert_serves().await;
}

#[tokio::test]
async fn datagrams_of_garbage() {
    let world = World::new().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in 0..1400_usize {
        let garbage: Vec<u8> = (0..length).map(|i| (i * 31 + length * 7) as u8).collect();
        // The socket's buffer may be full: then it is lost, as on any network.
        let _ = socket.send_to(&garbage, world.address).await;
    }
    world.assert_serves().await;
}

#[tokio::test]
async fn connections_that_say_nothing() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    world.assert_serves().await;
}

#[tokio::test]
async fn a_connection_that_speaks_another_protocol() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // An alert of TLS, then the end; a reset is an end too.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(answer.len() < 100, "{answer:?}");
    world.assert_serves().await;
}

#[tokio::test]
async fn a_client_that_stops_within_its_first_message() {
    let world = World::new().await;
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let mut stream = connector.connect(world.address).await.unwrap();
    // Announces more than it sends, and stays.
    stream.write_all(&[0, 0, 0, 100, 1, 2, 3]).await.unwrap();
    stream.flush().await.unwrap();
    let endpoint = Endpoint::dialer(world.address, &world.coordinates.secret).unwrap();
    let connection = endpoint.connect(world.address).unwrap().await.unwrap();
    let (mut control, _answers) = connection.open_bi().await.unwrap();
    control.write_all(&[0, 0, 0, 100, 1]).await.unwrap();
    world.assert_serves().await;
}

#[tokio::test]
async fn as_many_as_may_shake_hands_and_then_say_nothing() {
    let world = World::new().await;
    let mut silent = Vec::new();
    let endpoint = Endpoint::dialer(world.address, &world.coordinates.secret).unwrap();
    let mut speechless = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
        // They know the secret even; those beyond the bound are refused.
        if let Ok(connection) = endpoint.connect(world.address).unwrap().await {
            speechless.push(connection);
        }
    }
    assert!(speechless.len() > 16, "{}", speechless.len());
    let begun = std::time::Instant::now();
    world.assert_serves().await;
    // Not only once the handshakes of the others have timed out.
    assert!(begun.elapsed() < Duration::from_secs(7), "{begun:?}");
}

/// A client from elsewhere gets in at once, and not when one of them happens to have made room.
#[tokio::test]
async fn one_address_that_connects_without_end() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(world.address).await.unwrap());
    }
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    let connected = timeout(DEADLINE, connector.connect(world.address)).await;
    connected.unwrap().unwrap();
    drop(silent);
    world.assert_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once() {
    let world = World::new().await;
    let address = world.address;
    let mut strangers = JoinSet::new();
    let quic = Endpoint::dialer(address, &wrong_secret()).unwrap();
    let tls = Connector::new(&wrong_secret()).unwrap();
    for _ in 0..67 {
        let (quic, tls) = (quic.clone(), tls.clone());
        strangers.spawn(async move { quic.connect(address).unwrap().await.is_ok() });
        strangers.spawn(async move { tls.connect(address).await.is_ok() });
        strangers.spawn(async move {
            let Ok(mut stream) = TcpStream::connect(address).await else {
                return false;
            };
            let _ = timeout(Duration::from_secs(1), stream.read_u8()).await;
            false
        });
    }
    // In the middle of them.
    world.assert_serves().await;
    while let Some(stranger) = strangers.join_next().await {
        assert!(!stranger.unwrap(), "a stranger got in");
    }
}
