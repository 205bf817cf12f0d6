//! The tracing log of `logger.enable_tracing_log`: two JSON records for each request, one a
//! line. Field names are those of existing installations, which parse them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::config::{LoggableHeader, LoggerConfig};
use crate::context::{BackendCall, RequestContext};
use crate::limits;

/// Writes the records, on a thread of its own: who reads them may be slow, or have stopped, and no
/// request waits for that.
pub struct TracingLog {
    headers: Vec<LoggableHeader>,
    lines: SyncSender<Line>,
    counts: Arc<Counts>,
}

/// What both sides of the queue keep.
#[derive(Debug, Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    /// Records that were dropped, and not told of yet.
    lost: AtomicU64,
}

/// For the thread that writes.
enum Line {
    Record(String),
    /// Everything before this is written.
    Mark(SyncSender<()>),
}

/// One request, as far as both of its records tell.
#[derive(Debug)]
pub(crate) struct Traced<'a> {
    /// Path without the root path.
    pub(crate) path: &'a str,
    pub(crate) method: &'a str,
    /// The configured request headers, taken before the request is gone.
    pub(crate) headers: Map<String, Value>,
}

impl TracingLog {
    /// A log to `out`, one line at a time; `None` unless it is enabled.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn new(config: &LoggerConfig, out: Box<dyn Write + Send>) -> std::io::Result<Option<Self>> {
        if !config.enable_tracing_log {
            return Ok(None);
        }
        let (lines, queue) = sync_channel(limits::TRACING_LOG_RECORDS_MAX);
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        let writer = std::thread::Builder::new().name("tracing-log".to_owned());
        writer.spawn(move || write_all(&queue, out, &counted))?;
        Ok(Some(Self {
            headers: config.loggable_request_headers.clone(),
            lines,
            counts,
        }))
    }

    /// Waits until what was recorded is written, but not for long.
    pub fn flush(&self) {
        let (mark, written) = sync_channel(1);
        if self.lines.try_send(Line::Mark(mark)).is_ok() {
            // Who does not read it by then will not.
            let _ = written.recv_timeout(limits::TRACING_LOG_FLUSH_TIMEOUT);
        }
    }

    /// Whether requests to this path are recorded: not the probes of the platform.
    pub(crate) fn covers(path: &str) -> bool {
        !path.starts_with("/status/liveness") && path != "/metrics"
    }

    /// The configured headers of a request, under their names in the log.
    pub(crate) fn headers(&self, headers: &HeaderMap) -> Map<String, Value> {
        let found = self.headers.iter().filter_map(|wanted| {
            let value = headers.get(&wanted.input)?;
            let text = String::from_utf8_lossy(value.as_bytes());
            let text: String = text.chars().take(limits::LOGGED_HEADER_MAX_CHARS).collect();
            Some((wanted.output.clone(), Value::String(text)))
        });
        found.collect()
    }

    pub(crate) fn requesting(&self, request: &Traced<'_>, context: &RequestContext) {
        self.write(&record("Requesting", request, context, None, None));
    }

    pub(crate) fn responding(
        &self,
        request: &Traced<'_>,
        context: &RequestContext,
        user: Option<&str>,
        status: u16,
    ) {
        self.write(&record("Responding", request, context, user, Some(status)));
    }

    fn write(&self, record: &Value) {
        let line = format!("{record}\n");
        let (counts, bytes) = (&self.counts, line.len());
        let waiting = counts.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let queued = waiting <= limits::TRACING_LOG_MAX_BYTES
            && self.lines.try_send(Line::Record(line)).is_ok();
        if !queued {
            counts.waiting.fetch_sub(bytes, Ordering::Relaxed);
            // By the thread that writes nothing is told while it waits for who reads.
            if counts.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!("the tracing log is not read: records are lost");
            }
        }
    }
}

impl Counts {
    /// Says how many were lost; after this the next one is told of at once again.
    fn tell(&self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(
                records = lost,
                "the tracing log was read too slowly: records were lost"
            );
        }
    }
}

/// Until the log is dropped.
fn write_all(queue: &Receiver<Line>, mut out: Box<dyn Write + Send>, counts: &Counts) {
    let mut told: Option<Instant> = None;
    loop {
        let line = match queue.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                counts.tell();
                match queue.recv() {
                    Ok(line) => line,
                    Err(_) => break,
                }
            }
        };
        match line {
            Line::Record(line) => {
                // A log that nobody reads any more must not stop the service.
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                counts.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Line::Mark(written) => {
                counts.tell();
                let _ = written.send(());
            }
        }
        if told.is_none_or(|at| at.elapsed() >= limits::TRACING_LOG_LOSS_INTERVAL) {
            counts.tell();
            told = Some(Instant::now());
        }
    }
    counts.tell();
}

impl std::fmt::Debug for TracingLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            headers,
            lines: _,
            counts,
        } = self;
        f.debug_struct("TracingLog")
            .field("headers", headers)
            .field("counts", counts)
            .finish_non_exhaustive()
    }
}

fn record(
    verb: &str,
    request: &Traced<'_>,
    context: &RequestContext,
    user: Option<&str>,
    status: Option<u16>,
) -> Value {
    let mut segments = request
        .path
        .split('/')
        .filter(|segment| !segment.is_empty());
    let (resource, system) = (segments.next(), segments.next());
    let mut record = json!({
        "asctime": asctime(Timestamp::now()),
        "levelname": "INFO",
        "name": "f7t_v2_tracing_log",
        "message": format!("{verb}: {}", request.path),
        "username": user,
    });
    // Local invariant: the literal above is an object.
    let Some(fields) = record.as_object_mut() else {
        return record;
    };
    if let Some(system) = system {
        fields.insert("system_name".to_owned(), system.into());
    }
    fields.insert("endpoint".to_owned(), request.path.into());
    fields.insert("resource".to_owned(), resource.into());
    fields.insert("http_request_method".to_owned(), request.method.into());
    fields.insert("http_response_status_code".to_owned(), status.into());
    let ids = [
        ("correlation_id", &context.correlation_id),
        ("request_id", &context.request_id),
    ];
    for (name, id) in ids {
        fields.insert(name.to_owned(), id.as_str().into());
    }
    fields.extend(request.headers.clone());
    if let Some(call) = context.last_call() {
        fields.insert("backend".to_owned(), backend(call));
    }
    record
}

/// Statuses are texts there.
fn backend(call: BackendCall) -> Value {
    match call {
        BackendCall::Command {
            command,
            exit_status,
        } => json!({"command": command, "exit_status": exit_status.map(|code| code.to_string())}),
        BackendCall::Http { url, status } => {
            json!({"url": url, "response_status": status.map(|status| status.to_string())})
        }
    }
}

/// As Python's logging writes it, in UTC.
fn asctime(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_fields_that_installations_parse() {
        let context = RequestContext::new("r".into(), "c".into());
        let mut headers = Map::new();
        headers.insert("user_agent".into(), "curl".into());
        let request = Traced {
            path: "/status/c1/nodes",
            method: "GET",
            headers,
        };
        let first = record("Requesting", &request, &context, None, None);
        assert_eq!(first["message"], "Requesting: /status/c1/nodes");
        assert_eq!(first["username"], Value::Null);
        assert_eq!(first["http_response_status_code"], Value::Null);
        assert_eq!(first["system_name"], "c1");
        assert_eq!(first["resource"], "status");
        assert_eq!(first["user_agent"], "curl");
        assert_eq!(first.get("backend"), None);
        let last = record("Responding", &request, &context, Some("bob"), Some(200));
        assert_eq!(last["username"], "bob");
        assert_eq!(last["http_response_status_code"], 200);
        let short = Traced {
            path: "/nowhere",
            method: "GET",
            headers: Map::new(),
        };
        let record = record("Requesting", &short, &context, None, None);
        assert_eq!(record.get("system_name"), None);
    }

    /// Says when it is asked for the first time, and takes nothing until it is told to.
    struct Stalled {
        asked: SyncSender<()>,
        go: Receiver<()>,
        taken: Arc<AtomicU64>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.asked.try_send(()).is_ok() {
                let _ = self.go.recv();
            }
            self.taken.fetch_add(1, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_no_request() {
        let (asked, is_asked) = sync_channel(1);
        let (goes, go) = sync_channel(1);
        let taken = Arc::new(AtomicU64::new(0));
        let out = Stalled {
            asked,
            go,
            taken: Arc::clone(&taken),
        };
        let config = LoggerConfig {
            enable_tracing_log: true,
            ..LoggerConfig::default()
        };
        let log = TracingLog::new(&config, Box::new(out)).unwrap().unwrap();
        let context = RequestContext::new("r".into(), "c".into());
        let request = Traced {
            path: "/",
            method: "GET",
            headers: Map::new(),
        };
        log.requesting(&request, &context);
        // The thread has taken it out of the queue, which is filled now, and two more.
        let soon = std::time::Duration::from_secs(20);
        is_asked.recv_timeout(soon).unwrap();
        let most = limits::TRACING_LOG_RECORDS_MAX;
        let told = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(std::sync::Mutex::new(told.reopen().unwrap()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..most + 2 {
                log.requesting(&request, &context);
            }
        });
        assert_eq!(log.counts.lost.load(Ordering::Relaxed), 2);
        // Once, and while nobody reads.
        let told = std::fs::read_to_string(told.path()).unwrap();
        assert_eq!(told.matches("records are lost").count(), 1, "{told}");
        // Full: there is nothing to wait for.
        log.flush();
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        goes.send(()).unwrap();
        drop(goes);
        let deadline = Instant::now() + soon;
        while taken.load(Ordering::Relaxed) < most as u64 + 1 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        log.responding(&request, &context, None, 200);
        log.flush();
        assert_eq!(taken.load(Ordering::Relaxed), most as u64 + 2);
        let Counts { waiting, lost } = &*log.counts;
        assert_eq!(
            (
                waiting.load(Ordering::Relaxed),
                lost.load(Ordering::Relaxed)
            ),
            (0, 0)
        );
        let long = "x".repeat(limits::TRACING_LOG_MAX_BYTES);
        let request = Traced {
            path: &long,
            ..request
        };
        log.requesting(&request, &context);
        log.flush();
        assert_eq!(taken.load(Ordering::Relaxed), most as u64 + 2);
    }

    #[test]
    fn times_are_written_as_python_writes_them() {
        let at = Timestamp::from_millisecond(1_744_735_917_598).unwrap();
        assert_eq!(asctime(at), "2025-04-15 16:51:57,598");
    }
}
