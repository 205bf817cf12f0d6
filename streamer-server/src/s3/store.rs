//! A store for tests: answers each request as it is told.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::PresignedUrl;

/// The URL below which `answer` answers: a method and path become status, headers and body.
pub(super) async fn start(
    answer: impl Fn(&str) -> (u16, String, String) + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            serve(socket, &answer).await;
        }
    });
    url
}

/// One request, so that the next comes over a connection of its own.
async fn serve(mut socket: TcpStream, answer: impl Fn(&str) -> (u16, String, String)) {
    let mut bytes = Vec::new();
    let request = loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_lowercase();
            let length = length
                .split_once("content-length: ")
                .map_or("0", |(_, l)| l);
            let length = length.lines().next().unwrap().parse().unwrap();
            if body.len() >= length {
                break head.split(" HTTP/").next().unwrap().to_owned();
            }
        }
        if socket.read_buf(&mut bytes).await.unwrap() == 0 {
            return;
        }
    };
    let (status, headers, body) = answer(&request);
    // That of a HEAD is the length of the object.
    let length = match headers.contains("content-length") {
        true => String::new(),
        false => format!("content-length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\n{length}{headers}\r\n");
    let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
}

pub(super) fn at(url: &str, path: &str) -> PresignedUrl {
    format!("{url}/{path}").into()
}
