//! Transfers by magic-wormhole, with servers of our own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamer_tests::transfer_service::{Service, logs};
use streamer_tests::wormhole::{Wormhole, program};
use streamer_tests::{file, job};

use crate::slurm_transfers::nobody_sees;

fn service(wormhole: &Wormhole) -> Service {
    Service::start(json!([{
        "service_type": "wormhole",
        "wormhole_binary": program("wormhole"),
        "mailbox_url": wormhole.mailbox_url,
        "transit_relay": wormhole.transit_relay,
    }]))
}

#[test]
fn a_file_goes_in_and_out_and_the_code_is_nowhere_to_be_seen() {
    let here = file::directory();
    let wormhole = Wormhole::start(here.path());
    let service = service(&wormhole);
    let (source, target) = (
        here.path().join("source"),
        service.home().join("it's $(id)\n.bin"),
    );
    let sum = file::random(&source, 50 << 20);

    let (mut sender, code) = wormhole.send(&source);
    let directive = json!({"transferMethod": "wormhole", "wormholeCode": code});
    let upload = service.transfer("upload", &target, directive);
    assert_eq!(
        upload["transferDirectives"],
        json!({"transferMethod": "wormhole"})
    );
    service.until(&upload, "done");
    assert!(sender.wait().unwrap().success());
    assert_eq!(file::sha256(&target), sum);
    assert!(logs(&upload).contains("File was successfully received."));
    assert!(!logs(&upload).contains(&code));

    let download = service.transfer("download", &target, json!({"transferMethod": "wormhole"}));
    let code = download["transferDirectives"]["wormholeCode"]
        .as_str()
        .unwrap();
    service.until(&download, "listening");
    for (id, line) in job::command_lines() {
        assert!(!line.contains(code), "process {id} shows the code: {line}");
    }
    let copy = here.path().join("copy");
    assert!(wormhole.receive(code, &copy));
    service.until(&download, "done");
    assert_eq!(file::sha256(&copy), sum);
    assert!(logs(&download).contains("File was successfully sent."));
    for text in [logs(&upload), logs(&download), service.log()] {
        assert!(!text.contains(code), "{text}");
    }
}

#[test]
fn on_slurm_the_job_makes_the_program_itself_and_files_go_in_and_out() {
    let here = file::directory();
    let wormhole = Wormhole::start(here.path());
    let transfers = json!([{
        "service_type": "wormhole",
        "mailbox_url": wormhole.mailbox_url,
        "transit_relay": wormhole.transit_relay,
    }]);
    let Some(service) = Service::on_cluster(&transfers) else {
        return;
    };
    // Of an earlier run.
    let own = service.work_directory().join(".f7t_transfers");
    let environment = own.join(format!("venv-{}-", service.system()));
    let environment = environment.display().to_string();
    for entry in std::fs::read_dir(&own).into_iter().flatten().flatten() {
        if entry.path().display().to_string().starts_with(&environment) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    let sum = file::random(&source, 50 << 20);
    let (mut sender, code) = wormhole.send(&source);
    let directive = json!({"transferMethod": "wormhole", "wormholeCode": code});
    let upload = service.transfer("upload", &target, directive);
    let ended = service.ended(&upload);
    assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&upload));
    assert!(sender.wait().unwrap().success());
    assert_eq!(file::sha256(&target), sum);

    let download = service.transfer("download", &target, json!({"transferMethod": "wormhole"}));
    let code = download["transferDirectives"]["wormholeCode"].as_str();
    let code = code.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let runs = |(_, line): &(u32, String)| {
        let own = line.strip_prefix(&environment);
        own.is_some_and(|line| line.contains("/bin/python ") && line.contains(" send "))
    };
    while !job::command_lines().iter().any(runs) {
        assert!(Instant::now() < deadline, "{}", logs(&download));
        // A process can only be looked for.
        std::thread::sleep(Duration::from_millis(20));
    }
    nobody_sees(&[code], &service, &download, "from wormhole.cli.cli import");
    let copy = here.path().join("copy");
    assert!(wormhole.receive(code, &copy));
    let ended = service.ended(&download);
    assert_eq!(ended["jobState"], "COMPLETED", "{}", logs(&download));
    assert_eq!(file::sha256(&copy), sum);
}

#[test]
fn a_wrong_code_ends_the_job_and_is_told() {
    let here = file::directory();
    let wormhole = Wormhole::start(here.path());
    let service = service(&wormhole);
    let target = service.home().join("target");
    let (mut sender, code) = wormhole.send(&service.home().join("sample.txt"));
    let (number, _) = code.split_once('-').unwrap();
    let wrong = format!("{number}-wrong-words");
    let directive = json!({"transferMethod": "wormhole", "wormholeCode": wrong});
    let upload = service.transfer("upload", &target, directive);
    service.until(&upload, "failed");
    let failed = service.ended(&upload);
    assert_eq!(failed["jobState"], "FAILED", "{failed}");
    assert!(
        logs(&upload).contains("failed with exit status"),
        "{}",
        logs(&upload)
    );
    assert!(!target.exists());
    let _ = sender.kill();
    let _ = sender.wait();
    let body = json!({
        "path": target,
        "transferDirectives": {"transferMethod": "wormhole", "wormholeCode": "--help"},
    });
    let answer = service.call("POST", "/filesystem/demo/transfer/upload", body);
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert_eq!(answer.json["data"], Value::Null, "{}", answer.text);
}
