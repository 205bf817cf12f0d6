//! The two key services of FirecREST, as small HTTP servers that sign with the cluster's
//! authority.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use serde_json::{Value, json};

/// Which service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Issues a key pair with a certificate.
    Service,
    /// Signs a key.
    Authority,
}

impl Kind {
    /// Its `type` in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "SSHService",
            Self::Authority => "SSHCA",
        }
    }
}

/// A service that answers one request.
#[derive(Debug)]
pub struct KeyService {
    /// Its base URL.
    pub url: String,
    requests: mpsc::Receiver<String>,
}

impl KeyService {
    /// Starts it, for keys of `user`; `state` is the directory of the cluster.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(kind: Kind, state: &Path, user: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, requests) = mpsc::channel();
        let authority = state.join("keys/user-ca");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a caller");
            let request = answer(kind, stream, &authority, user);
            // The test may have ended.
            let _ = sender.send(request);
        });
        Self { url, requests }
    }

    /// The request that it was sent.
    ///
    /// # Panics
    /// When there was none.
    pub fn request(&self) -> String {
        self.requests.recv().expect("a request")
    }
}

fn answer(kind: Kind, mut stream: TcpStream, authority: &Path, user: &str) -> String {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request");
        let lower = line.to_ascii_lowercase();
        if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().expect("a length");
        }
        head.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    let body = String::from_utf8(body).expect("text");
    let asked: Value = serde_json::from_str(&body).expect("JSON");
    let directory = tempfile::tempdir().expect("a directory");
    let (status, text) = match kind {
        Kind::Service => {
            assert_eq!(asked, json!({"duration": "1min", "username": user}));
            let key = directory.path().join("key");
            keygen(&["-q", "-t", "ed25519", "-N", "", "-f"], &key);
            let certificate = sign(authority, user, &key.with_extension("pub"));
            let private = std::fs::read_to_string(&key).expect("a key");
            let keys =
                json!({"sshKey": {"privateKey": private.trim_end(), "publicKey": certificate}});
            ("201 Created", keys.to_string())
        }
        Kind::Authority => {
            let public = directory.path().join("key.pub");
            let text = asked["PublicKey"].as_str().expect("a key");
            std::fs::write(&public, text).expect("a file");
            ("200 OK", sign(authority, user, &public))
        }
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream
        .write_all(answer.as_bytes())
        .expect("the caller reads");
    format!("{head}{body}")
}

/// The certificate of a public key.
fn sign(authority: &Path, user: &str, public: &Path) -> String {
    let authority = authority.to_str().expect("a path of text");
    let arguments = [
        "-q", "-s", authority, "-I", user, "-n", user, "-V", "-1m:+5m",
    ];
    keygen(&arguments, public);
    let name = public
        .to_str()
        .expect("a path of text")
        .replace(".pub", "-cert.pub");
    std::fs::read_to_string(PathBuf::from(name)).expect("a certificate")
}

fn keygen(arguments: &[&str], file: &Path) {
    let status = Command::new("ssh-keygen")
        .args(arguments)
        .arg(file)
        .status();
    assert!(status.expect("ssh-keygen").success());
}
