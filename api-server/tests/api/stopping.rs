//! What happens to requests while the service stops.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use api_server::serve;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::Service;

/// A pipe in the directory of the system.
fn pipe(service: &Service) -> String {
    let pipe = format!("{}/pipe", service.directory());
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    pipe
}

/// Asks for the sum of a file, which takes until the other end of the pipe is closed.
async fn ask(service: &Service, address: SocketAddr, pipe: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /filesystem/here/ops/checksum?path={pipe} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {}\r\n\r\n",
        service.token(json!({}))
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

/// The end of the pipe to write to: there when the program of a request has opened the other.
async fn opened(pipe: String) -> File {
    let (opened, open) = tokio::sync::oneshot::channel();
    // In a thread that nobody waits for.
    std::thread::spawn(move || opened.send(File::options().write(true).open(pipe)));
    let open = tokio::time::timeout(SOON, open).await;
    open.unwrap().unwrap().unwrap()
}

const SOON: Duration = Duration::from_secs(4);

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_all_the_same() {
    let service = Service::new().await;
    let pipe = pipe(&service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { stopped.await.unwrap() };
    let drain = Duration::from_millis(50);
    let state = service.state.clone();
    let server = tokio::spawn(serve::run_draining(listener, state, shutdown, drain));
    let mut connection = ask(&service, address, &pipe).await;
    let content = opened(pipe).await;
    stop.send(()).unwrap();
    let mut answer = String::new();
    let read = connection.read_to_string(&mut answer);
    // Long before the command's own time is over, after 5 s.
    tokio::time::timeout(SOON, read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("f7t-appversion: "), "{answer}");
    assert!(answer.contains("The service is stopping"), "{answer}");
    tokio::time::timeout(SOON, server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    drop(content);
}

#[tokio::test]
async fn a_request_under_way_is_answered_while_new_ones_are_refused() {
    let service = Service::new().await;
    let pipe = pipe(&service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { stopped.await.unwrap() };
    let server = tokio::spawn(serve::run(listener, service.state.clone(), shutdown));
    let mut connection = ask(&service, address, &pipe).await;
    let mut content = opened(pipe).await;
    stop.send(()).unwrap();
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, refused).await.unwrap();
    content.write_all(b"late\n").unwrap();
    drop(content);
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let sum = "f152945b358aa26a9e72e25381deff94e254c547089bd690dccd218e9414d148";
    assert!(answer.contains(sum), "{answer}");
    server.await.unwrap().unwrap();
}
