//! What an operator relies on: how the server stops, and what it says about a configuration.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use streamer_tests::program;
use streamer_tests::service::Service;

const CONFIG: &str = "auth: {authentication: {token_url: 'http://localhost/token'}}\n";

#[test]
fn a_request_that_has_begun_is_answered_before_the_server_stops() {
    let service = Service::start(CONFIG);
    let address = service.url.strip_prefix("http://").unwrap().to_owned();
    let mut client = TcpStream::connect(&address).unwrap();
    let head = "POST /compute/x/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{not ";
    client.write_all(head.as_bytes()).unwrap();
    // The server has read the head once it answers another client.
    let mut other = TcpStream::connect(&address).unwrap();
    other
        .write_all(b"GET /status/liveness/ HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    other.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
    service.terminate();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while TcpStream::connect(&address).is_ok() {
        assert!(std::time::Instant::now() < deadline, "it still accepts");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    client.write_all(b"json").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("JSON decode error"), "{answer}");
    let (code, log) = service.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("stopping: no new requests") && log.contains("stopped"),
        "{log}"
    );
}

#[test]
fn a_wrong_configuration_is_refused_by_the_name_of_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let check = |text: &str, verb: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program::path("firecrest-api"));
        let output = command
            .args([verb, "--config"])
            .arg(&file)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(check(CONFIG, "check-config"), (Some(0), String::new()));
    let system = "clusters:\n- name: c\n  ssh: {host: h, port: 22}\n  service_account: {client_id: a, secret: b}\n  probing: {}\n";
    let with = |scheduler: &str| {
        format!(
            "{CONFIG}ssh_credentials: {{type: SSHStaticKeys, keys: {{}}}}\n{system}  scheduler: {scheduler}\n"
        )
    };
    for (text, key) in [
        ("{}".to_owned(), "configuration: missing field `auth`"),
        (format!("{CONFIG}storage: {{}}\n"), "storage"),
        (
            with("{type: Slurm, version: '24.11'}"),
            "clusters[0].scheduler.type",
        ),
        (
            with("{type: slurm, version: 24.11}"),
            "clusters[0].scheduler.version",
        ),
        (
            with("{type: slurm, version: '24.11', connection_mode: rest}"),
            "clusters[0].scheduler.api_url",
        ),
        (
            with(
                "{type: slurm, version: '24.11', connection_mode: rest, api_url: 'http://x', api_version: 0.0.37}",
            ),
            "clusters[0].scheduler.api_version",
        ),
        (
            with("{type: pbs, version: '1', connection_mode: rest}"),
            "clusters[0].scheduler.connection_mode",
        ),
        (
            CONFIG.replace("token_url:", "public_certs: ['ftp://x'], token_url:"),
            "auth.authentication.public_certs",
        ),
    ] {
        for verb in ["check-config", "serve"] {
            let (code, stderr) = check(&text, verb);
            assert_eq!(code, Some(1), "{stderr}");
            assert!(stderr.contains(key), "no {key} in: {stderr}");
        }
    }
}
