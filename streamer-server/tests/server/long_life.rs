//! Endpoints that wait for long, and clients that come and go.

use std::sync::Arc;
use std::time::Duration;

use streamer_core::net::control::{read_message, write_message};
use streamer_core::net::quic::Endpoint;
use streamer_core::net::tcp::Connector;
use streamer_core::session::hello;
use streamer_core::wire::message::{Message, Role, SessionId};
use streamer_core::{ErrorCode, Operation};
use streamer_server::{Config, ServeError, serve};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::world::{World, config};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[tokio::test(start_paused = true)]
async fn a_day_without_a_client() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::write(&source, "bytes").unwrap();
    let config = Config {
        wait_timeout: DAY,
        ..config(Operation::Send, source)
    };
    let (_stop, stopped) = watch::channel(None::<ErrorCode>);
    let begun = Instant::now();
    let ended = serve(config, Arc::default(), |_| (), (), stopped).await;
    assert!(
        matches!(ended, Err(ServeError::NobodyCame(DAY))),
        "{ended:?}"
    );
    let waited = begun.elapsed();
    assert!(
        (DAY..DAY + Duration::from_secs(1)).contains(&waited),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_client_that_comes_in_the_last_hour_of_a_day_is_served() {
    let world = World::waiting(DAY).await;
    tokio::time::pause();
    tokio::time::advance(DAY - Duration::from_secs(60 * 60)).await;
    tokio::time::resume();
    world.assert_serves().await;
}

#[tokio::test]
async fn forty_clients_that_come_and_vanish_at_any_point() {
    let mut world = World::new().await;
    let connector = Connector::new(&world.coordinates.secret).unwrap();
    for number in 0..20 {
        let greeting = |session| Message::Hello(hello(Role::Receiver, SessionId([session; 16]), 0));
        let endpoint = Endpoint::dialer(world.address, &world.coordinates.secret).unwrap();
        let connection = endpoint.connect(world.address).unwrap().await.unwrap();
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        write_message(&mut send, &greeting(2 * number))
            .await
            .unwrap();
        world.connected.recv().await.unwrap();
        // Its greeting, its offer: as far as each gets.
        for _ in 0..number % 3 {
            read_message(&mut receive).await.unwrap();
        }
        drop((send, receive, connection));
        endpoint.close().await;

        let mut stream = connector.connect(world.address).await.unwrap();
        write_message(&mut stream, &greeting(2 * number + 1))
            .await
            .unwrap();
        world.connected.recv().await.unwrap();
        for _ in 0..number % 3 {
            read_message(&mut stream).await.unwrap();
        }
        if number % 2 == 0 {
            // Half a message, then gone.
            stream.write_all(&[0, 0, 0, 9, 1]).await.unwrap();
            stream.flush().await.unwrap();
        }
    }
    world.assert_serves_after(40).await;
}
