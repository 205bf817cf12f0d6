//! `demo --check`: the whole way of a file, both directions, as a user would go it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;

use super::{Demo, SYSTEM};
use crate::Secret;
use crate::http_client::{FetchError, HttpClient};

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A request could not be made.
    #[error("{what}")]
    Http {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// The API answered something else than was needed.
    #[error("{what}: the API answered {status}: {message}")]
    Answer {
        /// To which request.
        what: &'static str,
        /// With which status.
        status: u16,
        /// Saying what.
        message: String,
    },
    /// `streamer` failed.
    #[error("{} {verb} ended with {status}: {stderr}", program.display())]
    Streamer {
        /// Which program.
        program: PathBuf,
        /// Doing what.
        verb: &'static str,
        /// How.
        status: String,
        /// Saying what.
        stderr: String,
    },
    /// A file could not be made or read.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The bytes differ.
    #[error("{} is not the file that was sent", path.display())]
    Different {
        /// Which.
        path: PathBuf,
    },
    /// The job ended otherwise than COMPLETED, or not in time.
    #[error("the {verb} job is {state}; its log says: {log}")]
    Job {
        /// Doing what.
        verb: &'static str,
        /// Its last state.
        state: String,
        /// The end of its error log.
        log: String,
    },
    /// No TLS roots, needed by the client library.
    #[error("the HTTP client could not be made")]
    Client(#[source] std::io::Error),
}

/// Moves a random file of `size` bytes out and in again, telling `report` each step.
///
/// # Errors
/// Names the first step that failed. Not cancel-safe: a job may go on until its time is over.
pub async fn run(
    demo: &Demo,
    size: u64,
    mut report: impl FnMut(&str, Duration),
) -> Result<(), CheckError> {
    let started = Instant::now();
    let check = Check::log_in(demo).await?;
    report("token by client credentials", started.elapsed());

    let here = demo.home.join("check");
    std::fs::create_dir_all(&here).map_err(file(&here))?;
    let source = demo.home.join("check-source.bin");
    let started = Instant::now();
    let sent = write_random(source.clone(), size).await?;
    report(&format!("random file of {size} bytes"), started.elapsed());

    let local = here.join("downloaded.bin");
    let started = Instant::now();
    check.transfer(Direction::Download, &source, &local).await?;
    report(
        &rate("download: request, job, streamer receive", size, started),
        started.elapsed(),
    );
    compare(&local, &sent).await?;
    report("download verified, job COMPLETED", started.elapsed());

    let target = demo.home.join("check-target.bin");
    let started = Instant::now();
    check.transfer(Direction::Upload, &target, &local).await?;
    report(
        &rate("upload: request, job, streamer send", size, started),
        started.elapsed(),
    );
    compare(&target, &sent).await?;
    report("upload verified, job COMPLETED", started.elapsed());
    for path in [&source, &local, &target] {
        std::fs::remove_file(path).map_err(file(path))?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Download,
    Upload,
}

impl Direction {
    /// Verb of the API, verb of the client.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Self::Download => ("download", "receive"),
            Self::Upload => ("upload", "send"),
        }
    }
}

struct Check<'a> {
    demo: &'a Demo,
    http: HttpClient,
    token: Secret,
}

impl<'a> Check<'a> {
    async fn log_in(demo: &'a Demo) -> Result<Self, CheckError> {
        let http = HttpClient::new().map_err(CheckError::Client)?;
        let credentials = format!("{}:{}", demo.client_id, demo.client_secret.expose());
        let request = Request::post(format!("{}/token", demo.identity_url))
            .header(
                header::AUTHORIZATION,
                format!("Basic {}", STANDARD.encode(credentials)),
            )
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = Bytes::from_static(b"grant_type=client_credentials");
        let answer = exchange(&http, request, body, "token").await?;
        let token = Secret::new(answer["access_token"].as_str().unwrap_or_default());
        Ok(Self { demo, http, token })
    }

    async fn transfer(
        &self,
        direction: Direction,
        remote: &Path,
        local: &Path,
    ) -> Result<(), CheckError> {
        let (verb, client_verb) = direction.verbs();
        let body = json!({"path": remote, "transferDirectives": {"transferMethod": "streamer"}});
        let path = format!("/filesystem/{SYSTEM}/transfer/{verb}");
        let answer = self.call("POST", &path, Some(&body), verb).await?;
        let coordinates = &answer["transferDirectives"]["coordinates"];
        self.streamer(client_verb, coordinates.as_str().unwrap_or_default(), local)
            .await?;
        self.completed(verb, &answer["transferJob"]).await
    }

    async fn streamer(
        &self,
        verb: &'static str,
        coordinates: &str,
        path: &Path,
    ) -> Result<(), CheckError> {
        let program = &self.demo.streamer;
        let mut command = tokio::process::Command::new(program);
        command
            .arg(verb)
            .arg("--path")
            .arg(path)
            .arg("--no-progress");
        command
            .env("STREAMER_COORDINATES", coordinates)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(file(program))?;
        let stderr = said(child.stderr.take()).await.map_err(file(program))?;
        let status = child.wait().await.map_err(file(program))?;
        if status.success() {
            return Ok(());
        }
        Err(CheckError::Streamer {
            program: program.clone(),
            verb,
            status: status.to_string(),
            stderr,
        })
    }

    /// Asks until the job has ended; the endpoint leaves within moments of its client.
    async fn completed(&self, verb: &'static str, job: &Value) -> Result<(), CheckError> {
        let path = format!(
            "/compute/{SYSTEM}/jobs/{}",
            job["jobId"].as_str().unwrap_or_default()
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.call("GET", &path, None, "job").await?;
            let state = answer["jobs"][0]["status"]["state"]
                .as_str()
                .unwrap_or_default();
            if state == "COMPLETED" {
                return Ok(());
            }
            if !["PENDING", "RUNNING"].contains(&state) || Instant::now() > deadline {
                let log = job["logs"]["errorLog"].as_str().unwrap_or_default();
                let log = end_of(log).unwrap_or_default();
                return Err(CheckError::Job {
                    verb,
                    state: state.to_owned(),
                    log,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        what: &'static str,
    ) -> Result<Value, CheckError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.demo.api_url))
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.token.expose()),
            )
            .header(header::CONTENT_TYPE, "application/json");
        let body = body.map(|body| body.to_string().into()).unwrap_or_default();
        exchange(&self.http, request, body, what).await
    }
}

/// The beginning of what a program complains; it is let finish.
async fn said(pipe: Option<ChildStderr>) -> std::io::Result<String> {
    let Some(mut pipe) = pipe else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    (&mut pipe)
        .take(SHOWN_MAX_BYTES)
        .read_to_end(&mut bytes)
        .await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// The end of a log.
fn end_of(path: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut log = std::fs::File::open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(SHOWN_MAX_BYTES)))?;
    let mut bytes = Vec::new();
    log.take(SHOWN_MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// How much of what a program says is shown.
const SHOWN_MAX_BYTES: u64 = 64 * 1024;
const POLL: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(30);

async fn exchange(
    http: &HttpClient,
    request: axum::http::request::Builder,
    body: Bytes,
    what: &'static str,
) -> Result<Value, CheckError> {
    let failed = |source| CheckError::Http { what, source };
    let request = request
        .body(Full::from(body))
        .map_err(|_| failed(FetchError::Malformed))?;
    let (status, bytes) = http.exchange(request, TIMEOUT).await.map_err(failed)?;
    let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() {
        return Ok(answer);
    }
    let message = answer["message"]
        .as_str()
        .or_else(|| answer["error"].as_str())
        .unwrap_or_default();
    Err(CheckError::Answer {
        what,
        status: status.as_u16(),
        message: message.to_owned(),
    })
}

/// Writes the file and gives its SHA-256.
async fn write_random(path: PathBuf, size: u64) -> Result<Vec<u8>, CheckError> {
    let at = path.clone();
    blocking(at, move || {
        use ring::rand::SecureRandom as _;
        use std::io::Write as _;
        let random = ring::rand::SystemRandom::new();
        let mut out = std::fs::File::create(&path)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let (mut block, mut left) = (vec![0; BLOCK_BYTES], size);
        while left > 0 {
            let length = left.min(BLOCK_BYTES as u64);
            let part = &mut block[..usize::try_from(length).unwrap_or(BLOCK_BYTES)];
            random
                .fill(part)
                .map_err(|_| std::io::Error::other("no randomness"))?;
            out.write_all(part)?;
            context.update(part);
            left -= length;
        }
        Ok(context.finish().as_ref().to_vec())
    })
    .await
}

async fn compare(path: &Path, expected: &[u8]) -> Result<(), CheckError> {
    let at = path.to_owned();
    let found = blocking(at.clone(), move || {
        use std::io::Read as _;
        let mut file = std::fs::File::open(&at)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(context.finish().as_ref().to_vec()),
                length => context.update(&block[..length]),
            }
        }
    });
    match found.await? == expected {
        true => Ok(()),
        false => Err(CheckError::Different {
            path: path.to_owned(),
        }),
    }
}

const BLOCK_BYTES: usize = 1024 * 1024;

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, CheckError> {
    let result = tokio::task::spawn_blocking(work).await;
    result
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(file(&path))
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn rate(what: &str, size: u64, started: Instant) -> String {
    let mebibytes = size as f64 / f64::from(1 << 20);
    format!(
        "{what} ({:.1} MiB/s, start of the job included)",
        mebibytes / started.elapsed().as_secs_f64()
    )
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> CheckError {
    let path = path.to_owned();
    move |source| CheckError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_programs_say_is_shown_in_part() {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "echo first >&2; head -c 1000000 /dev/zero >&2"]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let text = said(child.stderr.take()).await.unwrap();
        assert!(text.starts_with("first") && text.len() as u64 == SHOWN_MAX_BYTES);
        assert!(child.wait().await.unwrap().success());
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), format!("{}last\n", "x".repeat(1_000_000))).unwrap();
        let text = end_of(log.path().to_str().unwrap()).unwrap();
        assert!(text.ends_with("last") && text.len() as u64 == SHOWN_MAX_BYTES - 1);
    }
}
