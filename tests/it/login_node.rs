//! Commands on a real login node over SSH: who is let in, what is bounded, what is cleaned up.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use streamer_tests::cluster::{ANOTHER, Cluster, FIREUSER};
use streamer_tests::key_service::{KeyService, Kind};
use streamer_tests::service::Service;
use streamer_tests::sshd::{Sshd, free_port};

const LS: &str = "/filesystem/login/ops/ls?path=/home/fireuser";
const ANOTHERS_LS: &str = "/filesystem/login/ops/ls?path=/home/another";

/// One system without health checks, with these members of `ssh`, for these credentials.
fn configuration(cluster: &Cluster, credentials: &str, ssh: &str, more: &str) -> String {
    let whole = cluster.config();
    let (head, _) = whole.split_once("clusters:").unwrap();
    let (head, own) = head.split_once("ssh_credentials:").unwrap();
    let credentials = if credentials.is_empty() {
        own
    } else {
        credentials
    };
    let port = cluster.value("SSH_PORT");
    format!(
        "{head}ssh_credentials:{credentials}
clusters:
- name: login
  ssh: {{host: 127.0.0.1, port: {port}, {ssh}}}
  scheduler: {{type: slurm, version: '22.05'}}
  service_account: {{client_id: none, secret: none}}
  probing: {{}}
  file_systems: [{{path: /home, data_type: users, default_work_dir: true}}]
  data_operation: {{{more}}}
"
    )
}

/// The same, of a login node at another port.
fn at_port(cluster: &Cluster, config: &str, port: u16) -> String {
    let own = format!("port: {}", cluster.value("SSH_PORT"));
    config.replace(&own, &format!("port: {port}"))
}

fn known_hosts(cluster: &Cluster) -> String {
    format!("known_hosts: {}/known_hosts", cluster.value("STATE"))
}

fn key(directory: &Path, name: &str) -> String {
    let path = directory.join(name).display().to_string();
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", &path];
    assert!(
        Command::new("ssh-keygen")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
    path
}

#[test]
fn a_refused_key_is_offered_once() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = key(directory.path(), "stranger");
    let credentials = format!(
        "\n  type: SSHStaticKeys\n  keys: {{fireuser: {{private_key: 'secret_file:{path}'}}}}"
    );
    let ssh = known_hosts(&cluster);
    let service = Service::start(&configuration(&cluster, &credentials, &ssh, ""));
    let token = cluster.provider().token(FIREUSER);
    for _ in 0..3 {
        let answer = service.get(&token, LS);
        assert_eq!(answer.status, 424, "{}", answer.text);
        assert_eq!(
            answer.json["message"],
            "Unable to establish SSH connection."
        );
    }
    let print = Command::new("ssh-keygen")
        .args(["-l", "-f", &path])
        .output()
        .unwrap()
        .stdout;
    let print = String::from_utf8(print).unwrap();
    let print = print.split(' ').nth(1).unwrap();
    let log = format!("{}/log/sshd.log", cluster.value("STATE"));
    let log = std::fs::read_to_string(log).unwrap();
    let offered = log
        .lines()
        .filter(|line| line.contains("Failed publickey") && line.contains(print));
    assert_eq!(offered.count(), 1);
    service.wait_for_log("does not accept the key of fireuser");
}

#[test]
fn a_user_without_a_key_is_told_so() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let credentials = "\n  type: SSHStaticKeys\n  keys: {}";
    let ssh = known_hosts(&cluster);
    let service = Service::start(&configuration(&cluster, credentials, &ssh, ""));
    let answer = service.get(&cluster.provider().token(FIREUSER), LS);
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert_eq!(
        answer.json["message"],
        "No SSH credentials found for user:fireuser"
    );
}

#[test]
fn a_host_with_another_key_gets_nothing() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = key(directory.path(), "host");
    let public = std::fs::read_to_string(format!("{path}.pub")).unwrap();
    let file = directory.path().join("known_hosts");
    let port = cluster.value("SSH_PORT");
    let token = cluster.provider().token(FIREUSER);
    for (line, words) in [
        (format!("[127.0.0.1]:{port} {public}"), "is not the one in"),
        (format!("[127.0.0.2]:{port} {public}"), "is not in"),
    ] {
        std::fs::write(&file, line).unwrap();
        let ssh = format!("known_hosts: {}", file.display());
        let service = Service::start(&configuration(&cluster, "", &ssh, ""));
        let answer = service.get(&token, LS);
        assert_eq!(answer.status, 424, "{}", answer.text);
        service.wait_for_log(words);
    }
    let service = Service::start(&configuration(&cluster, "", "max_clients: 5", ""));
    assert_eq!(service.get(&token, LS).status, 200);
    service.wait_for_log("known_hosts is not set");
}

#[test]
fn issued_keys_and_certificates_open_the_door() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let state = cluster.value("STATE");
    let token = cluster.provider().token(FIREUSER);
    let ssh = known_hosts(&cluster);
    let served = |credentials: &str| {
        let service = Service::start(&configuration(&cluster, credentials, &ssh, ""));
        let answer = service.get(&token, LS);
        assert_eq!(answer.status, 200, "{credentials}: {}", answer.text);
    };
    let certificate = format!("{state}/keys/fireuser-certkey-cert.pub");
    let certificate = std::fs::read_to_string(certificate).unwrap();
    served(&format!(
        "\n  type: SSHStaticKeys\n  keys: {{fireuser: {{private_key: 'secret_file:{state}/keys/fireuser-certkey', public_cert: '{}'}}}}",
        certificate.trim()
    ));
    for kind in [Kind::Service, Kind::Authority] {
        let keys = KeyService::start(kind, Path::new(&state), "fireuser");
        served(&format!("\n  type: {}\n  url: {}", kind.name(), keys.url));
        let request = keys.request();
        assert!(
            request.contains(&token),
            "the caller's token vouches for them"
        );
        assert!(request.contains("x-client-name: firecrest"), "{request}");
    }
}

#[test]
fn a_jump_host_is_gone_through() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let target = cluster.value("SSH_PORT");
    let token = cluster.provider().token(FIREUSER);
    let through = |permitted: &str| {
        let port = free_port();
        // It forwards to one place only, and runs no programs.
        let jump = Sshd::start_on(port, &cluster, |own| {
            format!("{own}PermitOpen {permitted}\nForceCommand /bin/false\n")
        });
        // Its key is the login node's, under its own port.
        let known = cluster.value("STATE") + "/known_hosts";
        let known = std::fs::read_to_string(known).unwrap();
        let own = known.replace(&format!(":{target} "), &format!(":{port} "));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), known + &own).unwrap();
        let ssh = format!(
            "known_hosts: {}, proxy_host: 127.0.0.1, proxy_port: {port}",
            file.path().display()
        );
        let service = Service::start(&configuration(&cluster, "", &ssh, ""));
        let answer = service.get(&token, LS);
        // Logged by a thread of its own.
        if answer.status != 200 {
            service.wait_for_log("AdministrativelyProhibited");
        }
        (answer, jump.sessions().len(), service.log())
    };
    let (answer, sessions, log) = through(&format!("127.0.0.1:{target}"));
    assert_eq!(answer.status, 200, "{} {log}", answer.text);
    assert!(sessions > 0, "nobody is at the jump host");
    let (answer, _, _) = through("127.0.0.1:1");
    assert_eq!(answer.status, 424, "it was gone around: {}", answer.text);
}

#[test]
fn what_takes_too_long_is_killed_and_the_next_request_served() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let ssh = format!(
        "{}, timeout: {{command_execution: 2}}",
        known_hosts(&cluster)
    );
    let service = Service::start(&configuration(&cluster, "", &ssh, ""));
    let token = cluster.provider().token(FIREUSER);
    let script = json!({"job": {"workingDirectory": "/tmp", "script": "#!/bin/sh\nsleep 100\n", "standardOutput": "/dev/null"}});
    let job = service.call(&token, "POST", "/compute/login/jobs", &script);
    assert_eq!(job.status, 201, "{}", job.text);
    let job = format!(
        "/compute/login/jobs/{}",
        job.json["jobId"].as_str().unwrap()
    );
    let deadline = Instant::now() + Duration::from_secs(30);
    while service.get(&token, &job).json["jobs"][0]["status"]["state"] != "RUNNING" {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(100));
    }
    let marked = format!("sleep 77.{}", std::process::id());
    let attach = service.call(
        &token,
        "PUT",
        &format!("{job}/attach"),
        &json!({"command": marked}),
    );
    assert_eq!(attach.status, 408, "{}", attach.text);
    assert_eq!(
        attach.json["message"],
        "Command execution timeout limit exceeded."
    );
    assert_eq!(service.get(&token, LS).status, 200);
    let deadline = Instant::now() + Duration::from_secs(20);
    let running = || {
        let lines = streamer_tests::job::command_lines();
        lines
            .into_iter()
            .find(|(_, line)| line.contains("srun") && line.contains(&marked))
    };
    while let Some(program) = running() {
        assert!(Instant::now() < deadline, "left behind: {program:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        service.call(&token, "DELETE", &job, &json!(null)).status,
        204
    );
}

#[test]
fn what_nobody_waits_for_any_more_is_killed() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let ssh = format!(
        "{}, timeout: {{command_execution: 300, idle_timeout: 600}}",
        known_hosts(&cluster)
    );
    let service = Service::start(&configuration(&cluster, "", &ssh, ""));
    let token = cluster.provider().token(FIREUSER);
    // Its checksum takes longer than any client waits.
    let file = format!("/home/fireuser/sparse-{}", std::process::id());
    std::fs::File::create(&file)
        .unwrap()
        .set_len(1 << 38)
        .unwrap();
    let running = || {
        let mut lines = streamer_tests::job::command_lines();
        lines.retain(|(_, line)| line.contains("sha256sum") && line.contains(&file));
        lines
    };
    let wait = |until: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !until() {
            assert!(Instant::now() < deadline, "{:?}", running());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let path = format!("/filesystem/login/ops/checksum?path={file}");
    let mut client = Command::new("curl");
    let header = format!("Authorization: Bearer {token}");
    client.args(["-s", "-H", &header, &format!("{}{path}", service.url)]);
    let mut client = client.spawn().unwrap();
    wait(&|| {
        running()
            .iter()
            .any(|(_, line)| line.starts_with("sha256sum"))
    });
    client.kill().unwrap();
    client.wait().unwrap();
    wait(&|| running().is_empty());
    std::fs::remove_file(&file).unwrap();
    assert_eq!(service.get(&token, LS).status, 200);
}

#[test]
fn output_over_the_limit_is_refused() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let ssh = known_hosts(&cluster);
    let service = Service::start(&configuration(
        &cluster,
        "",
        &ssh,
        "max_ops_file_size: 2000",
    ));
    let token = cluster.provider().token(FIREUSER);
    let path = "/filesystem/login/ops/ls?path=/usr/bin"
        .replace("/usr/bin", "/home/fireuser/../../usr/bin");
    let answer = service.get(&token, &path);
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert_eq!(
        answer.json["message"],
        "Command output exceeded buffer limit."
    );
    assert_eq!(
        service
            .get(&token, "/filesystem/login/ops/stat?path=/home")
            .status,
        200
    );
}

#[test]
fn only_so_many_users_are_connected_and_a_resting_one_makes_room() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let ssh = format!("{}, max_clients: 1", known_hosts(&cluster));
    let service = Service::start(&configuration(&cluster, "", &ssh, ""));
    let (one, other) = (
        cluster.provider().token(FIREUSER),
        cluster.provider().token(ANOTHER),
    );
    assert_eq!(service.get(&one, LS).status, 200);
    assert_eq!(
        service.get(&other, ANOTHERS_LS).status,
        200,
        "the first one rests"
    );
    // A pipe that nobody writes to holds the only place until the time is over.
    let pipe = format!("/home/fireuser/pipe-{}", std::process::id());
    let made = Command::new("mkfifo")
        .args(["-m", "666", &pipe])
        .status()
        .unwrap();
    assert!(made.success());
    let head = format!("/filesystem/login/ops/head?path={pipe}");
    let busy = std::thread::scope(|scope| {
        let slow = scope.spawn(|| service.get(&one, &head).status);
        let deadline = Instant::now() + Duration::from_secs(10);
        let reads = |line: &str| line.contains("head") && line.contains(&pipe);
        while !streamer_tests::job::command_lines()
            .iter()
            .any(|(_, line)| reads(line))
        {
            assert!(Instant::now() < deadline, "head does not run");
            std::thread::sleep(Duration::from_millis(10));
        }
        let answer = service.get(&other, ANOTHERS_LS);
        assert_eq!(answer.status, 424, "{}", answer.text);
        assert_eq!(
            answer.json["message"],
            "SSH connection pool capacity exceeded"
        );
        slow.join().unwrap()
    });
    std::fs::remove_file(&pipe).unwrap();
    assert_eq!(busy, 408);
}

#[test]
fn five_hundred_requests_at_once_are_all_served() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let ssh = format!(
        "{}, timeout: {{command_execution: 30}}",
        known_hosts(&cluster)
    );
    let service = Service::start(&configuration(&cluster, "", &ssh, ""));
    let (one, other) = (
        cluster.provider().token(FIREUSER),
        cluster.provider().token(ANOTHER),
    );
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let requests = (0..500).map(|i| {
            let (token, path) = if i % 2 == 0 {
                (&one, LS)
            } else {
                (&other, ANOTHERS_LS)
            };
            let service = &service;
            scope.spawn(move || service.get(token, path).status)
        });
        let requests: Vec<_> = requests.collect();
        requests
            .into_iter()
            .map(|request| request.join().unwrap())
            .collect()
    });
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(served, 500, "{statuses:?}");
}

#[test]
fn a_node_that_opens_two_sessions_serves_everybody() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let sshd = Sshd::start(&cluster, |own| {
        own.replace("MaxSessions 1000", "MaxSessions 2")
    });
    let config = configuration(&cluster, "", "timeout: {command_execution: 30}", "");
    let service = Service::start(&at_port(&cluster, &config, sshd.port));
    let token = cluster.provider().token(FIREUSER);
    let submit = json!({"job": {"workingDirectory": "/tmp", "script": "#!/bin/sh\n", "partition": "nosuch"}});
    let statuses: Vec<(u16, u16)> = std::thread::scope(|scope| {
        let requests = (0..20).map(|i| {
            let (service, token, submit) = (&service, &token, &submit);
            scope.spawn(move || match i % 4 {
                // With input: a channel of its own. Slurm refuses it.
                0 => (
                    500,
                    service
                        .call(token, "POST", "/compute/login/jobs", submit)
                        .status,
                ),
                _ => (200, service.get(token, LS).status),
            })
        });
        let requests: Vec<_> = requests.collect();
        requests
            .into_iter()
            .map(|request| request.join().unwrap())
            .collect()
    });
    assert!(
        statuses.iter().all(|(expected, got)| expected == got),
        "{statuses:?}"
    );
}

#[test]
fn a_node_that_falls_silent_is_noticed_and_the_next_request_logs_in_anew() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let sshd = Sshd::start(&cluster, |own| own);
    let config = configuration(
        &cluster,
        "",
        "timeout: {keep_alive: 1, command_execution: 20, idle_timeout: 600}",
        "",
    );
    let service = Service::start(&at_port(&cluster, &config, sshd.port));
    let token = cluster.provider().token(FIREUSER);
    assert_eq!(service.get(&token, LS).status, 200);
    sshd.freeze();
    // Three questions without an answer, long before the time of the command is over.
    let began = Instant::now();
    let cut = service.get(&token, LS);
    assert!(began.elapsed() < Duration::from_secs(15), "{}", cut.text);
    assert_eq!(cut.status, 424, "{}", cut.text);
    assert_eq!(cut.json["message"], "SSH connection Reset.");
    assert_eq!(service.get(&token, LS).status, 200);
}

#[test]
fn a_node_that_was_restarted_is_found_again() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let sshd = Sshd::start(&cluster, |own| own);
    let port = sshd.port;
    let config = configuration(&cluster, "", "max_clients: 5", "");
    let service = Service::start(&at_port(&cluster, &config, port));
    let token = cluster.provider().token(FIREUSER);
    assert_eq!(service.get(&token, LS).status, 200);
    drop(sshd);
    // The first to ask can learn that the connection was lost; who dials finds nobody.
    let lost = service.get(&token, LS);
    assert!([424, 500].contains(&lost.status), "{}", lost.text);
    let down = service.get(&token, LS);
    assert_eq!(down.status, 500, "{}", down.text);
    assert_eq!(down.json["message"], "Unable to establish SSH connection.");
    let _sshd = Sshd::start_on(port, &cluster, |own| own);
    assert_eq!(service.get(&token, LS).status, 200);
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let sshd = Sshd::start(&cluster, |own| own);
    let config = configuration(
        &cluster,
        "",
        "timeout: {idle_timeout: 2, command_execution: 1}",
        "",
    );
    let service = Service::start(&at_port(&cluster, &config, sshd.port));
    let token = cluster.provider().token(FIREUSER);
    assert_eq!(service.get(&token, LS).status, 200);
    assert!(!sshd.sessions().is_empty(), "it is kept for a while");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !sshd.sessions().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", sshd.sessions());
        // What a server has open can only be looked at.
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(service.get(&token, LS).status, 200);
}

#[test]
fn a_key_with_a_passphrase_is_opened_by_it_and_by_no_other() {
    let Some(cluster) = Cluster::find() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let state = cluster.value("STATE");
    let path = directory.path().join("key");
    std::fs::copy(format!("{state}/keys/fireuser-key"), &path).unwrap();
    let protect = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "open sesame", "-f"])
        .arg(&path)
        .status();
    assert!(protect.unwrap().success());
    let token = cluster.provider().token(FIREUSER);
    let credentials = |passphrase: &str| {
        let path = path.display();
        format!(
            "\n  type: SSHStaticKeys\n  keys: {{fireuser: {{private_key: 'secret_file:{path}', passphrase: '{passphrase}'}}}}"
        )
    };
    let ssh = known_hosts(&cluster);
    let service = Service::start(&configuration(
        &cluster,
        &credentials("open sesame"),
        &ssh,
        "",
    ));
    assert_eq!(service.get(&token, LS).status, 200, "{}", service.log());
    let service = Service::start(&configuration(&cluster, &credentials("wrong"), &ssh, ""));
    let answer = service.get(&token, LS);
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert_eq!(
        answer.json["message"],
        "The SSH credentials of user:fireuser cannot be used"
    );
    assert!(!service.log().contains("wrong"), "no passphrase in the log");
}
