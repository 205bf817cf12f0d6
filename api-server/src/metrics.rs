//! What is counted, and how `/metrics` tells it. Labels are bounded: routes, systems and
//! words of our own; never users, paths, job ids or anything else a client chooses.

use std::fmt;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted. Cheap to record: atomics behind a read lock.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    refused: Family<ReasonLabels, Counter>,
    backend_calls: Family<CallLabels, Counter>,
    backend_seconds: Family<BackendLabels, Histogram, fn() -> Histogram>,
    healthy: Family<ServiceLabels, Gauge>,
    checked: Family<SystemLabels, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    system: String,
    backend: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BackendLabels {
    system: String,
    backend: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    system: String,
    service: &'static str,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SystemLabels {
    system: String,
}

/// What a system was asked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A command line, over SSH or on this machine.
    Command,
    /// HTTP: the scheduler's REST service.
    Http,
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("firecrest"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            refused: Family::default(),
            backend_calls: Family::default(),
            backend_seconds: Family::new_with_constructor(seconds),
            healthy: Family::default(),
            checked: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The program", version);
        r.register("http_requests", "Answered requests", self.requests.clone());
        r.register_with_unit(
            "http_request_duration",
            "Time from the head of a request to the head of its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        let help = "Requests without an answer yet";
        r.register("http_requests_in_flight", help, self.in_flight.clone());
        let help = "Requests refused for their token";
        r.register("tokens_refused", help, self.refused.clone());
        let help = "Commands and HTTP requests sent to systems";
        r.register("backend_calls", help, self.backend_calls.clone());
        r.register_with_unit(
            "backend_call_duration",
            "Time that systems took to answer",
            Unit::Seconds,
            self.backend_seconds.clone(),
        );
        let help = "Last health check: 1 good, 0 bad";
        r.register("service_healthy", help, self.healthy.clone());
        r.register_with_unit(
            "health_check_timestamp",
            "End of the last complete health check, in unix time",
            Unit::Seconds,
            self.checked.clone(),
        );
        let started = Instant::now();
        r.register_collector(Box::new(Process { started }));
    }

    /// Everything in OpenMetrics text, which Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// A request has come in; the guard counts it as in flight.
    pub(crate) fn request(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request has been answered. `route` is the pattern it matched.
    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        let (method, route) = (known_method(method), route.to_owned());
        let labels = RouteLabels {
            method,
            route: route.clone(),
        };
        self.request_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let labels = RequestLabels {
            method,
            route,
            status,
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// A token was refused.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A system was asked something.
    pub fn backend_call(
        &self,
        system: &str,
        backend: Backend,
        outcome: &'static str,
        took: Duration,
    ) {
        let backend = match backend {
            Backend::Command => "command",
            Backend::Http => "http",
        };
        let system = system.to_owned();
        let labels = BackendLabels {
            system: system.clone(),
            backend,
        };
        self.backend_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
        let labels = CallLabels {
            system,
            backend,
            outcome,
        };
        self.backend_calls.get_or_create(&labels).inc();
    }

    /// A service was checked; `path` tells file systems apart.
    pub(crate) fn checked(
        &self,
        system: &str,
        service: &'static str,
        path: Option<&str>,
        healthy: bool,
    ) {
        let labels = ServiceLabels {
            system: system.to_owned(),
            service,
            path: path.unwrap_or_default().to_owned(),
        };
        self.healthy.get_or_create(&labels).set(i64::from(healthy));
    }

    /// A check of a system is complete.
    pub(crate) fn check_complete(&self, system: &str, unix_seconds: i64) {
        let labels = SystemLabels {
            system: system.to_owned(),
        };
        self.checked.get_or_create(&labels).set(unix_seconds);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Counts a request as in flight until it is dropped, answered or not.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// From a cached answer to a command that runs into its limit.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0,
];

/// Clients may send any word as a method.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 5] = ["GET", "POST", "PUT", "DELETE", "HEAD"];
    KNOWN
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

/// This process, read when it is asked for.
#[derive(Debug)]
struct Process {
    started: Instant,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(metric)
        };
        let uptime = self.started.elapsed().as_secs_f64();
        gauge(
            "uptime",
            "Time since the start",
            Some(&Unit::Seconds),
            uptime,
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge(
                "process_resident_memory",
                "Memory in use",
                Some(&Unit::Bytes),
                bytes,
            )?;
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let open = files.count() as f64;
            gauge("process_open_fds", "Open files and sockets", None, open)?;
        }
        Ok(())
    }
}

/// `VmRSS` of Linux, which counts in KiB.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::new();
        let open = metrics.request();
        metrics.answered("GET", "/status/systems", 200, Duration::from_millis(2));
        metrics.answered("BREW", "(none)", 404, Duration::ZERO);
        metrics.refused("expired");
        metrics.backend_call("c", Backend::Command, "ok", Duration::from_secs(1));
        metrics.checked("c", "filesystem", Some("/home"), false);
        metrics.check_complete("c", 1_700_000_000);
        let text = metrics.text();
        for line in [
            r#"firecrest_http_requests_total{method="GET",route="/status/systems",status="200"} 1"#,
            r#"firecrest_http_requests_total{method="other",route="(none)",status="404"} 1"#,
            r#"firecrest_http_request_duration_seconds_bucket{le="0.0025",method="GET",route="/status/systems"} 1"#,
            "firecrest_http_requests_in_flight 1",
            r#"firecrest_tokens_refused_total{reason="expired"} 1"#,
            r#"firecrest_backend_calls_total{system="c",backend="command",outcome="ok"} 1"#,
            r#"firecrest_service_healthy{system="c",service="filesystem",path="/home"} 0"#,
            r#"firecrest_health_check_timestamp_seconds{system="c"} 1700000000"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        drop(open);
        let text = metrics.text();
        assert!(text.contains("firecrest_http_requests_in_flight 0\n"));
        assert!(text.contains("firecrest_process_resident_memory_bytes "));
    }
}
