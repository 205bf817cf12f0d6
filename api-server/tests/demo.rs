//! The binary itself: the demo as a user starts it, and the commands that need no service.

use std::io::{BufRead as _, BufReader, Read as _};
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
    let good = check("auth: {authentication: {token_url: x}}\n");
    assert!(good.status.success());
    assert_eq!(good.stdout, b"The configuration is valid: 0 system(s).\n");
    let doubtful = check(
        "auth: {authentication: {token_url: x}}\nssh_credentials: {type: SSHStaticKeys, keys: {}}\n\
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
}

#[test]
fn it_leaves_no_core_dump() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, "auth: {authentication: {token_url: x}}\n").unwrap();
    // Of a program that may leave one, and fails badly after it printed this word.
    let is_dumped = |arguments: &[&str], word: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]);
        command.args(arguments).current_dir(directory.path());
        command.env("RUST_LOG", "info").stderr(Stdio::piped());
        let mut child = Killed(command.spawn().unwrap());
        let mut log = BufReader::new(child.0.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains(word) {
            assert!(log.read_line(&mut text).unwrap() > 0, "{text}");
        }
        let pid = i32::try_from(child.0.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .unwrap();
        let signal = rustix::process::Signal::ABORT;
        rustix::process::kill_process(pid, signal).unwrap();
        let status = child.0.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        status.core_dumped()
    };
    let script = "echo ready >&2; exec sleep 60";
    if !is_dumped(&["sh", "-c", script], "ready") {
        eprintln!("skipped: this machine keeps no core dumps");
        return;
    }
    let program = env!("CARGO_BIN_EXE_firecrest-api");
    let serve = [program, "serve", "--port", "0", "--config", "config.yaml"];
    assert!(!is_dumped(&serve, "listening"));
}
