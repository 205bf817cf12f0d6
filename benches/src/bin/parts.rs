//! What the parts of a transfer cost on this machine; `--help` for the options.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use streamer_benches::host::Host;
use streamer_benches::interrupt::remove_on_interrupt;
use streamer_benches::parts::Costs;

/// Takes what each part of a transfer costs on this machine by itself, with every core busy: to
/// read, hash, seal, pass through a socket, open and write. Their sum bounds what any tool can
/// reach that does all of them, both ends on this machine.
#[derive(Debug, Parser)]
#[command(name = "parts", version)]
struct Args {
    /// MiB that each core has done to it, in each part.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    mebibytes: u64,
    /// How often; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Memory-backed storage with room for one more than a file for each core.
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// Writes all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

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
    let dir = tempfile::Builder::new()
        .prefix("parts-")
        .tempdir_in(&args.dir)
        .with_context(|| format!("making a directory in {}", args.dir.display()))?;
    remove_on_interrupt(dir.path().to_owned()).context("holding back signals")?;
    let host = Host::watch();
    let costs = Costs::measure(dir.path(), args.mebibytes << 20, args.rounds)
        .with_context(|| format!("in {}", args.dir.display()))?;
    let stolen = host.stolen_percent();
    let text = text(args, &costs, stolen);
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing the table")?;
    if let Some(file) = &args.json {
        let json = serde_json::json!({
            "costs": costs,
            "all": costs.all(),
            "best_of_copy": costs.best_of_copy(),
            "stolen_percent": stolen,
        });
        std::fs::write(file, serde_json::to_vec_pretty(&json)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn text(args: &Args, costs: &Costs, stolen: Option<f64>) -> String {
    let mut text = format!(
        "processor seconds of each GiB with {} cores busy, medians of {}, {}\n",
        costs.cores,
        args.rounds,
        args.dir.display()
    );
    for (part, once) in &costs.parts {
        let name = match part.times() {
            1 => part.name().to_owned(),
            times => format!("{}, {times} times", part.name()),
        };
        let cost = f64::from(part.times()) * once;
        text.push_str(&format!("{name:<24}{cost:>6.2}\n"));
    }
    text.push_str(&format!(
        "{:<24}{:>6.2}\n{:<24}{:>6.2}\nat best, as a multiple of a copy: {:.2}\n",
        "all",
        costs.all(),
        "a copy, alone",
        costs.copy_seconds,
        costs.best_of_copy()
    ));
    if let Some(stolen) = stolen {
        text.push_str(&format!(
            "taken by the host of this machine: {stolen:.1} % of processor time\n"
        ));
    }
    text
}
