//! One request, one answer, over a TCP connection of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body; null when it is not JSON.
    pub json: Value,
    /// The whole answer as received.
    pub text: String,
}

/// Sends a request to `http://host:port` with these header lines, and reads the answer.
///
/// # Panics
/// When there is no answer, or none that is HTTP.
pub fn request(base: &str, method: &str, path: &str, headers: &[String], body: &str) -> Answer {
    let address = base.strip_prefix("http://").expect("a plain HTTP URL");
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .expect("a timeout can be set");
    // HTTP/1.0: the answer ends with the connection, never in chunks.
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for header in headers {
        text.push_str(&format!("{header}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream
        .write_all(text.as_bytes())
        .expect("the request can be sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer in time");
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        status: status.expect("a status line"),
        json: serde_json::from_str(body).unwrap_or_default(),
        text,
    }
}

/// More than any request of these tests takes on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
