//! What happens to requests while the service stops.

use std::fs::File;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use api_server::serve;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::Service;

#[tokio::test]
async fn a_request_under_way_is_answered_while_new_ones_are_refused() {
    let service = Service::new().await;
    let pipe = format!("{}/pipe", service.directory());
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move { stopped.await.unwrap() };
    let server = tokio::spawn(serve::run(listener, service.state.clone(), shutdown));
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /filesystem/here/ops/checksum?path={pipe} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {}\r\n\r\n",
        service.token(json!({}))
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    // Opens when the program of the request does. In a thread that nobody waits for.
    let (opened, open) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || opened.send(File::options().write(true).open(pipe)));
    let soon = Duration::from_secs(4);
    let open = tokio::time::timeout(soon, open).await;
    let mut content = open.unwrap().unwrap().unwrap();
    stop.send(()).unwrap();
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(soon, refused).await.unwrap();
    content.write_all(b"late\n").unwrap();
    drop(content);
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let sum = "f152945b358aa26a9e72e25381deff94e254c547089bd690dccd218e9414d148";
    assert!(answer.contains(sum), "{answer}");
    server.await.unwrap().unwrap();
}
