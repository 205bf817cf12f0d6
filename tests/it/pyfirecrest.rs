//! pyfirecrest as its users write it: with the streamer it comes with, and with ours.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use streamer_tests::cluster::{Cluster, FIREUSER};
use streamer_tests::demo::Demo;
use streamer_tests::file;
use streamer_tests::object_store::ObjectStore;
use streamer_tests::program::{Client, signal_process};
use streamer_tests::python::Environment;
use streamer_tests::transfer_service::Service;

#[test]
fn pyfirecrest_moves_files_over_the_plaintext_protocol_where_it_is_allowed() {
    goes_out_and_comes_back(&Demo::start_with(&["--allow-websocket"]), Environment::PyPi);
}

#[test]
fn pyfirecrest_moves_files_over_quic_with_our_package_and_no_change() {
    // Nothing else than QUIC and TLS is answered here.
    goes_out_and_comes_back(&Demo::start(), Environment::Ours);
}

/// Several times: the client connects once, as soon as the job is RUNNING.
const TIMES: usize = 4;

fn goes_out_and_comes_back(demo: &Demo, environment: Environment) {
    let source = demo.home().join("source.bin");
    let sum = file::random(&source, (7 << 20) + 1);
    let credentials = demo.credentials();
    let way = Way {
        environment,
        api: &demo.api,
        token_url: &credentials.token_url,
        client: (&credentials.id, &credentials.secret),
        system: "demo",
        method: "streamer",
        times: TIMES,
    };
    way.there_and_back(&source, &sum);
}

#[test]
fn on_slurm_pyfirecrest_moves_files_over_the_plaintext_protocol_when_its_job_was_queued() {
    let Some((cluster, service)) = queued() else {
        return;
    };
    let source = service.home().join("source");
    let sum = file::random(&source, (7 << 20) + 1);
    service.give(&source);
    let token_url = format!("{}/token", cluster.provider().url);
    Way::on(&service, &token_url, "streamer").there_and_back(&source, &sum);
}

#[test]
fn on_slurm_a_job_that_was_queued_is_shown_running_when_its_endpoint_listens() {
    let Some((_, service)) = queued() else {
        return;
    };
    let target = |name: &str| service.home().join(name);
    let jobs = ["a", "b", "c"].map(|name| {
        let directive = json!({"transferMethod": "streamer"});
        let transfer = service.transfer("upload", &target(name), directive);
        transfer["transferJob"]["jobId"]
            .as_str()
            .unwrap()
            .to_owned()
    });
    std::thread::scope(|scope| {
        for job in &jobs {
            scope.spawn(|| runs_and_listens(&service, job));
        }
    });
    for job in jobs {
        service.slurm("scancel", &[&job]);
    }
}

/// No moment passes between the two, as the file shows in which the endpoint says so.
fn runs_and_listens(service: &Service, job: &str) {
    let (system, directory) = (service.system(), service.work_directory());
    let file = directory.join(format!(".f7t_transfers/job-{system}-{job}.json"));
    let route = format!("/compute/{system}/jobs/{job}");
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut queued = false;
    loop {
        let answer = service.call("GET", &route, Value::Null);
        let said = std::fs::read_to_string(&file).unwrap_or_default();
        match answer.json["jobs"][0]["status"]["state"].as_str() {
            Some("PENDING") => queued = true,
            Some("RUNNING") => {
                assert!(queued && said.contains("listening"), "{queued} {said:?}");
                return;
            }
            _ => assert!(Instant::now() < deadline, "{}", answer.text),
        }
    }
}

/// A service whose endpoints speak plaintext too, and whose jobs wait for longer than a
/// request does.
fn queued() -> Option<(Cluster, Service)> {
    let change = |config: String| {
        let partition = "#SBATCH --partition=xfer";
        let method = "service_type: streamer\n";
        let plain = format!("{method}        allow_websocket: true\n");
        let later = format!("{partition}\", \"#SBATCH --begin=now+4");
        config.replace(partition, &later).replace(method, &plain)
    };
    let cluster = Cluster::find()?;
    Some((cluster, Service::on_cluster_with(&json!([]), change)?))
}

#[test]
fn on_slurm_pyfirecrest_moves_files_through_an_object_store() {
    let store = ObjectStore::start();
    let (Some(cluster), Some(service)) = (
        Cluster::find(),
        Service::on_cluster(&store.data_transfers(64 << 20)),
    ) else {
        return;
    };
    let token_url = format!("{}/token", cluster.provider().url);
    for size in [300 << 20, 0] {
        let source = service.home().join(format!("source of {size}"));
        let sum = file::random(&source, size);
        service.give(&source);
        Way::on(&service, &token_url, "s3").there_and_back(&source, &sum);
    }
}

/// What a user of pyfirecrest writes.
struct Way<'a> {
    environment: Environment,
    api: &'a str,
    token_url: &'a str,
    client: (&'a str, &'a str),
    system: &'a str,
    method: &'a str,
    times: usize,
}

impl<'a> Way<'a> {
    /// Once, on the cluster.
    fn on(service: &'a Service, token_url: &'a str, method: &'a str) -> Self {
        Self {
            environment: Environment::PyPi,
            api: service.url(),
            token_url,
            client: FIREUSER,
            system: service.system(),
            method,
            times: 1,
        }
    }

    /// Moves `source` out, and each copy in beside it: what arrives is what was there.
    fn there_and_back(&self, source: &Path, sum: &[u8]) {
        let here = file::directory();
        let (copy, sum) = (here.path().join("copy"), hex(sum));
        let target = source.with_file_name("back");
        let mut python = self.environment.program("python");
        python.arg(script("pyfirecrest_both_ways.py"));
        python.args([self.api, self.token_url, self.client.0]);
        python.args([self.system, self.method]);
        python.args([source, &*copy, &*target]);
        python.arg(self.times.to_string());
        let output = fed(&mut python, self.client.1);
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        assert_eq!(said.matches(&sum).count(), self.times, "{said}");
        for number in 0..self.times {
            let target = source.with_file_name(format!("back{number}"));
            // Their client is done when it has sent all: the endpoint verifies that yet.
            let deadline = Instant::now() + Duration::from_secs(20);
            while !target.exists() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(hex(&file::sha256(&target)), sum);
            std::fs::remove_file(target).unwrap();
        }
    }
}

#[test]
fn our_package_raises_what_failed_and_returns_what_was_verified() {
    let demo = Demo::start();
    let here = file::directory();
    let source = demo.home().join("source.bin");
    file::random(&source, (256 << 20) + 1);
    let transfer = demo.transfer("download", &source);
    let receive = |target: &Path, coordinates: &str| {
        let mut python = Environment::Ours.program("python");
        python.arg(script("our_package.py")).arg(target);
        text(&fed(&mut python, coordinates))
    };
    let taken = here.path().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let said = receive(&taken, &transfer.coordinates);
    assert!(said.contains("raised: StreamerError 13 "), "{said}");
    assert!(said.contains("the target already exists"), "{said}");
    let said = receive(&taken, "nonsense");
    assert!(said.contains("raised: CoordinatesError 11 "), "{said}");

    let copy = here.path().join("copy");
    for (reporter, raised) in [
        ("failing", "raised: nobody reads this"),
        ("cancelling", "raised: CancelledError"),
    ] {
        let mut python = Environment::Ours.program("python");
        python
            .arg(script("our_package.py"))
            .arg(&copy)
            .arg(reporter);
        let said = text(&fed(&mut python, &transfer.coordinates));
        assert!(said.contains(raised), "{said}");
        assert!(!copy.exists(), "it was to be stopped");
    }
    // Nobody writes it any more.
    let said = receive(&copy, &transfer.coordinates);
    assert!(said.contains("done: 268435457 "), "{said}");
    assert!(!said.contains(" ws "), "{said}");
    assert_eq!(file::sha256(&copy), file::sha256(&source));
    assert_eq!(demo.ended(&transfer.job)["status"]["state"], "COMPLETED");
}

#[test]
fn our_package_installs_our_command() {
    let output = |args: &[&str]| {
        let mut command = Environment::Ours.program("streamer");
        command.args(args).output().unwrap()
    };
    let version = output(&["--version"]);
    assert!(version.status.success(), "{}", text(&version));
    assert!(text(&version).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(output(&["fly"]).status.code(), Some(2));
    let here = file::directory();
    let missing = here.path().join("none");
    let mut command = Environment::Ours.program("streamer");
    command.args(["send", "--path"]).arg(&missing);
    assert_eq!(command.output().unwrap().status.code(), Some(13));
    // The same code that cargo built, so the same answers.
    let ended = Client::start("send", "", &missing, &[]).end();
    assert_eq!(ended.code, Some(13));
}

#[test]
fn our_command_is_interrupted_while_it_waits_for_its_coordinates() {
    let mut command = Environment::Ours.program("streamer");
    command.args(["inspect", "--coordinates-file", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let waits_at = format!("/proc/{}/wchan", child.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&waits_at).is_ok_and(|at| at.contains("pipe_read")) {
        assert!(Instant::now() < deadline, "it does not wait for its input");
        std::thread::sleep(Duration::from_millis(20));
    }
    signal_process(child.id(), Signal::INT);
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it cannot be interrupted");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(!ended.success(), "{ended}");
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("python")
        .join(name)
}

/// Runs it with a secret on its standard input.
fn fed(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{input}").unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
