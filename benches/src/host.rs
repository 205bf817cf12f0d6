//! The host of a virtual machine, which may give its processors to others meanwhile: the figures
//! of such a run say little.

use std::fs;

/// From here on it is counted what is taken away.
#[derive(Debug, Clone, Copy)]
pub struct Host(Option<Ticks>);

/// Of all processors since the machine started.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl Host {
    /// Begins to count.
    pub fn watch() -> Self {
        Self(Ticks::now())
    }

    /// Processor time that the host took since, in per cent of all; `None` where the kernel does
    /// not tell.
    pub fn stolen_percent(self) -> Option<f64> {
        Some(Ticks::now()?.stolen_percent_since(self.0?))
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The line of all processors, see proc_stat(5): user, nice, system, idle, iowait, irq,
    /// softirq, steal; what follows is in user and nice already.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks = line.split_whitespace().take(8).map(str::parse);
        let ticks: Vec<u64> = ticks.collect::<Result<_, _>>().ok()?;
        Some(Self {
            all: ticks.iter().sum(),
            stolen: *ticks.get(7)?,
        })
    }

    fn stolen_percent_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        100.0 * self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stolen_is_a_share_of_all() {
        let earlier = Ticks::parse("cpu  10 0 5 85 0 0 0 0 0 0\ncpu0 10 0 5 85 0 0 0 0").unwrap();
        let later = Ticks::parse("cpu  40 0 15 215 0 0 0 30 7 7\n").unwrap();
        assert_eq!(later.stolen_percent_since(earlier), 15.0);
        assert_eq!(later.stolen_percent_since(later), 0.0);
        // Before Linux 2.6.11 there was no such column.
        assert_eq!(Ticks::parse("cpu 1 2 3 4"), None);
        assert_eq!(Ticks::parse(""), None);
    }
}
