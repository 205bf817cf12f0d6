//! All tools in turn, round after round.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lineup::Candidate;
use crate::measure::Meter;
use crate::network::Network;
use crate::peers::{Cost, Job, Peer};
use crate::report::{Figures, Line, Outcome, relate_to_cp};
use crate::workload::{Load, verify};

/// What to do with the candidates.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// What each moves in each round.
    pub load: Load,
    /// How often.
    pub rounds: u32,
    /// An empty directory on memory-backed storage, with room for twice the load.
    pub dir: &'a Path,
    /// The executable that acts as warden; see [`crate::measure`].
    pub warden: &'a Path,
    /// How long one run may take.
    pub limit: Duration,
    /// Between the two ends.
    pub network: &'a Network,
}

/// A tool on its way through the rounds.
struct Runner {
    name: String,
    state: Result<Box<dyn Peer>, Outcome>,
    costs: Vec<Cost>,
}

impl Comparison<'_> {
    /// Runs everything; `say` hears about each run.
    ///
    /// Every tool first moves a small load, unmeasured, so that a broken one is known at
    /// once. Each round starts with another tool. One that fails is left out from then on.
    ///
    /// # Errors
    /// If the loads cannot be made; failures of tools are in the lines.
    pub fn run(
        &self,
        candidates: Vec<Candidate>,
        mut say: impl FnMut(&str),
    ) -> io::Result<Vec<Line>> {
        let mut runners: Vec<Runner> = candidates.into_iter().map(Runner::new).collect();
        let small = self.make("small", self.load.smaller())?;
        for runner in &mut runners {
            runner.step(
                &self.settings(&small, self.load.smaller()),
                "warm-up",
                &mut say,
            );
            runner.costs.clear();
        }
        let source = self.make("source", self.load)?;
        for round in 0..self.rounds {
            let first = round as usize % runners.len().max(1);
            runners.rotate_left(first);
            for runner in &mut runners {
                let label = format!("round {} of {}", round + 1, self.rounds);
                runner.step(&self.settings(&source, self.load), &label, &mut say);
            }
            runners.rotate_right(first);
        }
        let mut lines: Vec<Line> = runners
            .into_iter()
            .map(|runner| runner.into_line(self.load.bytes()))
            .collect();
        relate_to_cp(&mut lines);
        Ok(lines)
    }

    fn make(&self, name: &str, load: Load) -> io::Result<PathBuf> {
        let path = self.dir.join(name);
        load.make(&path)?;
        Ok(path)
    }

    fn settings<'a>(&'a self, source: &'a Path, load: Load) -> Settings<'a> {
        let Self {
            dir,
            warden,
            limit,
            network,
            ..
        } = *self;
        Settings {
            source,
            bytes: load.bytes(),
            dir,
            warden,
            limit,
            network,
        }
    }
}

struct Settings<'a> {
    source: &'a Path,
    bytes: u64,
    dir: &'a Path,
    warden: &'a Path,
    limit: Duration,
    network: &'a Network,
}

impl Settings<'_> {
    /// One verified run, with nothing left of it.
    fn run(&self, peer: &dyn Peer) -> Result<Cost, String> {
        let (target, scratch) = (self.dir.join("target"), self.dir.join("scratch"));
        touch_memory(&target, self.bytes).map_err(|e| format!("{}: {e}", target.display()))?;
        fs::create_dir(&scratch).map_err(|e| format!("{}: {e}", scratch.display()))?;
        let result = self.run_in(peer, &target, &scratch);
        for leftover in [&target, &scratch] {
            remove(leftover).map_err(|e| format!("{}: {e}", leftover.display()))?;
        }
        result
    }

    fn run_in(&self, peer: &dyn Peer, target: &Path, scratch: &Path) -> Result<Cost, String> {
        let meter = Meter::new(self.warden, scratch);
        let Self {
            source,
            bytes,
            limit,
            network,
            ..
        } = *self;
        let job = Job {
            source,
            target,
            bytes,
            meter: &meter,
            scratch,
            limit,
            network,
        };
        let cost = peer.run(&job).map_err(|e| e.to_string())?;
        verify(source, target, peer.trailer()).map_err(|e| format!("wrong result: {e}"))?;
        Ok(cost)
    }
}

impl Runner {
    fn new(candidate: Candidate) -> Self {
        Self {
            name: candidate.tool.name(),
            state: candidate
                .peer
                .map_err(|missing| Outcome::Missing(missing.to_string())),
            costs: Vec::new(),
        }
    }

    fn step(&mut self, settings: &Settings<'_>, label: &str, say: &mut impl FnMut(&str)) {
        let Ok(peer) = &self.state else { return };
        match settings.run(peer.as_ref()) {
            Ok(cost) => {
                say(&format!(
                    "{label}: {} {:.2} s",
                    self.name, cost.client.wall_seconds
                ));
                self.costs.push(cost);
            }
            Err(reason) => {
                say(&format!("{label}: {} failed: {reason}", self.name));
                self.state = Err(Outcome::Failed(format!("in {label}: {reason}")));
            }
        }
    }

    fn into_line(self, bytes: u64) -> Line {
        let measured = || Figures::new(bytes, &self.costs).map(Outcome::Measured);
        let outcome = match self.state {
            Ok(_) => measured().unwrap_or_else(|| Outcome::Failed("no rounds".to_owned())),
            Err(outcome) => outcome,
        };
        Line {
            name: self.name,
            outcome,
        }
    }
}

/// Writes and removes a file of `bytes`, and some more, so that who writes next finds pages that
/// this machine has. A virtual machine gives free memory back to its host, and `cp` takes up to
/// three times as long where it has to be fetched again: luck that would decide a round.
///
/// # Errors
/// If there is no room or no permission.
pub(crate) fn touch_memory(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    let piece = [0; 1 << 16];
    let pieces = (bytes + bytes / 8).div_ceil(piece.len() as u64);
    let written = (0..pieces).try_for_each(|_| file.write_all(&piece));
    fs::remove_file(path)?;
    written
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
