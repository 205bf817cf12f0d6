//! Lanes that are lost: the receiver is asked what of them it lacks, one lane after another.

use std::collections::BTreeMap;

use super::entries::{Loss, Phase};
use super::{Sender, SenderOutput, State};
use crate::blocks::BlockSet;
use crate::error::ProtocolError;
use crate::session::SessionError;
use crate::wire::message::{EntryRun, LaneBlocks, Message};

impl Sender {
    /// Asks which blocks of the lane are missing, unless nobody waits for any of them.
    pub(super) fn on_lane_lost(&mut self, lane: u16, runs: &[EntryRun]) {
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        let mut given = BTreeMap::new();
        for EntryRun { entry, run } in runs {
            if let Some(pending) = transfer.entries.get(entry)
                && let (true, Some(plan)) = (pending.phase.is_under_way(), pending.plan)
            {
                let blocks = given.entry(*entry).or_insert_with(|| BlockSet::new(plan));
                for block in run.blocks().take_while(|block| *block < plan.count()) {
                    blocks.insert(block);
                }
            }
        }
        if given.is_empty() {
            return;
        }
        transfer.losses.push_back(Loss { lane, given });
        if transfer.losses.len() == 1 {
            self.ask_for_missing();
        }
    }

    fn ask_for_missing(&mut self) {
        if let State::Transferring(transfer) = &self.state
            && let Some(Loss { lane, given }) = transfer.losses.front()
        {
            let runs = given.iter().flat_map(|(entry, blocks)| {
                let runs = blocks.runs().into_iter();
                runs.map(|run| EntryRun { entry: *entry, run })
            });
            let batches = LaneBlocks::batches(*lane, &runs.collect::<Vec<_>>()).into_iter();
            let messages = batches.map(Message::LaneLost);
            self.outputs.extend(messages.map(SenderOutput::Send));
        }
    }

    pub(super) fn on_missing(&mut self, theirs: &LaneBlocks) -> Result<(), SessionError> {
        let State::Transferring(transfer) = &mut self.state else {
            return Ok(());
        };
        let loss = transfer.losses.front_mut();
        let Some(loss) = loss.filter(|loss| loss.lane == theirs.lane) else {
            return Err(ProtocolError::Misbehaved("misses blocks of no lost lane").into());
        };
        for EntryRun { entry, run } in theirs.runs.iter().copied() {
            let given = loss.given.get_mut(&entry);
            // Each of them once.
            if run.count == 0
                || run.first.checked_add(run.count).is_none()
                || !given.is_some_and(|given| run.blocks().all(|block| given.remove(block)))
            {
                return Err(ProtocolError::Misbehaved("misses blocks that were not lost").into());
            }
            let Some(pending) = transfer.entries.get_mut(&entry) else {
                continue;
            };
            // As for what is asked for again, the root does not depend on it.
            if let Phase::Sending { unsent, .. } = &mut pending.phase {
                *unsent += run.count;
            }
            if pending.phase.is_under_way() {
                let output = SenderOutput::SendBlocks { entry, run };
                self.outputs.push_back(output);
            }
        }
        if theirs.last {
            transfer.losses.pop_front();
            self.ask_for_missing();
            self.finish_if_done();
        }
        Ok(())
    }
}
