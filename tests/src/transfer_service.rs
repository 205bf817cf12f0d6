//! `firecrest-api serve` with a configuration of the test's own, beside a demo whose users it
//! knows.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::demo::Demo;
use crate::http::{Answer, request};
use crate::program;

/// A running service, and a directory of its user on the system `system`.
#[derive(Debug)]
pub struct Service {
    child: Child,
    site: Site,
    log: PathBuf,
    api: String,
}

/// What the service drives.
#[derive(Debug)]
enum Site {
    /// The demo's own system, on this machine.
    Demo(Demo),
    /// The real cluster.
    Cluster {
        files: TempDir,
        home: TempDir,
        token: String,
    },
}

impl Service {
    /// Starts it for the system of a demo, with these `data_transfers` besides the demo's own.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(data_transfers: Value) -> Self {
        let demo = Demo::start();
        let text = std::fs::read_to_string(demo.directory().join("config.yaml"));
        // The demo writes JSON, which is YAML.
        let text = text.expect("the demo's configuration");
        let mut config: Value = serde_json::from_str(&text).expect("the demo writes JSON");
        let system = &mut config["clusters"][0];
        system["data_operation"]["data_transfers"] = data_transfers;
        Self::serve(Site::Demo(demo), &config.to_string())
    }

    /// Starts it for the cluster that `STREAMER_TEST_CLUSTER` names, with these
    /// `data_transfers` besides streamer. Without one, says that the test is skipped.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn on_cluster(data_transfers: &Value) -> Option<Self> {
        Self::on_cluster_with(data_transfers, |config| config)
    }

    /// The same with a configuration that is changed first.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn on_cluster_with(
        data_transfers: &Value,
        change: impl FnOnce(String) -> String,
    ) -> Option<Self> {
        let Some(state) = std::env::var_os("STREAMER_TEST_CLUSTER").map(PathBuf::from) else {
            crate::skipped("STREAMER_TEST_CLUSTER names no cluster (tests/cluster/README.md)");
            return None;
        };
        let read = |name: &str| std::fs::read_to_string(state.join(name)).expect("a cluster");
        let operation = "    data_operation:\n";
        let more = format!("{operation}      data_transfers: {data_transfers}\n");
        let config = read("firecrest.yaml").replace(operation, &more);
        let environment = read("env");
        let port = environment
            .lines()
            .find_map(|line| line.strip_prefix("IDP_PORT="));
        let provider = format!("http://127.0.0.1:{}", port.expect("a port"));
        // The service installs the program there itself.
        let home = tempfile::Builder::new()
            .prefix("it-")
            .tempdir_in("/home/fireuser");
        let home = home.expect("the home of a user of the cluster");
        let site = Site::Cluster {
            files: crate::file::directory(),
            token: cluster_token(&provider),
            home,
        };
        let service = Self::serve(site, &change(config));
        service.give(&service.home());
        Some(service)
    }

    fn serve(site: Site, config: &str) -> Self {
        let files = match &site {
            Site::Demo(demo) => demo.directory(),
            Site::Cluster { files, .. } => files.path(),
        };
        let file = files.join("service.yaml");
        std::fs::write(&file, config).expect("room for the configuration");
        let log = files.join("service.log");
        let mut command = Command::new(program::path("firecrest-api"));
        command.args(["serve", "--host", "127.0.0.1", "--port", "0", "--config"]);
        command.arg(&file).env("TMPDIR", files);
        command.env("RUST_LOG", "debug").env("NO_COLOR", "1");
        let out = std::fs::File::create(&log).expect("a log file");
        command.stdout(Stdio::null()).stderr(out);
        let child = command.spawn().expect("the service starts");
        let mut service = Self {
            child,
            site,
            log,
            api: String::new(),
        };
        let deadline = Instant::now() + PATIENCE;
        while service.api.is_empty() {
            let log = service.log();
            if let Some((_, rest)) = log.split_once("listening address=") {
                let address = rest.split_whitespace().next().expect("an address");
                service.api = format!("http://{address}");
            }
            let ended = service.child.try_wait().expect("a child").is_some();
            let late = Instant::now() > deadline;
            assert!(!ended && !late, "the service is not up: {log}");
            // A file can only be read again.
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    /// The user's directory on the system.
    pub fn home(&self) -> PathBuf {
        match &self.site {
            Site::Demo(demo) => demo.home(),
            Site::Cluster { home, .. } => home.path().to_owned(),
        }
    }

    /// Where the jobs of the user run.
    pub fn work_directory(&self) -> PathBuf {
        match &self.site {
            Site::Demo(demo) => demo.home(),
            Site::Cluster { .. } => "/home/fireuser".into(),
        }
    }

    /// Its name in URLs.
    pub fn system(&self) -> &'static str {
        match &self.site {
            Site::Demo(_) => "demo",
            Site::Cluster { .. } => "cluster-slurm-ssh",
        }
    }

    /// The name of the user.
    pub fn user(&self) -> &'static str {
        match &self.site {
            Site::Demo(_) => "demo",
            Site::Cluster { .. } => "fireuser",
        }
    }

    /// Lets the user own what a test has made in their directory.
    ///
    /// # Panics
    /// When that cannot be.
    pub fn give(&self, path: &Path) {
        if let Site::Cluster { .. } = &self.site {
            let (user, group) = (Some(2101), Some(100));
            std::os::unix::fs::lchown(path, user, group).expect("tests of the cluster run as root");
        }
    }

    /// What the service wrote about its work so far.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// What lets `streamer` ask how its job stands.
    ///
    /// # Panics
    /// When there is no room for a token.
    pub fn api_options(&self) -> [String; 4] {
        let file = self.log.with_file_name("token");
        std::fs::write(&file, self.token()).expect("room for a token");
        let file = file.display().to_string();
        ["--api", &self.api, "--api-token-file", &file].map(str::to_owned)
    }

    /// URL of the API.
    pub fn url(&self) -> &str {
        &self.api
    }

    /// A command of Slurm, as root; what it prints.
    ///
    /// # Panics
    /// When it fails, or this is no cluster.
    pub fn slurm(&self, program: &str, arguments: &[&str]) -> String {
        let state = std::env::var("STREAMER_TEST_CLUSTER").expect("a cluster");
        let mut command = crate::cluster::slurm(Path::new(&state), program);
        command.args(arguments);
        let output = command.output().expect("Slurm is installed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn token(&self) -> &str {
        match &self.site {
            Site::Demo(demo) => demo.token(),
            Site::Cluster { token, .. } => token,
        }
    }

    /// Calls the API with the user's token.
    pub fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let headers = [
            format!("Authorization: Bearer {}", self.token()),
            "Content-Type: application/json".to_owned(),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        request(&self.api, method, path, &headers, &body)
    }

    /// Requests an `upload` or a `download`.
    ///
    /// # Panics
    /// When the API refuses.
    pub fn transfer(&self, verb: &str, path: &Path, directive: Value) -> Value {
        let body = json!({"path": path, "transferDirectives": directive});
        let route = format!("/filesystem/{}/transfer/{verb}", self.system());
        let answer = self.call("POST", &route, body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json
    }

    /// How a transfer stands.
    ///
    /// # Panics
    /// When the API does not say.
    pub fn state(&self, transfer: &Value) -> Value {
        let job = transfer["transferJob"]["jobId"].as_str().expect("an id");
        let path = format!("/filesystem/{}/transfer/{job}", self.system());
        let answer = self.call("GET", &path, Value::Null);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["transfer"].clone()
    }

    /// Waits until a transfer is in this state.
    ///
    /// # Panics
    /// When it is not in time, or ends before.
    pub fn until(&self, transfer: &Value, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.state(transfer);
            if now["state"] == state {
                return now;
            }
            let ended = ["done", "failed", "cancelled"]
                .iter()
                .any(|end| now["state"] == *end);
            let late = Instant::now() > deadline;
            assert!(!ended && !late, "{now}: {}", logs(transfer));
            // The state can only be asked for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Service {
    /// How a transfer stood when the scheduler was through with its job.
    ///
    /// # Panics
    /// When that takes too long.
    pub fn ended(&self, transfer: &Value) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.state(transfer);
            let state = now["jobState"].as_str().expect("a word");
            if !["PENDING", "CONFIGURING", "RUNNING", "COMPLETING"].contains(&state) {
                return now;
            }
            assert!(Instant::now() < deadline, "{now}: {}", logs(transfer));
            // The state can only be asked for.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Cancels the job of a transfer.
    ///
    /// # Panics
    /// When the API refuses.
    pub fn cancel(&self, transfer: &Value) {
        let job = transfer["transferJob"]["jobId"].as_str().expect("an id");
        let path = format!("/compute/{}/jobs/{job}", self.system());
        let answer = self.call("DELETE", &path, Value::Null);
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
}

fn cluster_token(provider: &str) -> String {
    let (id, secret) = ("firecrest-test-client", "wZVHVIEd9dkJDh9hMKc6DTvkqXxnDttk");
    let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let headers = ["Content-Type: application/x-www-form-urlencoded".to_owned()];
    let answer = request(provider, "POST", "/token", &headers, &body);
    let token = answer.json["access_token"].as_str();
    token
        .unwrap_or_else(|| panic!("{}", answer.text))
        .to_owned()
}

/// What the job of a transfer wrote.
pub fn logs(transfer: &Value) -> String {
    let read = |name: &str| {
        let path = transfer["transferJob"]["logs"][name].as_str();
        std::fs::read_to_string(path.unwrap_or_default()).unwrap_or_default()
    };
    format!("{}{}", read("outputLog"), read("errorLog"))
}

/// More than any step of these tests takes on a busy machine; one installs packages.
const PATIENCE: Duration = Duration::from_secs(180);

impl Drop for Service {
    fn drop(&mut self) {
        // Terminated, it ends its jobs.
        program::signal_process(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
    }
}
