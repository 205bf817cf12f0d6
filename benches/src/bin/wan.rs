//! Long, lossy and narrow links: how much of the link a whole command uses; `--help` for the
//! options.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use clap::Parser;
use serde_json::Value;
use streamer_benches::binary::build_streamer;

/// Moves a file over emulated links with ours, in both directions, and with curl over TLS, and
/// shows the goodput of whole commands as a share of the link. Runs `side-by-side --set wan`
/// inside each link, so every result is compared with its source. Needs root.
///
/// The links are made by `wanem`, a link emulator in user space that is not part of this
/// workspace. Without it, shape a veth pair with `tc qdisc add dev DEV root netem delay 25ms
/// loss 0.01% rate 1gbit limit 5000` in two namespaces and run `side-by-side --set wan` with
/// WANEM_CLIENT_NS, WANEM_SERVER_NS and WANEM_SERVER_IP set to what `ip netns` knows them by.
#[derive(Debug, Parser)]
#[command(name = "wan", version)]
struct Args {
    /// The emulator.
    #[arg(long, value_name = "PATH")]
    wanem: PathBuf,
    /// Only these links.
    #[arg(long, value_delimiter = ',')]
    link: Vec<String>,
    /// How often each tool runs on each link; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Congestion control of TCP.
    #[arg(long, default_value = "bbr")]
    tcp: String,
    /// What the emulator leaves to the kernel: segmentation or checksum.
    #[arg(long, default_value = "segmentation")]
    offload: String,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Our binary. Default: the release build of this workspace, built if needed.
    #[arg(long, value_name = "PATH")]
    streamer: Option<PathBuf>,
}

/// A link, and what is moved over it: about eight seconds' worth.
struct Link {
    name: &'static str,
    megabits: u32,
    /// One way.
    delay: &'static str,
    loss: &'static str,
    mtu: &'static str,
    size: &'static str,
}

const LINKS: [Link; 5] = [
    Link {
        name: "campus",
        megabits: 1000,
        delay: "2.5ms",
        loss: "0",
        mtu: "1500",
        size: "1GiB",
    },
    Link {
        name: "continental",
        megabits: 1000,
        delay: "25ms",
        loss: "0.01%",
        mtu: "1500",
        size: "1GiB",
    },
    Link {
        name: "intercontinental",
        megabits: 500,
        delay: "75ms",
        loss: "0.1%",
        mtu: "1500",
        size: "512MiB",
    },
    Link {
        name: "bad",
        megabits: 100,
        delay: "50ms",
        loss: "1%",
        mtu: "1500",
        size: "100MiB",
    },
    Link {
        name: "jumbo",
        megabits: 5000,
        delay: "1ms",
        loss: "0",
        mtu: "9000",
        size: "2GiB",
    },
];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nowhere is left to say that it cannot be said.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether ours was at least as fast as curl on every link, in both directions.
fn run(args: &Args) -> anyhow::Result<bool> {
    let links: Vec<&Link> = LINKS
        .iter()
        .filter(|link| args.link.is_empty() || args.link.iter().any(|name| name == link.name))
        .collect();
    if links.is_empty() {
        let names = LINKS.map(|link| link.name).join(", ");
        bail!("no such link; there are {names}");
    }
    let streamer = match &args.streamer {
        Some(path) => path.clone(),
        None => build_streamer()?,
    };
    let mut out = std::io::stdout();
    writeln!(
        out,
        "goodput of whole commands in % of the link, medians of {}; TCP has {}; offload: {}",
        args.rounds, args.tcp, args.offload
    )?;
    let heading = ["link", "curl-tls", "download", "upload", "stolen %"];
    let [link, curl, down, up, stolen] = heading;
    writeln!(out, "{link:<21}{curl:>9}{down:>9}{up:>9}{stolen:>9}")?;
    let mut results = Vec::new();
    let mut is_ahead = true;
    for link in links {
        let result = measure(args, link, &streamer).with_context(|| link.name.to_owned())?;
        let share = |tool| share(&result, tool, link.megabits);
        let [curl, down, up] = ["curl-tls", "streamer-download", "streamer-upload"].map(share);
        let name = format!("{} Mb {}", link.name, link.megabits);
        let show = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |s| format!("{s:.1}"));
        let (c, d, u) = (show(curl), show(down), show(up));
        let s = show(result["stolen_percent"].as_f64());
        writeln!(out, "{name:<21}{c:>9}{d:>9}{u:>9}{s:>9}")?;
        let is_fast = |ours: Option<f64>| ours.is_some() && ours >= curl;
        is_ahead &= is_fast(down) && is_fast(up);
        results.push(serde_json::json!({ "link": link.name, "result": result }));
    }
    if let Some(file) = &args.json {
        let json = serde_json::to_vec_pretty(&results)?;
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(is_ahead)
}

/// What `side-by-side` says about one link.
fn measure(args: &Args, link: &Link, streamer: &Path) -> anyhow::Result<Value> {
    let this = std::env::current_exe().context("finding this executable")?;
    let bench = this.with_file_name("side-by-side");
    let figures = tempfile::NamedTempFile::new()?;
    let status = Command::new(&args.wanem)
        .arg("run")
        .args(["--rate", &format!("{}m", link.megabits), "--queue", "1bdp"])
        .args(["--delay", link.delay, "--loss", link.loss])
        .args(["--mtu", link.mtu, "--offload", &args.offload])
        .args(["--cc", &args.tcp, "--tcp-buffer", "64m", "--"])
        .arg(bench)
        .args(["--set", "wan", "--size", link.size])
        .args(["--rounds", &args.rounds.to_string(), "--json"])
        .arg(figures.path())
        .arg("--streamer")
        .arg(streamer)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("starting {}", args.wanem.display()))?;
    let bytes = std::fs::read(figures.path())?;
    if bytes.is_empty() {
        bail!("side-by-side (cargo build --release -p streamer-benches) left no figures: {status}");
    }
    Ok(serde_json::from_slice(&bytes)?)
}

/// Goodput of a tool in per cent of the link.
fn share(result: &Value, tool: &str, megabits: u32) -> Option<f64> {
    let lines = result["lines"].as_array()?;
    let line = lines.iter().find(|line| line["name"] == tool)?;
    let rate = line["outcome"]["measured"]["megabytes_per_second"].as_f64()?;
    Some(rate * 8.0 / f64::from(megabits) * 100.0)
}
