//! How long a transfer takes to begin, in round trips of a long path; `--help` for the options.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nix::sched::{CloneFlags, unshare};
use streamer_benches::binary::build_streamer;
use streamer_benches::measure::{Meter, Program, WARDEN_ARGUMENT};
use streamer_benches::relay::Relay;
use streamer_benches::report::{Bound, Verdict, median};
use streamer_benches::warden;
use streamer_core::port_order::port_order;
use streamer_core::{Coordinates, Operation, PortRange, TransferSecret, Transport};

/// Dials ours over a path with a long round trip, with one port and with a range of 10,000, in both
/// directions, and takes the times until it is connected and until the first byte of the file is there.
/// Runs in a network namespace of its own, whose packets are those of Ethernet: needs root.
#[derive(Debug, Parser)]
#[command(name = "latency", version)]
struct Args {
    /// Round trip of the path, in milliseconds.
    #[arg(long, default_value_t = 100)]
    round_trip: u64,
    /// How often each is done; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Our binary. Default: the release build of this workspace, built if needed.
    #[arg(long, value_name = "PATH")]
    streamer: Option<PathBuf>,
    /// Fails unless the first byte is there within three round trips, and a range of ports
    /// costs no more than one port.
    #[arg(long)]
    require: bool,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments
        .next_if(|first| first == WARDEN_ARGUMENT)
        .is_some()
    {
        return warden::main(arguments);
    }
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// For this process and those that it starts. The loopback interface as it is would take
/// packets of 64 KiB, which no long path does.
fn enter_namespace() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace, as root")?;
    let status = Command::new("ip")
        .args(["link", "set", "lo", "mtu", "1500", "up"])
        .status()
        .context("running ip, of iproute2")?;
    ensure!(status.success(), "ip ended with {status}");
    Ok(())
}

/// Seconds since the client began to dial.
#[derive(Debug, Clone, Copy)]
struct Times {
    connected: f64,
    first_byte: f64,
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let streamer = match &args.streamer {
        Some(path) => path.clone(),
        None => build_streamer()?,
    };
    enter_namespace()?;
    let round_trip = Duration::from_millis(args.round_trip);
    let mut all = LINES.map(|line| (line, Vec::new()));
    for _ in 0..args.rounds {
        for (line, times) in &mut all {
            times.push(transfer(&streamer, line, round_trip)?);
        }
    }
    let in_round_trips = |all: &[Times], time: fn(&Times) -> f64| {
        median(&all.iter().map(time).collect::<Vec<_>>()).unwrap_or_default()
            / round_trip.as_secs_f64()
    };
    let figures = all.map(|(line, times)| Figures {
        name: line.name,
        connected: in_round_trips(&times, |times| times.connected),
        first_byte: in_round_trips(&times, |times| times.first_byte),
    });
    let mut text = format!(
        "medians of {}, in round trips of {} ms since the client began to dial\n\
         transfer                connected  first byte\n",
        args.rounds, args.round_trip
    );
    for Figures {
        name,
        connected,
        first_byte,
    } in &figures
    {
        text.push_str(&format!(
            "{name:<22}  {connected:>9.2}  {first_byte:>10.2}\n"
        ));
    }
    let verdicts = if args.require {
        judge(&figures)
    } else {
        Vec::new()
    };
    for verdict in &verdicts {
        text.push_str(&format!("{verdict}\n"));
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing the table")?;
    if let Some(file) = &args.json {
        let line = |figures: &Figures| {
            serde_json::json!({"transfer": figures.name,
                "connected_round_trips": figures.connected,
                "first_byte_round_trips": figures.first_byte})
        };
        let json = serde_json::json!({
            "round_trip_ms": args.round_trip,
            "rounds": args.rounds,
            "lines": figures.iter().map(line).collect::<Vec<_>>(),
            "requirements": verdicts,
        });
        fs::write(file, serde_json::to_vec_pretty(&json)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(verdicts.iter().all(Verdict::is_reached))
}

fn judge(figures: &[Figures]) -> Vec<Verdict> {
    let connected = figures.iter().map(|figures| figures.connected);
    let (fastest, slowest) = connected.fold((f64::INFINITY, 0.0), |(fastest, slowest), time| {
        (f64::min(fastest, time), f64::max(slowest, time))
    });
    let first_bytes = figures.iter().map(|figures| figures.first_byte);
    vec![
        Verdict {
            what: "round trips until the first byte".to_owned(),
            measured: Some(first_bytes.fold(0.0, f64::max)),
            bound: Bound::AtMost(3.0),
        },
        Verdict {
            what: "more round trips until connected, of 10,000 ports than of one".to_owned(),
            measured: Some(slowest - fastest),
            bound: Bound::AtMost(WORK),
        },
    ]
}

/// What reading, hashing, encrypting and looking at files may take, as a share of a round trip.
const WORK: f64 = 0.25;

/// What is measured.
#[derive(Debug, Clone, Copy)]
struct Line {
    name: &'static str,
    /// What the client does.
    verb: &'static str,
    /// Of the coordinates.
    ports: u16,
}

/// Medians, in round trips.
#[derive(Debug)]
struct Figures {
    name: &'static str,
    connected: f64,
    first_byte: f64,
}

const LINES: [Line; 3] = [
    Line {
        name: "download, 1 port",
        verb: "receive",
        ports: 1,
    },
    Line {
        name: "download, 10,000 ports",
        verb: "receive",
        ports: 10_000,
    },
    Line {
        name: "upload, 10,000 ports",
        verb: "send",
        ports: 10_000,
    },
];

/// The first of them.
const FIRST_PORT: u16 = 20_000;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(30);

/// Moves what fits in a first flight of packets from or to an endpoint behind a relay; the relay is on the first port in the
/// order of the coordinates, as an endpoint would be.
fn transfer(streamer: &Path, line: &Line, round_trip: Duration) -> anyhow::Result<Times> {
    let dir = tempfile::tempdir_in("/dev/shm").context("making a directory in /dev/shm")?;
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::write(&source, vec![7; 8 << 10]).context("making the source")?;
    let secret = TransferSecret::generate().context("making a secret")?;
    let (there, theirs, mine, operation) = match line.verb {
        "receive" => ("send", &source, &target, Operation::Send),
        _ => ("receive", &target, &source, Operation::Receive),
    };
    let range = PortRange::new(FIRST_PORT, FIRST_PORT + line.ports - 1).context("a port range")?;
    let port = port_order(&secret, range)[0];
    let meter = Meter::new(std::env::current_exe()?, dir.path());

    // The endpoint takes a port of its own and says which.
    let endpoint = Program::new(streamer)
        .args(["server", "--host", "127.0.0.1", "--public-ips", "127.0.0.1"])
        .args(["--port-range", "31000", "31999", "--json", there, "--path"])
        .arg(theirs)
        .env("STREAMER_SECRET", secret.expose_text().as_str());
    let mut endpoint = meter.start("server", &endpoint)?;
    endpoint.wait_until("its address", LIMIT, |it| {
        it.stdout().is_ok_and(|text| listening(&text).is_some())
    })?;
    let address = listening(&endpoint.stdout()?).context("no address of the endpoint")?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, address));
    let relay = Relay::start(port, server, round_trip)
        .with_context(|| format!("listening on port {port}"))?;

    let coordinates = Coordinates {
        ports: range,
        ips: vec!["127.0.0.1".to_owned()],
        secret,
        operation: Some(operation),
        transports: vec![Transport::Quic],
        job: None,
    };
    let client = Program::new(streamer)
        .args([line.verb, "--json", "--no-progress", "--path"])
        .arg(mine)
        .env("STREAMER_COORDINATES", coordinates.encode().as_str());
    let mut client = meter.start("client", &client)?;
    let part = dir.path().join("target.part");
    let has_bytes = |path: &Path| fs::metadata(path).is_ok_and(|found| found.blocks() > 0);
    client.wait_until("its start", LIMIT, |it| it.printed("connecting"))?;
    let begun = Instant::now();
    client.wait_until("a connection", LIMIT, |it| it.printed("\"connected\""))?;
    let connected = begun.elapsed().as_secs_f64();
    client.wait_until("the first byte", LIMIT, |_| {
        has_bytes(&part) || has_bytes(&target)
    })?;
    let first_byte = begun.elapsed().as_secs_f64();
    client.finish(LIMIT)?;
    endpoint.finish(LIMIT)?;
    drop(relay);
    Ok(Times {
        connected,
        first_byte,
    })
}

/// The port in the line that says where an endpoint listens.
fn listening(output: &str) -> Option<u16> {
    let line = output.lines().find(|line| line.contains("\"listening\""))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let address: SocketAddr = line["address"].as_str()?.parse().ok()?;
    Some(address.port())
}
