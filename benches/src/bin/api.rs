//! Requests per second of `firecrest-api` before a real cluster; `--help` for the options.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use streamer_benches::host::Host;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Serves a cluster of tests/cluster/cluster.sh, and asks it for three things over connections
/// that stay open: what systems there are, a directory, and the caller's jobs.
#[derive(Debug, Parser)]
#[command(name = "api", version)]
struct Args {
    /// State directory of the cluster.
    #[arg(long, env = "STREAMER_TEST_CLUSTER", value_name = "DIR")]
    cluster: PathBuf,
    /// The `firecrest-api` to measure. Default: the one beside this program.
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// How many ask at once; once for each.
    #[arg(long, value_delimiter = ',', default_value = "1,50,500")]
    clients: Vec<usize>,
    /// How long each is measured, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only routes whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
}

const ROUTES: &[(&str, &str)] = &[
    ("status/systems", "/status/systems"),
    (
        "ops/ls",
        "/filesystem/cluster-slurm-ssh/ops/ls?path=/home/fireuser",
    ),
    ("compute/jobs", "/compute/cluster-slurm-ssh/jobs"),
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let server = Server::start(args)?;
    let token = token(&args.cluster)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<16} {:>7} {:>10} {:>8} {:>8} {:>8} {:>8} {:>11} {:>8}",
        "route",
        "clients",
        "requests/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "failed",
        "resident MB",
        "stolen %"
    )?;
    for (name, path) in ROUTES.iter().filter(|(name, _)| name.contains(&args.only)) {
        let request = Arc::new(format!(
            "GET {path} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        runtime.block_on(one(server.port, &request))?;
        for &clients in &args.clients {
            let length = Duration::from_secs(args.seconds);
            let host = Host::watch();
            let load = runtime.block_on(load(server.port, &request, clients, length))?;
            writeln!(
                out,
                "{name:<16} {clients:>7} {:>10.1} {:>8.2} {:>8.2} {:>8.2} {:>8} {:>11.1} {:>8.1}",
                load.rate(),
                load.percentile(0.50),
                load.percentile(0.95),
                load.percentile(0.99),
                load.failed,
                server.resident_megabytes()?,
                host.stolen_percent().unwrap_or(f64::NAN),
            )?;
        }
    }
    Ok(())
}

/// What a number of clients met with.
#[derive(Debug, Default)]
struct Load {
    /// Seconds of each answer with status 200, ascending.
    latencies: Vec<f64>,
    failed: usize,
    seconds: f64,
}

impl Load {
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies
            .get(at)
            .map_or(f64::NAN, |seconds| seconds * 1000.0)
    }
}

async fn load(
    port: u16,
    request: &Arc<String>,
    clients: usize,
    length: Duration,
) -> anyhow::Result<Load> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(port).await?);
    }
    let start = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let request = Arc::clone(request);
            tokio::spawn(async move {
                let (mut latencies, mut failed) = (Vec::new(), 0);
                while start.elapsed() < length {
                    let asked = Instant::now();
                    match connection.ask(&request).await? {
                        200 => latencies.push(asked.elapsed().as_secs_f64()),
                        _ => failed += 1,
                    }
                }
                anyhow::Ok((latencies, failed))
            })
        })
        .collect();
    let mut load = Load::default();
    for task in tasks {
        let (latencies, failed) = task.await??;
        load.latencies.extend(latencies);
        load.failed += failed;
    }
    load.seconds = start.elapsed().as_secs_f64();
    load.latencies.sort_by(f64::total_cmp);
    Ok(load)
}

/// One request that must succeed: it opens what later ones share.
async fn one(port: u16, request: &str) -> anyhow::Result<()> {
    match Connection::open(port).await?.ask(request).await? {
        200 => Ok(()),
        status => bail!("the first answer has status {status}"),
    }
}

/// A connection that stays open.
struct Connection {
    stream: tokio::io::BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: tokio::io::BufReader::new(stream),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// Asks, reads the whole answer, and hands back its status.
    async fn ask(&mut self, request: &str) -> anyhow::Result<u16> {
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        let (mut status, mut length) = (None, 0);
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line).await? == 0 {
                bail!("the server closed the connection");
            }
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await?;
        status.context("no status line")
    }
}

/// A running server.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(args: &Args) -> anyhow::Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("firecrest-api");
        let program = args.server.clone().unwrap_or(beside);
        let mut command = Command::new(&program);
        command.args(["serve", "--port", "0", "--config"]);
        command.arg(args.cluster.join("firecrest.yaml"));
        command
            .env("RUST_LOG", "warn,firecrest_api=info")
            .env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.with_context(|| format!("starting {}", program.display()))?;
        let mut log = BufReader::new(child.stderr.take().context("its log is a pipe")?);
        let mut text = String::new();
        let port = loop {
            if log.read_line(&mut text)? == 0 {
                bail!("the server ended: {text}");
            }
            let address = text.trim_end().rsplit_once("listening address=");
            if let Some((_, port)) = address.and_then(|(_, address)| address.rsplit_once(':')) {
                break port.parse()?;
            }
        };
        // A full pipe would stop it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { child, port })
    }

    fn resident_megabytes(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|text| text.split_whitespace().next())
            .context("no VmRSS")?;
        Ok(kib.parse::<f64>()? * 1024.0 / 1e6)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended; nothing else is to be done about it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token of `fireuser`, as the cluster's own script gets it.
fn token(cluster: &Path) -> anyhow::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cluster/cluster.sh");
    let output = Command::new(&script).arg(cluster).arg("token").output();
    let output = output.with_context(|| format!("starting {}", script.display()))?;
    if !output.status.success() {
        bail!(
            "no token: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
