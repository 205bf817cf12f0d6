//! Login nodes and key services that give no session: what clients are told, and by which status.
//! Sessions on a real OpenSSH are in tests/it/login_node.rs.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};

use crate::support::Service;

/// Systems of these names, whose login nodes are at these ports of this machine.
fn config(directory: &str, credentials: &str, systems: &[(&str, u16)]) -> String {
    let systems = systems.iter().map(|(name, port)| {
        format!(
            r#"
- name: {name}
  ssh: {{host: 127.0.0.1, port: {port}, timeout: {{connection: 1}}}}
  scheduler: {{type: slurm, version: "24.11.5"}}
  service_account: {{client_id: x, secret: y}}
  probing: {{}}
  file_systems: [{{path: /home, data_type: users, default_work_dir: true}}]"#
        )
    });
    format!(
        r#"
auth:
  authentication:
    token_url: http://localhost/token
    public_certs: ["file://{directory}/jwks.json"]
ssh_credentials: {credentials}
clusters:{}
"#,
        systems.collect::<String>()
    )
}

/// A port where whoever comes is told nothing, and left waiting.
async fn silent_port() -> u16 {
    let (listener, port) = listener().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await.unwrap());
        }
    });
    port
}

/// A port where a web server sends everybody away.
async fn web_port() -> u16 {
    let (listener, port) = listener().await;
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let words = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
            connection.write_all(words).await.unwrap();
        }
    });
    port
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that refuses, and that nobody else gets while the socket is there.
fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

async fn told(service: &Service, system: &str) -> (StatusCode, String) {
    let answer = service
        .get(&format!("/filesystem/{system}/ops/ls?path=/home"))
        .await;
    let message = answer.json["message"].as_str().unwrap().to_owned();
    (answer.status, message)
}

#[tokio::test]
async fn why_there_is_no_session_is_told_by_the_status() {
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let key = key.to_openssh(LineEnding::LF).unwrap();
    let (_reserved, closed) = closed_port();
    let systems = [
        ("closed", closed),
        ("silent", silent_port().await),
        ("web", web_port().await),
    ];
    let service = Service::with_config(|directory| {
        let file = format!("{directory}/key");
        std::fs::write(&file, key.as_bytes()).unwrap();
        let credentials = format!(
            "{{type: SSHStaticKeys, keys: {{fireuser: {{private_key: 'secret_file:{file}'}}}}}}"
        );
        config(directory, &credentials, &systems)
    })
    .await;
    let no_session = "Unable to establish SSH connection.".to_owned();
    let (closed, silent) = tokio::join!(told(&service, "closed"), told(&service, "silent"));
    assert_eq!(
        closed,
        (StatusCode::INTERNAL_SERVER_ERROR, no_session.clone())
    );
    let late = "SSH connection timeout limit exceeded.".to_owned();
    assert_eq!(silent, (StatusCode::REQUEST_TIMEOUT, late));
    let web = told(&service, "web").await;
    assert_eq!(web, (StatusCode::FAILED_DEPENDENCY, no_session));
}

#[tokio::test]
async fn what_a_key_service_refuses_is_told() {
    let (listener, port) = listener().await;
    let address = format!("127.0.0.1:{port}");
    let refuses = async || (StatusCode::FORBIDDEN, "not you");
    let router = Router::new()
        .route("/api/v1/ssh-keys", post(refuses))
        .route("/sign", post(async || "no certificate"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (_reserved, port) = closed_port();
    for (kind, words) in [
        (
            "SSHService",
            "Unexpected SSHService response. status:403 message:not you",
        ),
        (
            "SSHCA",
            "The SSH credentials of user:fireuser cannot be used",
        ),
    ] {
        let credentials = format!("{{type: {kind}, url: 'http://{address}'}}");
        let configured = |directory: &str| config(directory, &credentials, &[("c", port)]);
        let service = Service::with_config(configured).await;
        let expected = (StatusCode::INTERNAL_SERVER_ERROR, words.to_owned());
        assert_eq!(told(&service, "c").await, expected);
    }
}

#[tokio::test]
async fn a_key_service_that_does_not_answer_is_a_timeout() {
    let credentials = format!(
        "{{type: SSHCA, url: 'http://127.0.0.1:{}'}}",
        silent_port().await
    );
    let (_reserved, port) = closed_port();
    let configured = |directory: &str| config(directory, &credentials, &[("c", port)]);
    let service = Service::with_config(configured).await;
    let late = "SSH keys generation timeout limit exceeded.".to_owned();
    assert_eq!(
        told(&service, "c").await,
        (StatusCode::REQUEST_TIMEOUT, late)
    );
}
