//! Slurm's words for the state of a node, short and long, in the API's.

use crate::model::status::NodeState;

impl NodeState {
    /// The state behind one of Slurm's words, in either case, with or without a flag at its
    /// end.
    pub(crate) fn of_slurm(word: &str) -> Self {
        let word = word.trim_end_matches(['*', '+', '~', '#', '%', '$', '@', '!', '^', '-']);
        match word.to_ascii_lowercase().as_str() {
            "idle" => Self::Idle,
            "alloc" | "allocated" => Self::Allocated,
            "mix" | "mixed" => Self::Mixed,
            "down" | "fail" | "failing" | "failg" => Self::Down,
            "drain" | "drained" | "draining" | "drng" => Self::Drain,
            "comp" | "completing" => Self::Completing,
            "maint" => Self::Offline,
            "resv" | "reserved" => Self::Reserved,
            "power_down" | "pow_dn" | "powering_down" | "powered_down" => Self::PoweringDown,
            "power_up" | "pow_up" | "powering_up" => Self::PoweringUp,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_sinfo_and_rest() {
        for (word, state) in [
            ("idle", NodeState::Idle),
            ("IDLE", NodeState::Idle),
            ("down*", NodeState::Down),
            ("drng", NodeState::Drain),
            ("mix-", NodeState::Mixed),
            ("mixed*+", NodeState::Mixed),
            ("drained$", NodeState::Drain),
            ("maint", NodeState::Offline),
            ("planned", NodeState::Unknown),
            ("", NodeState::Unknown),
        ] {
            assert_eq!(NodeState::of_slurm(word), state, "{word}");
        }
    }
}
