//! The largest value of the last few rounds.

use std::collections::VecDeque;

/// A windowed maximum over rounds, a round being about one round trip.
#[derive(Debug, Clone, Default)]
pub(super) struct MaxFilter {
    /// Rounds and values, values falling: each is the largest from its round on.
    candidates: VecDeque<(u64, u64)>,
}

impl MaxFilter {
    /// Adds a value; forgets what is older than `rounds` rounds.
    pub(super) fn update(&mut self, round: u64, value: u64, rounds: u64) {
        while self.candidates.back().is_some_and(|(_, v)| *v <= value) {
            self.candidates.pop_back();
        }
        self.candidates.push_back((round, value));
        while self
            .candidates
            .front()
            .is_some_and(|(r, _)| r + rounds < round)
        {
            self.candidates.pop_front();
        }
    }

    /// The largest value, 0 without any.
    pub(super) fn max(&self) -> u64 {
        self.candidates.front().map_or(0, |(_, value)| *value)
    }

    pub(super) fn clear(&mut self) {
        self.candidates.clear();
    }
}
