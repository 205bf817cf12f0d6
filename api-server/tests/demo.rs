//! The binary itself: the demo as a user starts it, and the commands that need no service.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firecrest-api"));
    command
        .env_remove("YAML_CONFIG_FILE")
        .env_remove("INPUT_YAML_CONFIG_FILE");
    command.env("RUST_LOG", "warn");
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_demo_prints_commands_that_work_and_stops_on_sigterm() {
    // Any program will do: nothing is transferred here.
    let directory = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["demo", "--port", "0", "--streamer", "/bin/true", "--dir"]);
    command.arg(directory.path()).stdout(Stdio::piped());
    let mut demo = Killed(command.spawn().unwrap());
    let mut output = BufReader::new(demo.0.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("Stop with") {
        assert!(output.read_line(&mut text).unwrap() > 0, "{text}");
    }
    assert!(text.contains("For development only"));
    // The first printed step, as a user pastes it.
    let step = text.split("1. Get a token:").nth(1).unwrap();
    let step = step.split("2. Request").next().unwrap();
    let token = Command::new("sh")
        .args(["-c", &format!("{step}\nprintf %s \"$TOKEN\"")])
        .output();
    let token = String::from_utf8(token.unwrap().stdout).unwrap();
    if Command::new("curl").arg("--version").output().is_ok() {
        assert_eq!(token.split('.').count(), 3, "no token: {token:?}");
    } else {
        eprintln!("skipped: curl is absent, the printed command was not tried");
    }
    let pid = i32::try_from(demo.0.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(demo.0.wait().unwrap().success());
}

/// Jobs would have them, with the rights of whoever opened them.
#[test]
fn files_that_were_left_open_are_not_there_for_jobs() {
    let directory = tempfile::tempdir().unwrap();
    let jwks = directory.path().join("jwks.json");
    let config = directory.path().join("config.yaml");
    std::fs::write(&jwks, r#"{"keys": []}"#).unwrap();
    let yaml = format!(
        "auth: {{authentication: {{token_url: 'http://x', public_certs: ['file://{}']}}}}\n",
        jwks.display()
    );
    std::fs::write(&config, yaml).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // The configuration is one of them, as with `<(…)`.
    let script = r#"exec 9>&1 >/dev/null 8<"$1"; exec "$2" serve --config /dev/fd/8 --port 0"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&config);
    command.arg(env!("CARGO_BIN_EXE_firecrest-api"));
    command.env("RUST_LOG", "info").env("NO_COLOR", "1");
    command.stdout(writer).stderr(Stdio::piped());
    let mut service = Killed(command.spawn().unwrap());
    drop(command);
    let mut log = BufReader::new(service.0.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("listening") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK).unwrap();
    // The end of it, else that it is still open.
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

/// A thread that opens it has no end, as one that reads from a file system that hangs.
#[test]
fn keys_that_cannot_be_read_do_not_keep_the_service_from_ending() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("jwks.json");
    let config = directory.path().join("config.yaml");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let yaml = format!(
        "auth: {{authentication: {{token_url: 'http://x', public_certs: ['file://{}']}}}}\n",
        pipe.display()
    );
    std::fs::write(&config, yaml).unwrap();
    let mut command = program();
    command
        .args(["serve", "--port", "0", "--config"])
        .arg(&config);
    command.env("RUST_LOG", "info").env("NO_COLOR", "1");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut service = Killed(command.spawn().unwrap());
    let mut log = BufReader::new(service.0.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("listening") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    assert!(text.contains("could not be fetched"), "{text}");
    let pid = i32::try_from(service.0.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let status = loop {
        if let Some(status) = service.0.try_wait().unwrap() {
            break status;
        }
        assert!(std::time::Instant::now() < deadline, "it does not end");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    assert!(status.success());
}

#[test]
fn check_config_names_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    let check = |yaml: &str| {
        std::fs::write(&file, yaml).unwrap();
        program()
            .args(["check-config", "--config"])
            .arg(&file)
            .output()
            .unwrap()
    };
    let good = check("auth: {authentication: {token_url: 'http://x'}}\n");
    assert!(good.status.success());
    assert_eq!(good.stdout, b"The configuration is valid: 0 system(s).\n");
    let doubtful = check(
        "auth: {authentication: {token_url: 'http://x'}}\nssh_credentials: {type: SSHStaticKeys, keys: {}}\n\
         clusters:\n- {name: c, ssh: {host: h, port: 22}, probing: {}, \
         service_account: {client_id: a, secret: b}, scheduler: {type: slurm, version: '24.11'}, \
         data_operation: {data_transfer: {service_type: streamer, public_ips: [h]}}}\n",
    );
    assert!(doubtful.status.success());
    let text = String::from_utf8(doubtful.stderr).unwrap();
    let warning = "warning: clusters[0].data_operation.data_transfer.host is absent";
    assert!(
        text.starts_with(warning) && text.lines().count() == 1,
        "{text}"
    );
    let bad = check("auth: {authentication: {token_url: 5}}\n");
    assert_eq!(bad.status.code(), Some(1));
    let text = String::from_utf8(bad.stderr).unwrap();
    assert!(
        text.contains("auth.authentication.token_url: invalid type: integer, expected a string"),
        "{text}"
    );
}

#[test]
fn a_file_of_variables_that_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(
        at("config.yaml"),
        "auth: {authentication: {token_url: http://localhost/token}}\n",
    )
    .unwrap();
    let check = || {
        let mut command = program();
        command.args(["check-config", "--config", "config.yaml"]);
        command.current_dir(directory.path());
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    };
    assert_eq!(check(), (Some(0), String::new()));
    std::fs::write(at(".env"), "APP_DEBUG=1\n").unwrap();
    assert_eq!(check(), (Some(0), String::new()));
    let refused = |reason: &str| {
        let (code, text) = check();
        let named = text.contains("/.env could not be read: ");
        assert!(
            code == Some(1) && named && text.contains(reason) && text.lines().count() == 1,
            "{text}"
        );
    };
    std::fs::write(at(".env"), b"AUTH=\xff\n").unwrap();
    refused("invalid utf-8");
    std::fs::write(at(".env"), "#".repeat(5 << 20)).unwrap();
    refused("longer than 4194304 bytes");
    std::fs::remove_file(at(".env")).unwrap();
    // A virtual environment of Python.
    std::fs::create_dir(at(".env")).unwrap();
    assert_eq!(check(), (Some(0), String::new()));
}

#[test]
fn who_stops_reading_has_read_enough() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = program();
    command.arg("openapi").stdout(writer).stderr(Stdio::piped());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success(), "{}", output.status);
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = program().arg("openapi").stdout(full.unwrap()).output();
    assert_eq!(output.unwrap().status.code(), Some(1));
}

#[test]
fn without_a_configuration_it_says_how_to_give_one() {
    let output = program().arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--config FILE")
    );
}

#[test]
fn a_service_without_systems_answers_and_drains() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, "auth: {authentication: {token_url: x}}\n").unwrap();
    let mut command = program();
    command
        .args(["serve", "--port", "0", "--config"])
        .arg(&file);
    command
        .env("RUST_LOG", "info")
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped());
    let mut service = Killed(command.spawn().unwrap());
    let mut log = BufReader::new(service.0.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("listening address=") {
        assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let address = text.split("listening address=").nth(1).unwrap();
    let address: SocketAddr = address.trim().parse().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    let request = b"GET /status/liveness/ HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    client.write_all(request).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // One that is open when the service stops, and has not been asked for yet.
    let mut late = TcpStream::connect(address).unwrap();
    let pid = i32::try_from(service.0.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    log.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("stopping: no new requests") && text.contains("stopped"),
        "{text}"
    );
    assert!(service.0.wait().unwrap().success());
    let mut rest = Vec::new();
    let ended = late.read_to_end(&mut rest);
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn it_leaves_no_core_dump() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, "auth: {authentication: {token_url: x}}\n").unwrap();
    // As another user, whose processes belong to them unless they are not to be looked into.
    let (program, options, user) = match rustix::process::getuid() {
        id if id.is_root() => {
            let ids = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
            ("setpriv", ids.to_vec(), 65534)
        }
        id => ("env", Vec::new(), id.as_raw()),
    };
    // Of a program that may leave a dump, and fails badly after it printed this word: whose its
    // memory was, and whether it was dumped.
    let ended = |arguments: &[&str], word: &str| {
        let mut command = Command::new(program);
        command.args(&options);
        command.args([
            "sh",
            "-c",
            "ulimit -S -c $(ulimit -H -c); exec \"$@\"",
            "sh",
        ]);
        command.args(arguments).current_dir(directory.path());
        command.env("RUST_LOG", "info").stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains(word) {
            assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
        }
        let about = |name: &str| format!("/proc/{}/{name}", child.0.id());
        // What it starts inherits its limits, and is dumped as they say.
        let limits = std::fs::read_to_string(about("limits")).unwrap();
        let core = limits.lines().find(|line| line.contains("core file"));
        let core: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(core[4], core[5], "{limits}");
        let owner = std::fs::metadata(about("mem")).unwrap().uid();
        let pid = i32::try_from(child.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        let signal = rustix::process::Signal::ABORT;
        rustix::process::kill_process(pid, signal).unwrap();
        let status = child.0.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        (owner, status.core_dumped())
    };
    let script = "echo ready >&2; exec sleep 60";
    let (owner, dumped) = ended(&["sh", "-c", script], "ready");
    assert_eq!(owner, user);
    if !dumped {
        eprintln!("in part: this machine keeps no core dumps");
    }
    let program = env!("CARGO_BIN_EXE_firecrest-api");
    let serve = [program, "serve", "--port", "0", "--config", "config.yaml"];
    assert_eq!(ended(&serve, "listening"), (0, false));
}
