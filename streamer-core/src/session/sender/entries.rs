//! What a sender knows of the entries that are not over.

use std::collections::{BTreeMap, VecDeque};

use crate::blocks::{BlockPlan, BlockSet};
use crate::limits;

#[derive(Debug, Clone, Default)]
pub(super) struct Transferring {
    pub(super) offered: u32,
    pub(super) reading: bool,
    pub(super) last_offered: bool,
    pub(super) entries: BTreeMap<u32, Pending>,
    /// A file was in place before: the tree has no hash, for which those that are over would
    /// be kept.
    pub(super) has_kept: bool,
    /// Blocks of them that the receiver said it holds.
    pub(super) held: u64,
    /// How many of them have more to be said of by us.
    pub(super) unsaid: usize,
    pub(super) has_finished: bool,
    /// Lanes that are lost; of the first one the receiver was asked what it lacks.
    pub(super) losses: VecDeque<Loss>,
}

impl Transferring {
    /// Whether the receiver has told the outcome of everything.
    pub(super) fn is_over(&self) -> bool {
        self.has_finished && self.entries.is_empty()
    }

    /// Whether another batch may be offered: of entries that are open there are only so many, and
    /// of those that are over, behind one that is open.
    pub(super) fn has_room(&self) -> bool {
        let first = self.entries.keys().next().unwrap_or(&self.offered);
        let span = (self.offered - first) as usize;
        self.entries.len() + limits::BATCH_MAX_ENTRIES <= limits::WINDOW_MAX_ENTRIES
            && (self.has_kept || span + limits::BATCH_MAX_ENTRIES <= limits::TREE_SPAN_MAX_ENTRIES)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Loss {
    pub(super) lane: u16,
    /// The blocks that it was given, but those that the receiver has said it lacks.
    pub(super) given: BTreeMap<u32, BlockSet>,
}

#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) plan: Option<BlockPlan>,
    /// Blocks that the receiver said it holds.
    pub(super) held: u64,
    /// Blocks that the receiver asked for again.
    pub(super) repeats: u32,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    ExpectAnswer {
        held: Option<BlockSet>,
        checks: u32,
    },
    Sending {
        unsent: u64,
        checks: u32,
    },
    Sealing,
    ExpectDone,
    /// We said that it failed; what the receiver said before it heard of that is stale.
    Failed,
}

impl Phase {
    /// Whether we have said all there is to say.
    pub(super) fn is_said(&self) -> bool {
        matches!(self, Self::ExpectDone | Self::Failed)
    }

    /// Whether blocks of it may be on their way.
    pub(super) fn is_under_way(&self) -> bool {
        match self {
            Self::Sending { .. } | Self::Sealing | Self::ExpectDone => true,
            Self::ExpectAnswer { .. } | Self::Failed => false,
        }
    }
}

impl Pending {
    pub(super) fn new(plan: Option<BlockPlan>) -> Self {
        let phase = Phase::ExpectAnswer {
            held: None,
            checks: 0,
        };
        Self {
            plan,
            held: 0,
            repeats: 0,
            phase,
        }
    }
}
