//! What befalls transfers on a real Slurm: the user is told, and what arrived is kept.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamer_tests::file;
use streamer_tests::process::Process;
use streamer_tests::program::{self, Client, Ended};
use streamer_tests::transfer_service::{Service, logs};

/// An upload that was asked for.
struct Upload<'a> {
    service: &'a Service,
    answer: Value,
}

impl<'a> Upload<'a> {
    fn request(service: &'a Service, target: &Path) -> Self {
        let directive = json!({"transferMethod": "streamer"});
        let answer = service.transfer("upload", target, directive);
        Self { service, answer }
    }

    fn job(&self) -> &str {
        self.answer["transferJob"]["jobId"].as_str().unwrap()
    }

    fn coordinates(&self) -> &str {
        let coordinates = &self.answer["transferDirectives"]["coordinates"];
        coordinates.as_str().unwrap()
    }

    /// `streamer send`, which waits for long and may ask how the job stands.
    fn send(&self, source: &Path, options: &[&str]) -> Client {
        let api = self.service.api_options();
        let api = api.iter().map(String::as_str);
        let options: Vec<&str> = ["--wait", "10m"]
            .into_iter()
            .chain(api)
            .chain(options.iter().copied())
            .collect();
        Client::start("send", self.coordinates(), source, &options)
    }

    /// Waits until bytes of it are in place.
    fn under_way(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.service.state(&self.answer);
            if now["movedBytes"].as_u64() > Some(1 << 20) && now["state"] == "active" {
                return;
            }
            assert!(Instant::now() < deadline, "{now}: {}", logs(&self.answer));
            // The state can only be asked for.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A second upload to `target` goes on where the one before was ended.
fn goes_on(service: &Service, source: &Path, target: &Path) {
    assert!(!target.exists());
    let upload = Upload::request(service, target);
    let client = upload.send(source, &[]).end();
    assert_eq!(client.code, Some(0), "{}", client.text);
    assert!(
        client.last["bytes_resumed"].as_u64() > Some(0),
        "{}",
        client.text
    );
    assert_eq!(service.ended(&upload.answer)["jobState"], "COMPLETED");
    assert!(file::same(source, target));
}

/// It gave up at once, and says why.
fn was_told(client: &Ended, code: i32, words: &str) {
    assert_eq!(client.code, Some(code), "{}", client.text);
    let message = client.last["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
    assert!(client.last["hint"].is_string(), "{}", client.text);
}

#[test]
fn on_slurm_a_drained_node_is_the_reason_to_wait_and_a_job_cancelled_there_ends_the_wait() {
    let one_node = |config: String| {
        let partition = "#SBATCH --partition=xfer";
        config.replace(partition, &format!("#SBATCH --nodelist={DRAINED}"))
    };
    let Some(service) = Service::on_cluster_with(&json!([]), one_node) else {
        return;
    };
    let here = file::directory();
    let source = here.path().join("source");
    file::random(&source, 3 << 20);
    let targets = ["cancelled", "kept"].map(|name| service.home().join(name));
    let node = Drained::new(&service);
    let [cancelled, kept] = targets.each_ref().map(|at| Upload::request(&service, at));
    let wait = |upload: &Upload<'_>| {
        let mut command = Command::new(program::path("streamer"));
        command.args(["send", "--json", "--wait", "10m", "--path"]);
        command.arg(&source).args(service.api_options());
        command.env("STREAMER_COORDINATES", upload.coordinates());
        let mut client = Process::start(&mut command);
        let line: Value = serde_json::from_str(&client.wait_for("UnavailableNodes")).unwrap();
        assert_eq!(line["state"], "waiting", "{line}");
        assert_eq!(line["job"]["state"], "queued", "{line}");
        let reason = line["job"]["reason"].as_str().unwrap();
        assert!(reason.contains(DRAINED), "{line}");
        client
    };
    let clients = [wait(&cancelled), wait(&kept)];
    service.slurm("scancel", &[cancelled.job()]);
    let [client, other] = clients;
    let ended = client.end();
    assert_eq!(ended.code, Some(10), "{}", ended.text);
    assert!(
        ended.text.contains("the job was cancelled"),
        "{}",
        ended.text
    );
    drop(node);
    let ended = other.end();
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(file::same(&source, &targets[1]));
}

#[test]
fn on_slurm_a_transfer_whose_job_is_cancelled_says_so_and_goes_on_with_the_next_job() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    file::random(&source, 64 << 20);
    let upload = Upload::request(&service, &target);
    let client = upload.send(&source, &["--limit-rate", "8MiB"]);
    upload.under_way();
    service.slurm("scancel", &[upload.job()]);
    was_told(&client.end(), 10, "the job ");
    let ended = service.ended(&upload.answer);
    assert_eq!(ended["state"], "cancelled", "{ended}");
    goes_on(&service, &source, &target);
}

#[test]
fn on_slurm_a_transfer_that_reaches_its_walltime_says_so_and_goes_on_with_the_next_job() {
    let Some(service) = Service::on_cluster(&json!([])) else {
        return;
    };
    let here = file::directory();
    let (source, target) = (here.path().join("source"), service.home().join("target"));
    file::random(&source, 256 << 20);
    let upload = Upload::request(&service, &target);
    let client = upload.send(&source, &["--limit-rate", "2MiB"]);
    upload.under_way();
    // Slurm looks for such jobs twice a minute.
    let over = format!("JobId={}", upload.job());
    service.slurm("scontrol", &["update", &over, "EndTime=now+1"]);
    was_told(&client.end(), 10, "the job ");
    let ended = service.ended(&upload.answer);
    assert_eq!(ended["jobState"], "TIMEOUT", "{ended}");
    assert_eq!(ended["state"], "failed", "{ended}");
    let message = ended["message"].as_str().unwrap();
    assert!(message.contains("time limit"), "{message}");
    goes_on(&service, &source, &target);
}

#[test]
fn on_slurm_a_full_disk_is_told_to_both_sides_and_what_fitted_is_kept() {
    // The endpoint waits for somebody to make room.
    let soon = |config: String| config.replace("wait_timeout: 600", "wait_timeout: 8");
    let Some(service) = Service::on_cluster_with(&json!([]), soon) else {
        return;
    };
    let here = file::directory();
    let source = here.path().join("source");
    file::random(&source, 64 << 20);
    let disk = Disk::new(&service, "96m");
    let target = disk.0.join("target");
    let upload = Upload::request(&service, &target);
    let client = upload.send(&source, &["--limit-rate", "16MiB"]);
    upload.under_way();
    // There was room when it began.
    let others = disk.0.join("others");
    let filled = std::io::copy(&mut std::io::repeat(1), &mut File::create(&others).unwrap());
    assert!(filled.is_err());
    was_told(&client.end(), 13, "space");
    let ended = service.ended(&upload.answer);
    assert_eq!(ended["jobState"], "FAILED", "{ended}");
    let message = ended["message"].as_str().unwrap();
    assert!(message.contains("space"), "{message}");
    std::fs::remove_file(&others).unwrap();
    goes_on(&service, &source, &target);
}

#[test]
fn on_slurm_a_job_whose_client_never_came_or_was_killed_ends_as_failed() {
    let soon = |config: String| config.replace("wait_timeout: 600", "wait_timeout: 8");
    let Some(service) = Service::on_cluster_with(&json!([]), soon) else {
        return;
    };
    let here = file::directory();
    let source = here.path().join("source");
    file::random(&source, 64 << 20);
    let targets = ["never", "killed"].map(|name| service.home().join(name));
    let [never, killed] = targets.each_ref().map(|at| Upload::request(&service, at));
    let client = killed.send(&source, &["--limit-rate", "4MiB"]);
    killed.under_way();
    drop(client);
    for (upload, words) in [(never, "no client came"), (killed, "did not come back")] {
        let ended = service.ended(&upload.answer);
        assert_eq!(ended["jobState"], "FAILED", "{ended}");
        assert_eq!(ended["state"], "failed", "{ended}");
        assert!(
            ended["message"].as_str().unwrap().contains(words),
            "{ended}"
        );
    }
    assert!(!targets.iter().any(|target| target.exists()));
    // Only of the one is there anything to go on with.
    let kept = targets.map(|target| target.with_extension("part").exists());
    assert_eq!(kept, [false, true]);
}

/// A node that takes no new jobs while this lives.
struct Drained<'a>(&'a Service);

/// Not the one where the other transfers of the tests run.
const DRAINED: &str = "nid003";

impl<'a> Drained<'a> {
    fn new(service: &'a Service) -> Self {
        let name = format!("NodeName={DRAINED}");
        let change = ["update", &name, "State=DRAIN", "Reason=a test"];
        service.slurm("scontrol", &change);
        Self(service)
    }
}

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        let name = format!("NodeName={DRAINED}");
        self.0.slurm("scontrol", &["update", &name, "State=RESUME"]);
    }
}

/// A small file system of the user's.
struct Disk(PathBuf);

impl Disk {
    fn new(service: &Service, size: &str) -> Self {
        let disk = Self(service.home().join("disk"));
        std::fs::create_dir(&disk.0).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]);
        assert!(command.arg(&disk.0).status().unwrap().success());
        service.give(&disk.0);
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What a test left open there is of no use to anybody.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// More than any step of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
