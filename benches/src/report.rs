//! What the runs say together: medians, ratios, and whether the ratios to reach are reached.

use std::fmt;

use serde::Serialize;

use crate::lineup::Tool;
use crate::peers::Cost;

/// Bytes in a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// One tool's figures over all rounds; one line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The tool.
    pub name: String,
    /// The medians, or why there are none.
    pub outcome: Outcome,
}

/// What came of a tool.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every round ran, and every result was the source.
    Measured(Figures),
    /// It is not installed; how to install it.
    Missing(String),
    /// A run failed or its result was not the source.
    Failed(String),
}

impl Line {
    /// The figures, if it was measured.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Measured(figures) => Some(figures),
            Outcome::Missing(_) | Outcome::Failed(_) => None,
        }
    }
}

/// Medians over the rounds, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// From the start of the client to its end, the server listening already.
    pub wall_seconds: f64,
    /// 10^6 bytes a second.
    pub megabytes_per_second: f64,
    /// The slowest and the fastest round.
    pub megabytes_per_second_range: [f64; 2],
    /// Rate as a share of that of `cp`; none if `cp` did not run.
    pub of_cp: Option<f64>,
    /// Processor seconds per GiB at the client.
    pub client_cpu_seconds_per_gib: f64,
    /// And at the server, with its start and end; none without server.
    pub server_cpu_seconds_per_gib: Option<f64>,
    /// And at both.
    pub cpu_seconds_per_gib: f64,
    /// Largest resident memory of any process of the client, in any round.
    pub client_peak_memory_bytes: u64,
    /// And of the server.
    pub server_peak_memory_bytes: Option<u64>,
    /// Each round's wall time, in order.
    pub rounds_wall_seconds: Vec<f64>,
}

impl Figures {
    /// The figures of runs that moved `bytes` each; `None` without runs.
    pub fn new(bytes: u64, costs: &[Cost]) -> Option<Self> {
        let gib = bytes as f64 / GIB;
        let wall: Vec<f64> = costs.iter().map(|cost| cost.client.wall_seconds).collect();
        let rates: Vec<f64> = wall
            .iter()
            .map(|seconds| bytes as f64 / 1e6 / seconds)
            .collect();
        let client = |cost: &Cost| cost.client.cpu_seconds() / gib;
        let server = |cost: &Cost| cost.server.map(|usage| usage.cpu_seconds() / gib);
        let servers: Vec<f64> = costs.iter().filter_map(server).collect();
        let clients: Vec<f64> = costs.iter().map(client).collect();
        let both = costs
            .iter()
            .map(|cost| client(cost) + server(cost).unwrap_or_default());
        let peak = |usages: Vec<u64>| usages.into_iter().max();
        let range = [
            rates.iter().copied().fold(f64::INFINITY, f64::min),
            rates.iter().copied().fold(0.0, f64::max),
        ];
        Some(Self {
            wall_seconds: median(&wall)?,
            megabytes_per_second: median(&rates)?,
            megabytes_per_second_range: range,
            of_cp: None,
            client_cpu_seconds_per_gib: median(&clients)?,
            server_cpu_seconds_per_gib: median(&servers),
            cpu_seconds_per_gib: median(&both.collect::<Vec<_>>())?,
            client_peak_memory_bytes: peak(
                costs
                    .iter()
                    .map(|cost| cost.client.peak_memory_bytes)
                    .collect(),
            )?,
            server_peak_memory_bytes: peak(
                costs
                    .iter()
                    .filter_map(|cost| cost.server.map(|s| s.peak_memory_bytes))
                    .collect(),
            ),
            rounds_wall_seconds: wall,
        })
    }
}

/// Fills in the share of `cp`.
pub fn relate_to_cp(lines: &mut [Line]) {
    let cp = lines
        .iter()
        .find(|line| line.name == Tool::Cp.name())
        .and_then(Line::figures)
        .map(|figures| figures.megabytes_per_second);
    for line in lines {
        if let Outcome::Measured(figures) = &mut line.outcome {
            figures.of_cp = cp.map(|cp| figures.megabytes_per_second / cp);
        }
    }
}

/// What ours have to reach, in the worse of their directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Requirement {
    /// So many times as fast as the faster line of a tool.
    Faster {
        /// How many times.
        factor: f64,
        /// Than which tool.
        than: &'static str,
    },
    /// At most so many processor seconds per GiB, of both ends together.
    CpuSecondsPerGib(f64),
    /// At most so much resident memory at each end, in MiB.
    MemoryMib(f64),
}

/// What a requirement came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// What was looked at.
    pub what: String,
    /// What it was, in the worst line; none if not all of it was measured.
    pub measured: Option<f64>,
    /// What it has to be.
    pub bound: Bound,
}

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Verdict {
    /// Whether it was measured and is as it has to be.
    pub fn is_reached(&self) -> bool {
        self.measured.is_some_and(|measured| match self.bound {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            measured,
            bound,
        } = self;
        let word = match self.is_reached() {
            true => "reached",
            false => "NOT REACHED",
        };
        let (bound, limit) = match bound {
            Bound::AtLeast(least) => ("at least", least),
            Bound::AtMost(most) => ("at most", most),
        };
        match measured {
            Some(measured) => write!(f, "{word}: {what}: {measured:.2}, required {bound} {limit}"),
            None => write!(f, "{word}: {what}: not measured, required {bound} {limit}"),
        }
    }
}

impl Requirement {
    /// Judges `lines`: the worst of ours.
    pub fn judge(self, lines: &[Line]) -> Verdict {
        let highest = |figures: Vec<f64>| figures.into_iter().fold(0.0, f64::max);
        match self {
            Self::Faster { factor, than } => {
                let rate = |figures: &Figures| figures.megabytes_per_second;
                let slowest = |rates: Vec<f64>| rates.into_iter().fold(f64::INFINITY, f64::min);
                let ours = all(lines, OURS, rate).map(slowest);
                let theirs = all(lines, than, rate).map(highest);
                Verdict {
                    what: format!("speed of {OURS}, as a multiple of {than}"),
                    measured: ours.zip(theirs).map(|(ours, theirs)| ours / theirs),
                    bound: Bound::AtLeast(factor),
                }
            }
            Self::CpuSecondsPerGib(most) => Verdict {
                what: format!("processor seconds per GiB of both ends of {OURS}"),
                measured: all(lines, OURS, |figures| figures.cpu_seconds_per_gib).map(highest),
                bound: Bound::AtMost(most),
            },
            Self::MemoryMib(most) => {
                let peak = |figures: &Figures| {
                    let server = figures.server_peak_memory_bytes.unwrap_or_default();
                    figures.client_peak_memory_bytes.max(server) as f64 / MIB
                };
                Verdict {
                    what: format!("resident MiB of either end of {OURS}"),
                    measured: all(lines, OURS, peak).map(highest),
                    bound: Bound::AtMost(most),
                }
            }
        }
    }
}

/// A figure of every line of a tool. None unless all of them were measured: one that failed
/// leaves the answer unknown, and the other direction cannot vouch for it.
fn all(lines: &[Line], tool: &str, figure: impl Fn(&Figures) -> f64) -> Option<Vec<f64>> {
    let is_of = |line: &&Line| line.name.split('-').next() == Some(tool);
    let figures: Option<Vec<f64>> = lines
        .iter()
        .filter(is_of)
        .map(|line| line.figures().map(&figure))
        .collect();
    figures.filter(|figures| !figures.is_empty())
}

/// The part before the dash of our lines.
const OURS: &str = "streamer";

/// Bytes in a MiB.
const MIB: f64 = (1_u64 << 20) as f64;

/// The middle one, or the middle of the two in the middle; `None` without any.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Ended, Usage};

    fn usage(wall_seconds: f64, peak_memory_bytes: u64) -> Usage {
        let (user_seconds, system_seconds) = (wall_seconds / 2.0, wall_seconds / 4.0);
        let ended = Ended::Code(0);
        Usage {
            wall_seconds,
            user_seconds,
            system_seconds,
            peak_memory_bytes,
            ended,
        }
    }

    fn line(name: &str, seconds: f64) -> Line {
        let cost = Cost {
            client: usage(seconds, 1),
            server: None,
        };
        let figures = Figures::new(1_000_000_000, &[cost]).unwrap();
        Line {
            name: name.to_owned(),
            outcome: Outcome::Measured(figures),
        }
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn figures_of_three_rounds() {
        let costs = [(4.0, 10), (1.0, 30), (2.0, 20)].map(|(wall, peak)| Cost {
            client: usage(wall, peak),
            server: Some(usage(2.0 * wall, 2 * peak)),
        });
        let figures = Figures::new(1 << 30, &costs).unwrap();
        assert_eq!(figures.wall_seconds, 2.0);
        assert_eq!(figures.client_cpu_seconds_per_gib, 1.5);
        assert_eq!(figures.server_cpu_seconds_per_gib, Some(3.0));
        assert_eq!(figures.cpu_seconds_per_gib, 4.5);
        assert_eq!(figures.client_peak_memory_bytes, 30);
        assert_eq!(figures.server_peak_memory_bytes, Some(60));
        let [slowest, fastest] = figures.megabytes_per_second_range;
        assert!((fastest / slowest - 4.0).abs() < 1e-9);
        assert_eq!(Figures::new(1, &[]), None);
    }

    #[test]
    fn a_requirement_takes_our_slower_and_their_faster_direction() {
        let lines = [
            line("streamer-download", 1.0),
            line("streamer-upload", 2.0),
            line("scp-download", 5.0),
            line("scp-upload", 3.0),
        ];
        let verdict = Requirement::Faster {
            factor: 1.5,
            than: "scp",
        }
        .judge(&lines);
        assert!(verdict.is_reached(), "{verdict:?}");
        let verdict = Requirement::Faster {
            factor: 1.6,
            than: "scp",
        }
        .judge(&lines);
        assert!(!verdict.is_reached(), "{verdict:?}");
    }

    #[test]
    fn a_requirement_on_what_did_not_run_is_not_reached() {
        let mut lines = vec![line("streamer-download", 1.0), line("scp-upload", 3.0)];
        assert!(
            !Requirement::Faster {
                factor: 1.0,
                than: "python"
            }
            .judge(&lines)
            .is_reached()
        );
        let outcome = Outcome::Failed("broken".to_owned());
        lines.push(Line {
            name: "streamer-upload".to_owned(),
            outcome,
        });
        assert!(
            !Requirement::Faster {
                factor: 1.0,
                than: "scp"
            }
            .judge(&lines)
            .is_reached()
        );
    }

    #[test]
    fn bounds_from_above_hold_for_the_worst_line() {
        let mut lines = vec![line("streamer-download", 1.0), line("streamer-upload", 2.0)];
        // Three quarters of the wall time, for 10^9 bytes.
        let worst = 1.5 * GIB / 1e9;
        let judge = |bound, lines: &[Line]| Requirement::CpuSecondsPerGib(bound).judge(lines);
        assert!(judge(worst + 0.01, &lines).is_reached());
        assert!(!judge(worst - 0.01, &lines).is_reached());
        assert!(Requirement::MemoryMib(1.0).judge(&lines).is_reached());
        lines[0].outcome = Outcome::Missing("gone".to_owned());
        let verdict = judge(worst + 0.01, &lines);
        assert!(verdict.to_string().starts_with("NOT REACHED"), "{verdict}");
    }

    #[test]
    fn shares_of_cp() {
        let mut lines = vec![line("cp", 1.0), line("scp-upload", 4.0)];
        relate_to_cp(&mut lines);
        let of_cp = lines[1].figures().unwrap().of_cp.unwrap();
        assert!((of_cp - 0.25).abs() < 1e-9);
    }
}
