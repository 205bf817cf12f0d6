//! `firecrest-api demo`, and its API as a user calls it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::{Answer, request};
use crate::program;

/// A running demo, in a directory of its own.
#[derive(Debug)]
pub struct Demo {
    child: Child,
    /// Kept open: a demo that cannot print fails.
    _stdout: BufReader<ChildStdout>,
    directory: tempfile::TempDir,
    /// What it printed.
    pub text: String,
    /// Base URL of its API.
    pub api: String,
    token: String,
}

/// What a program needs to get tokens by itself.
#[derive(Debug)]
pub struct Credentials {
    /// Where.
    pub token_url: String,
    /// Of the client.
    pub id: String,
    /// Of the client.
    pub secret: String,
}

/// A transfer that was requested: its job and the way to its endpoint.
#[derive(Debug)]
pub struct Transfer {
    /// Id of the job.
    pub job: String,
    /// What the user gives to `streamer`.
    pub coordinates: String,
    /// The whole answer.
    pub answer: Value,
}

impl Transfer {
    /// Where the job writes its `outputLog` or `errorLog`.
    ///
    /// # Panics
    /// When the answer did not say.
    pub fn log_path(&self, name: &str) -> PathBuf {
        let path = self.answer["transferJob"]["logs"][name].as_str();
        path.expect("the path of a log").into()
    }

    /// Waits until the endpoint admitted a client.
    ///
    /// # Panics
    /// When that does not happen in time.
    pub fn wait_until_serving(&self) {
        let (log, deadline) = (self.log_path("outputLog"), Instant::now() + PATIENCE);
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains("serving ") {
                return;
            }
            assert!(Instant::now() < deadline, "no client was admitted: {text}");
            // A file can only be read again.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// More than any step of these tests takes on a busy machine, but for the bytes themselves.
const PATIENCE: Duration = Duration::from_secs(30);

impl Demo {
    /// Starts it, and gets a token by client credentials.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with more options.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with(options: &[&str]) -> Self {
        let directory = crate::file::directory();
        // Found beside firecrest-api; asked for here to say so when it is missing.
        program::path("streamer");
        let mut command = Command::new(program::path("firecrest-api"));
        command
            .args(["demo", "--port", "0", "--dir"])
            .arg(directory.path())
            .args(options);
        let log = std::fs::File::create(directory.path().join("demo.log")).expect("a log file");
        // Job scripts lie in the temporary directory of the service.
        command.env("TMPDIR", directory.path());
        command.env("RUST_LOG", "debug").env("NO_COLOR", "1");
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the demo starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut text = String::new();
        while !text.contains("Stop with") {
            let length = stdout.read_line(&mut text).expect("readable output");
            assert!(length > 0, "the demo ended: {text}");
        }
        let mut demo = Self {
            child,
            _stdout: stdout,
            directory,
            api: after(&text, "  API "),
            token: String::new(),
            text,
        };
        demo.token = demo.new_token();
        demo
    }

    /// What it keeps its files in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A token of the demo's user.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The user's directory on the demo's system.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("work/demo")
    }

    /// The script of a running job.
    ///
    /// # Panics
    /// When there is none.
    pub fn script(&self, job: &str) -> String {
        let entries = std::fs::read_dir(self.directory.path()).expect("a directory");
        let mut scripts = entries.flatten().filter_map(|entry| {
            std::fs::read_to_string(entry.path().join(format!("job{job}-script"))).ok()
        });
        scripts.next().expect("the script of the job")
    }

    /// What the service wrote about its work so far.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("demo.log")).expect("a log")
    }

    /// Calls the API with the token.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [
            format!("Authorization: Bearer {}", self.token),
            "Content-Type: application/json".to_owned(),
        ];
        request(&self.api, method, path, &headers, body)
    }

    /// Requests a `download` or `upload` by streamer.
    ///
    /// # Panics
    /// When the API refuses.
    pub fn transfer(&self, verb: &str, path: &Path) -> Transfer {
        let body = json!({"path": path, "transferDirectives": {"transferMethod": "streamer"}});
        let route = format!("/filesystem/demo/transfer/{verb}");
        let answer = self.call("POST", &route, &body.to_string());
        assert_eq!(answer.status, 201, "{}", answer.text);
        let answer = answer.json;
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        Transfer {
            job: text(&answer["transferJob"]["jobId"]),
            coordinates: text(&answer["transferDirectives"]["coordinates"]),
            answer,
        }
    }

    /// The job, once its state is none of those before the end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn ended(&self, job: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.call("GET", &format!("/compute/demo/jobs/{job}"), "");
            assert_eq!(answer.status, 200, "{}", answer.text);
            let job = &answer.json["jobs"][0];
            let state = job["status"]["state"].as_str().expect("a state");
            if !["PENDING", "RUNNING"].contains(&state) {
                return job.clone();
            }
            assert!(Instant::now() < deadline, "still {state}: {}", answer.text);
            // The state can only be asked for.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it printed for scripts.
    ///
    /// # Panics
    /// When it did not.
    pub fn credentials(&self) -> Credentials {
        let both = after(&self.text, "curl -s -u ");
        let (id, secret) = both.split_once(':').expect("id:secret");
        Credentials {
            token_url: format!("{}/token", after(&self.text, "  Login ")),
            id: id.to_owned(),
            secret: secret.to_owned(),
        }
    }

    fn new_token(&self) -> String {
        let Credentials { id, secret, .. } = self.credentials();
        let identity = after(&self.text, "  Login ");
        let body = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let headers = ["Content-Type: application/x-www-form-urlencoded".to_owned()];
        let answer = request(&identity, "POST", "/token", &headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let token = answer.json["access_token"].as_str();
        token.expect("an access token").to_owned()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Terminated, it ends its jobs and removes its files.
        if matches!(self.child.try_wait(), Ok(None)) {
            program::signal_process(self.child.id(), Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The word after `label`.
fn after(text: &str, label: &str) -> String {
    let (_, rest) = text
        .split_once(label)
        .unwrap_or_else(|| panic!("no {label:?}: {text}"));
    rest.split_whitespace().next().expect("a word").to_owned()
}
