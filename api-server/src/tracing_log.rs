//! The tracing log of `logger.enable_tracing_log`: two JSON records for each request, one a
//! line. Field names are those of existing installations, which parse them.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::config::{LoggableHeader, LoggerConfig};
use crate::context::{BackendCall, RequestContext};
use crate::limits;

/// Writes the records.
pub struct TracingLog {
    headers: Vec<LoggableHeader>,
    out: Mutex<Box<dyn Write + Send>>,
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
    pub fn new(config: &LoggerConfig, out: Box<dyn Write + Send>) -> Option<Self> {
        config.enable_tracing_log.then(|| Self {
            headers: config.loggable_request_headers.clone(),
            out: Mutex::new(out),
        })
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
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that nobody reads any more must not stop the service.
        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    }
}

impl std::fmt::Debug for TracingLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { headers, out: _ } = self;
        f.debug_struct("TracingLog")
            .field("headers", headers)
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

    #[test]
    fn times_are_written_as_python_writes_them() {
        let at = Timestamp::from_millisecond(1_744_735_917_598).unwrap();
        assert_eq!(asctime(at), "2025-04-15 16:51:57,598");
    }
}
