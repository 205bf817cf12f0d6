//! Lanes that the sender has lost, and the blocks that went with them.

use std::collections::BTreeMap;

use super::entries::Phase;
use super::{Receiver, ReceiverOutput, State};
use crate::blocks::BlockSet;
use crate::error::ProtocolError;
use crate::session::SessionError;
use crate::wire::message::{EntryRun, LaneBlocks, Message};

#[derive(Debug, Clone)]
pub(super) struct Loss {
    lane: u16,
    /// Of each entry, the blocks that it had been given and that had not arrived.
    blocks: BTreeMap<u32, BlockSet>,
    /// All of them are named.
    is_told: bool,
}

impl Receiver {
    pub(super) fn on_lane_lost(&mut self, lost: &LaneBlocks) -> Result<(), SessionError> {
        let State::Transferring(transfer) = &mut self.state else {
            return Ok(());
        };
        let misbehaved = |what| Err(ProtocolError::Misbehaved(what).into());
        let loss = transfer.loss.get_or_insert_with(|| Loss {
            lane: lost.lane,
            blocks: BTreeMap::new(),
            is_told: false,
        });
        if lost.lane == 0 || loss.lane != lost.lane || loss.is_told {
            return misbehaved("lost the control stream, or two lanes at once");
        }
        for EntryRun { entry, run } in lost.runs.iter().copied() {
            if entry >= transfer.offered {
                return misbehaved("lost blocks of what was not offered");
            }
            // Whoever is over, or has everything, lacks nothing.
            let Some(pending) = transfer.entries.get(&entry) else {
                continue;
            };
            let (plan, proven) = match (&pending.phase, pending.plan) {
                (Phase::Receiving { proven, .. }, Some(plan)) => (plan, Some(proven)),
                (Phase::Expected { .. }, Some(plan)) => (plan, None),
                (Phase::Finishing, _) => continue,
                _ => return misbehaved("lost blocks before the verdict"),
            };
            if run.count == 0 || run.blocks().end > plan.count() {
                return misbehaved("lost no block, or one beyond the end");
            }
            let doubted = loss.blocks.entry(entry);
            let doubted = doubted.or_insert_with(|| BlockSet::new(plan));
            let is_proven = |block| proven.is_some_and(|proven| proven.contains(block));
            for block in run.blocks().filter(|block| !is_proven(*block)) {
                doubted.insert(block);
            }
        }
        if lost.last {
            loss.is_told = true;
            let lane = lost.lane;
            self.outputs.push_back(ReceiverOutput::DropLane { lane });
        }
        Ok(())
    }

    /// Says what is missing, now that nothing more comes from the lane.
    pub(super) fn on_lane_dropped(&mut self, lane: u16) {
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        let is_it = |loss: &mut Loss| loss.is_told && loss.lane == lane;
        let Some(loss) = transfer.loss.take_if(is_it) else {
            return;
        };
        let mut runs = Vec::new();
        for (entry, doubted) in &loss.blocks {
            let missing = match transfer.entries.get(entry).map(|pending| &pending.phase) {
                Some(Phase::Receiving { proven, .. }) => doubted.without(proven),
                Some(Phase::Expected { .. }) => doubted.runs(),
                Some(Phase::Preparing | Phase::Finishing) | None => continue,
            };
            let missing = missing.into_iter();
            runs.extend(missing.map(|run| EntryRun { entry: *entry, run }));
        }
        let batches = LaneBlocks::batches(lane, &runs).into_iter();
        let messages = batches.map(Message::Missing);
        self.outputs.extend(messages.map(ReceiverOutput::Send));
    }
}
