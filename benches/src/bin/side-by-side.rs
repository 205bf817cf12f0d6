//! Ours and what a user would pick instead, side by side; `--help` for the options, the
//! documentation of the library for how each tool is run.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use streamer_benches::binary::build_streamer;
use streamer_benches::comparison::Comparison;
use streamer_benches::host::Host;
use streamer_benches::interrupt::remove_on_interrupt;
use streamer_benches::lineup::{Places, Set, Tool};
use streamer_benches::measure::WARDEN_ARGUMENT;
use streamer_benches::network::Network;
use streamer_benches::report::{Line, Outcome, Requirement, Verdict};
use streamer_benches::workload::Load;
use streamer_benches::{table, warden};

/// Moves the same bytes with each tool in turn, on the loopback address or over a virtual
/// cable, from and to memory-backed storage, and compares speed, processor time and memory. Every result is
/// compared with its source.
#[derive(Debug, Parser)]
#[command(name = "side-by-side", version)]
struct Args {
    /// What is moved.
    #[arg(long, value_enum, default_value_t)]
    set: Set,
    /// Size of the one file; plain bytes or with KiB, MiB or GiB.
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    size: u64,
    /// Number of the small files, of 10 KiB each.
    #[arg(long, default_value_t = 10_000)]
    files: u64,
    /// How often each tool runs; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only these tools, by their names in the table or the part before the dash.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Our binary. Default: the release build of this workspace, built if needed.
    #[arg(long, value_name = "PATH")]
    streamer: Option<PathBuf>,
    /// Sets this for both ends of ours, to try settings; kept in the JSON.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    streamer_env: Vec<(String, String)>,
    /// Virtual environment with the Python firecrest-streamer.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/.venv"))]
    venv: PathBuf,
    /// Memory-backed storage with room for twice the load.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Longest time of one run, in seconds.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Fails unless ours reach what is required of them in this set; says what that is.
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
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything asked for is fine.
fn run(args: &Args) -> anyhow::Result<bool> {
    let tools = tools(args)?;
    let dir = tempfile::Builder::new()
        .prefix("side-by-side-")
        .tempdir_in(&args.dir)
        .with_context(|| format!("making a directory in {}", args.dir.display()))?;
    remove_on_interrupt(dir.path().to_owned()).context("holding back signals")?;
    let places = places(args, &tools)?;
    let network = match args.set {
        Set::OneFile | Set::WebSocket | Set::SmallFiles => Network::Loopback,
        Set::Ethernet => Network::ethernet()?,
        Set::Wan => Network::wan()?,
    };
    let comparison = Comparison {
        load: load(args),
        rounds: args.rounds,
        dir: dir.path(),
        warden: &std::env::current_exe().context("finding this executable")?,
        limit: Duration::from_secs(args.timeout),
        network: &network,
    };
    let candidates = tools
        .into_iter()
        .map(|tool| places.candidate(tool))
        .collect();
    let host = Host::watch();
    let lines = comparison
        .run(candidates, say)
        .with_context(|| format!("making the load in {}", dir.path().display()))?;
    let verdicts: Vec<Verdict> = if args.require {
        requirements(args.set)
            .iter()
            .map(|requirement| requirement.judge(&lines))
            .collect()
    } else {
        Vec::new()
    };
    let stolen = host.stolen_percent();
    print(&text(args, &lines, &verdicts, stolen))?;
    if let Some(file) = &args.json {
        let json = serde_json::to_vec_pretty(&json(args, &lines, &verdicts, stolen))?;
        std::fs::write(file, json).with_context(|| format!("writing {}", file.display()))?;
    }
    let failed = lines
        .iter()
        .any(|line| matches!(line.outcome, Outcome::Failed(_)));
    Ok(!failed && verdicts.iter().all(Verdict::is_reached))
}

fn tools(args: &Args) -> anyhow::Result<Vec<Tool>> {
    let all = args.set.tools();
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| !all.iter().any(|t| t.is_named(name)))
    {
        let names: Vec<_> = all.iter().map(|tool| tool.name()).collect();
        bail!(
            "no tool {unknown:?} in this set; there are {}",
            names.join(", ")
        );
    }
    let is_wanted =
        |tool: &&Tool| args.only.is_empty() || args.only.iter().any(|name| tool.is_named(name));
    Ok(all.iter().filter(is_wanted).copied().collect())
}

fn places(args: &Args, tools: &[Tool]) -> anyhow::Result<Places> {
    let streamer = match &args.streamer {
        Some(path) => path.clone(),
        None if tools.iter().any(|tool| tool.is_named("streamer")) => build_streamer()?,
        None => PathBuf::new(),
    };
    let os_strings = |(name, value): &(String, String)| (OsString::from(name), value.into());
    let streamer_environment = args.streamer_env.iter().map(os_strings).collect();
    Ok(Places {
        streamer,
        streamer_environment,
        venv: args.venv.clone(),
    })
}

fn load(args: &Args) -> Load {
    match args.set {
        Set::OneFile | Set::Ethernet | Set::WebSocket | Set::Wan => Load::File { bytes: args.size },
        Set::SmallFiles => Load::Tree {
            files: args.files,
            bytes_each: 10 << 10,
        },
    }
}

/// What `docs/PERFORMANCE.md` promises.
fn requirements(set: Set) -> &'static [Requirement] {
    use Requirement::{CpuSecondsPerGib, Faster, MemoryMib};
    match set {
        Set::WebSocket => &[],
        Set::OneFile => &[
            Faster {
                factor: 0.6,
                than: "cp",
            },
            Faster {
                factor: 1.3,
                than: "curl",
            },
            Faster {
                factor: 1.8,
                than: "scp",
            },
            Faster {
                factor: 35.0,
                than: "python",
            },
            MemoryMib(64.0),
        ],
        Set::Ethernet => &[
            Faster {
                factor: 1.0,
                than: "scp",
            },
            CpuSecondsPerGib(2.5),
            MemoryMib(64.0),
        ],
        Set::Wan => &[Faster {
            factor: 1.0,
            than: "curl",
        }],
        Set::SmallFiles => &[
            Faster {
                factor: 1.5,
                than: "rsync",
            },
            MemoryMib(100.0),
        ],
    }
}

fn text(args: &Args, lines: &[Line], verdicts: &[Verdict], stolen: Option<f64>) -> String {
    let what = match load(args) {
        Load::File { bytes } => format!("one file of {bytes} bytes"),
        Load::Tree { files, bytes_each } => format!("{files} files of {bytes_each} bytes"),
    };
    let mut text = format!(
        "{what}, medians of {}, {} {}, every result compared with its source\n{}",
        args.rounds,
        args.dir.display(),
        match args.set {
            Set::OneFile | Set::WebSocket | Set::SmallFiles => "on loopback",
            Set::Ethernet => "over a virtual cable with an MTU of 1500",
            Set::Wan => "over an emulated link",
        },
        table::render(lines)
    );
    if lines
        .iter()
        .any(|line| line.name.starts_with("python") && line.figures().is_some())
    {
        text.push_str(PYTHON_NOTE);
    }
    if let Some(stolen) = stolen {
        text.push_str(&format!(
            "taken by the host of this machine: {stolen:.1} % of processor time\n"
        ));
    }
    for verdict in verdicts {
        text.push_str(&format!("{verdict}\n"));
    }
    text
}

/// Said below the table, because its files are not equal to their source.
const PYTHON_NOTE: &str = "python: verified up to the 98 bytes that the tool appends to every \
                           file (its end-of-file message)\n";

fn json(
    args: &Args,
    lines: &[Line],
    verdicts: &[Verdict],
    stolen: Option<f64>,
) -> serde_json::Value {
    serde_json::json!({
        "bytes": load(args).bytes(),
        "files": match load(args) { Load::File { .. } => 1, Load::Tree { files, .. } => files },
        "set": format!("{:?}", args.set),
        "rounds": args.rounds,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "streamer_environment": args.streamer_env,
        "stolen_percent": stolen,
        "lines": lines,
        "requirements": verdicts,
    })
}

fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("unknown unit {other:?}; use KiB, MiB or GiB")),
    };
    let count: u64 = digits
        .parse()
        .map_err(|_| "expected a number, such as 1GiB".to_owned())?;
    count
        .checked_mul(unit)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "the size must be from 1 byte to 16 EiB".to_owned())
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing the table")
}

/// Progress and errors; a closed standard error must not stop a comparison.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
