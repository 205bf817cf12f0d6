//! `firecrest-api serve` as a process.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::http::{Answer, request};
use crate::program;

/// A running server with a configuration of its own.
#[derive(Debug)]
pub struct Service {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
    /// Base URL.
    pub url: String,
}

impl Service {
    /// Starts it with this configuration, on a free port of loopback.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config).expect("a file can be written");
        let mut command = Command::new(program::path("firecrest-api"));
        command.args(["serve", "--port", "0", "--config"]).arg(file);
        command.current_dir(directory.path());
        command.env("RUST_LOG", "info").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(std::fs::File::create(directory.path().join("stdout")).expect("a file"));
        let mut child = command.spawn().expect("firecrest-api starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listening address=") {
                    // Nobody waits for a second one.
                    let _ = found.send(address.trim().to_owned());
                }
                let mut log = written.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = address.recv_timeout(START_TIMEOUT);
        let log_text = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let address = address.unwrap_or_else(|_| panic!("no address in the log:\n{}", log_text()));
        Self {
            child,
            reader: Some(reader),
            directory,
            url: format!("http://{address}"),
            log,
        }
    }

    /// Calls the API with a token and a JSON body, null for none.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn call(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [
            format!("Authorization: Bearer {token}"),
            "Content-Type: application/json".to_owned(),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        request(&self.url, method, path, &headers, &body)
    }

    /// The answer to a GET.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, token: &str, path: &str) -> Answer {
        self.call(token, "GET", path, &Value::Null)
    }

    /// Waits until it has logged these words: its answer may come before they were read.
    ///
    /// # Panics
    /// When they do not come.
    #[track_caller]
    pub fn wait_for_log(&self, words: &str) {
        let begun = std::time::Instant::now();
        while !self.log().contains(words) {
            let waited = begun.elapsed();
            assert!(waited.as_secs() < 10, "no '{words}' in: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Where its standard output goes.
    pub fn stdout(&self) -> PathBuf {
        self.directory.path().join("stdout")
    }

    /// Asks it to stop.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn terminate(&self) {
        program::signal_process(self.child.id(), Signal::TERM);
    }

    /// Waits for its end; its exit code and everything it logged.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("it can be waited for").code();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("its log can be read");
        }
        (code, self.log())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Has ended already, unless the test does not wait for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const START_TIMEOUT: Duration = Duration::from_secs(30);
