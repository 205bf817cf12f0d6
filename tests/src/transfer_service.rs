//! `firecrest-api serve` with a configuration of the test's own, beside a demo whose users it
//! knows.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::demo::Demo;
use crate::http::{Answer, request};
use crate::program;

/// A running service. Its system `demo` is the demo's, with more ways of transfer.
#[derive(Debug)]
pub struct Service {
    child: Child,
    demo: Demo,
    log: PathBuf,
    api: String,
}

impl Service {
    /// Starts it with these `data_transfers` besides the demo's own.
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
        let file = demo.directory().join("service.yaml");
        std::fs::write(&file, config.to_string()).expect("room for the configuration");
        let log = demo.directory().join("service.log");
        let mut command = Command::new(program::path("firecrest-api"));
        command.args(["serve", "--host", "127.0.0.1", "--port", "0", "--config"]);
        command.arg(&file).env("TMPDIR", demo.directory());
        command.env("RUST_LOG", "debug").env("NO_COLOR", "1");
        let out = std::fs::File::create(&log).expect("a log file");
        command.stdout(Stdio::null()).stderr(out);
        let child = command.spawn().expect("the service starts");
        let mut service = Self {
            child,
            demo,
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
            assert!(Instant::now() < deadline, "the service is not up: {log}");
            // A file can only be read again.
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    /// The user's directory on the system.
    pub fn home(&self) -> PathBuf {
        self.demo.home()
    }

    /// What the service wrote about its work so far.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// Calls the API with the user's token.
    pub fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let headers = [
            format!("Authorization: Bearer {}", self.demo.token()),
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
    pub fn transfer(&self, verb: &str, path: &std::path::Path, directive: Value) -> Value {
        let body = json!({"path": path, "transferDirectives": directive});
        let route = format!("/filesystem/demo/transfer/{verb}");
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
        let path = format!("/filesystem/demo/transfer/{job}");
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

/// What the job of a transfer wrote.
pub fn logs(transfer: &Value) -> String {
    let read = |name: &str| {
        let path = transfer["transferJob"]["logs"][name].as_str();
        std::fs::read_to_string(path.unwrap_or_default()).unwrap_or_default()
    };
    format!("{}{}", read("outputLog"), read("errorLog"))
}

/// More than any step of these tests takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Drop for Service {
    fn drop(&mut self) {
        // Terminated, it ends its jobs.
        program::signal_process(self.child.id(), Signal::TERM);
        let _ = self.child.wait();
    }
}
