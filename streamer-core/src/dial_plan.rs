//! Which ports a client tries when.
//!
//! The endpoint is nearly always on the first port of the order; it may not listen yet, or may
//! have had to take a later port. So the first ports are tried in every round, the others a
//! few at a time: early enough to be found, too few to look like a scan.

use std::time::Duration;

/// The rounds of attempts over a range of `ports` ports; never ends.
#[derive(Debug, Clone)]
pub struct DialPlan {
    ports: usize,
    round: usize,
}

/// What to try, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Since the start of dialling.
    pub at: Duration,
    /// Indices into the order of ports, each to be tried a little after the one before.
    pub ports: Vec<usize>,
}

impl DialPlan {
    /// For a range of this many ports; at least one.
    pub fn new(ports: usize) -> Self {
        Self {
            ports: ports.max(1),
            round: 0,
        }
    }
}

impl Iterator for DialPlan {
    type Item = Round;

    fn next(&mut self) -> Option<Round> {
        let round = self.round;
        self.round += 1;
        let first = self.ports.min(FIRST_PORTS);
        let others = self.ports - first;
        let from = round * OTHER_PORTS;
        let rotating = (0..others.min(OTHER_PORTS)).map(|i| first + (from + i) % others);
        let round = u32::try_from(round).unwrap_or(u32::MAX);
        let late = round.saturating_sub(EARLY_ROUNDS);
        let at = ROUND_INTERVAL * round.min(EARLY_ROUNDS) + LATE_ROUND_INTERVAL * late;
        Some(Round {
            at,
            ports: (0..first).chain(rotating).collect(),
        })
    }
}

/// Between two ports of a round: below a round trip, so that it costs a first hit nothing.
pub const PORT_STAGGER: Duration = Duration::from_millis(10);

/// Between two rounds: what a client waits at most for an endpoint that has just come up.
const ROUND_INTERVAL: Duration = Duration::from_millis(250);

/// In the first minute. Who waits for longer waits for a queue, and is not to keep other endpoints
/// on the same ports busy.
const EARLY_ROUNDS: u32 = 240;

/// Between two rounds after that.
const LATE_ROUND_INTERVAL: Duration = Duration::from_secs(1);

/// Ports that every round tries.
const FIRST_PORTS: usize = 4;

/// Of the other ports, tried in one round.
const OTHER_PORTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_a_queue_asks_less_often() {
        let at: Vec<_> = DialPlan::new(5).map(|round| round.at).take(400).collect();
        assert_eq!((at[0], at[240]), (Duration::ZERO, Duration::from_secs(60)));
        assert_eq!(at[399], Duration::from_secs(60 + 159));
        assert!(at.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn every_port_is_tried_and_the_first_ones_always() {
        for ports in [1, 3, 4, 5, 9, 100] {
            let rounds: Vec<Round> = DialPlan::new(ports).take(ports.div_ceil(4) + 1).collect();
            let tried = |port| rounds.iter().any(|round| round.ports.contains(&port));
            assert!((0..ports).all(tried), "{ports} ports");
            let in_order = rounds.windows(2).all(|pair| pair[0].at < pair[1].at);
            assert!(in_order && rounds.iter().all(|round| round.ports[0] == 0));
            assert!(rounds.iter().all(|round| round.ports.len() <= ports.min(8)));
        }
    }
}
