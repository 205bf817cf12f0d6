//! Entries between their offer and their outcome.

use super::{Preparation, Receiver, ReceiverOutput, State};
use crate::blocks::{BlockPlan, BlockSet};
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::limits;
use crate::session::SessionError;
use crate::wire::message::{
    Again, Answer, Decision, Done, EntryFailure, EntryRoot, Held, Message, Outcome, Verdict,
};

#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) plan: Option<BlockPlan>,
    pub(super) phase: Phase,
    /// Why it fails, whatever is found: known before the target was looked at.
    pub(super) failure: Option<ErrorCode>,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Preparing,
    /// As before, but its verdict was said beforehand: all of it may come at any time.
    Expected {
        root: Option<Hash>,
    },
    Receiving {
        proven: BlockSet,
        /// Blocks that were proven before: the sender hashes its own.
        held: u64,
        retries: u32,
        root: Option<Hash>,
    },
    Finishing,
}

impl Receiver {
    pub(super) fn on_prepared(&mut self, entry: u32, preparation: Preparation) {
        let Some(pending) = self.pending(entry) else {
            return;
        };
        // The verdict on what is expected was said beforehand, and its root may be known.
        let (is_said, root) = match pending.phase {
            Phase::Preparing => (false, None),
            Phase::Expected { root } => (true, root),
            Phase::Receiving { .. } | Phase::Finishing => return,
        };
        let preparation = match pending.failure {
            Some(code) => Preparation::Refused(code),
            None => preparation,
        };
        let decision = match (preparation, pending.plan) {
            (Preparation::Data(held), Some(plan)) => match proven_blocks(plan, &held) {
                Some(proven) => {
                    pending.phase = Phase::Receiving {
                        held: proven.len(),
                        proven,
                        retries: 0,
                        root,
                    };
                    // Held blocks that were not there when the verdict was said come all the
                    // same, and are let pass.
                    if !is_said {
                        self.announce(entry, &held);
                    }
                    Decision::Send
                }
                None => Decision::Refuse(ErrorCode::Internal),
            },
            (Preparation::Data(_), None) | (Preparation::Noted, _) => {
                Decision::Refuse(ErrorCode::Internal)
            }
            (Preparation::NoData, _) => Decision::NoData,
            (Preparation::Refused(code), _) => Decision::Refuse(code),
        };
        if is_said {
            // Anything else than what was said comes as an outcome.
            return match decision {
                Decision::Send => self.finish_entry_if_complete(entry),
                Decision::NoData => self.conclude(entry, Some(ErrorCode::TargetExists)),
                Decision::Refuse(code) => self.conclude(entry, Some(code)),
            };
        }
        self.answer(Verdict { entry, decision });
        match decision {
            Decision::Send => {}
            Decision::NoData => self.forget(entry, None),
            Decision::Refuse(code) => self.forget(entry, Some(code)),
        }
    }

    /// Tells the sender what is held, in messages within their bound.
    pub(super) fn announce(&mut self, entry: u32, held: &[(u64, Vec<Hash>)]) {
        for (first, hashes) in held {
            let mut first_block = *first;
            for hashes in hashes.chunks(limits::HELD_MAX_HASHES) {
                let held = Held {
                    entry,
                    first_block,
                    hashes: hashes.to_vec(),
                };
                self.outputs
                    .push_back(ReceiverOutput::Send(Message::Held(held)));
                first_block += hashes.len() as u64;
            }
        }
    }

    /// Adds a verdict to the answer that is still waiting to be sent, or starts one.
    pub(super) fn answer(&mut self, verdict: Verdict) {
        if let Some(ReceiverOutput::Send(Message::Answer(answer))) = self.outputs.back_mut()
            && answer.verdicts.len() < limits::BATCH_MAX_ENTRIES
        {
            return answer.verdicts.push(verdict);
        }
        let answer = Message::Answer(Answer {
            verdicts: vec![verdict],
        });
        self.outputs.push_back(ReceiverOutput::Send(answer));
    }

    pub(super) fn on_proven(&mut self, entry: u32, block: u64) {
        let Some(pending) = self.pending(entry) else {
            return;
        };
        if let Phase::Receiving { proven, .. } = &mut pending.phase {
            proven.insert(block);
            self.finish_entry_if_complete(entry);
        }
    }

    pub(super) fn on_damaged(&mut self, entry: u32, block: u64) {
        let Some(pending) = self.pending(entry) else {
            return;
        };
        let exists = pending.plan.is_some_and(|plan| block < plan.count());
        let (
            Phase::Receiving {
                retries, proven, ..
            },
            true,
        ) = (&mut pending.phase, exists)
        else {
            return;
        };
        proven.remove(block);
        *retries += 1;
        if *retries > limits::ENTRY_MAX_REPEATS {
            return self.suspend(entry, ErrorCode::HashMismatch);
        }
        let again = Message::Again(Again { entry, block });
        self.outputs.push_back(ReceiverOutput::Send(again));
    }

    pub(super) fn on_root(
        &mut self,
        EntryRoot {
            entry,
            root: theirs,
        }: EntryRoot,
    ) -> Result<(), SessionError> {
        let Some(pending) = self.pending(entry) else {
            return self.check_past(entry);
        };
        match &mut pending.phase {
            Phase::Receiving {
                root: root @ None, ..
            }
            | Phase::Expected { root: root @ None } => *root = Some(theirs),
            _ => return Err(ProtocolError::Misbehaved("completed an entry out of order").into()),
        }
        self.finish_entry_if_complete(entry);
        Ok(())
    }

    pub(super) fn finish_entry_if_complete(&mut self, entry: u32) {
        let Some(pending) = self.pending(entry) else {
            return;
        };
        if let Phase::Receiving {
            proven,
            root: Some(root),
            ..
        } = &pending.phase
            && proven.is_full()
        {
            let root = *root;
            pending.phase = Phase::Finishing;
            self.outputs
                .push_back(ReceiverOutput::Finish { entry, root });
        }
    }

    pub(super) fn suspend(&mut self, entry: u32, code: ErrorCode) {
        let Some(pending) = self.pending(entry) else {
            return;
        };
        let is_prepared = !matches!(pending.phase, Phase::Preparing);
        if pending.failure.is_none() {
            pending.failure = Some(code);
            self.outputs.push_back(ReceiverOutput::Suspend { entry });
        }
        // Whoever looks at targets may be far from this one: its answer frees the place.
        if is_prepared {
            self.conclude(entry, Some(code));
        }
    }

    pub(super) fn conclude(&mut self, entry: u32, failure: Option<ErrorCode>) {
        self.forget(entry, failure);
        let outcome = Outcome { entry, failure };
        if let Some(ReceiverOutput::Send(Message::Done(done))) = self.outputs.back_mut()
            && done.outcomes.len() < limits::BATCH_MAX_ENTRIES
        {
            return done.outcomes.push(outcome);
        }
        let done = Message::Done(Done {
            outcomes: vec![outcome],
        });
        self.outputs.push_back(ReceiverOutput::Send(done));
    }

    pub(super) fn forget(&mut self, entry: u32, failure: Option<ErrorCode>) {
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        let Some(pending) = transfer.entries.remove(&entry) else {
            return;
        };
        self.totals.count(pending.plan, failure.is_some());
        if let Some(code) = failure
            && self.failures.len() < limits::RECEIPT_MAX_FAILURES
        {
            self.failures.push(EntryFailure { entry, code });
        }
        let release = ReceiverOutput::Release { entry, failure };
        // In front of what is still waiting to be sent, so that messages can grow.
        match self.outputs.pop_back() {
            Some(last @ ReceiverOutput::Send(_)) => self.outputs.extend([release, last]),
            Some(other) => self.outputs.extend([other, release]),
            None => self.outputs.push_back(release),
        }
    }

    pub(super) fn phase(&self, entry: u32) -> Option<&Phase> {
        match &self.state {
            State::Transferring(transfer) => transfer.entries.get(&entry).map(|p| &p.phase),
            _ => None,
        }
    }

    pub(super) fn pending(&mut self, entry: u32) -> Option<&mut Pending> {
        match &mut self.state {
            State::Transferring(transfer) => transfer.entries.get_mut(&entry),
            _ => None,
        }
    }
}

/// The blocks of these runs; `None` when one is there twice or beyond the end of the file.
fn proven_blocks(plan: BlockPlan, held: &[(u64, Vec<Hash>)]) -> Option<BlockSet> {
    let mut proven = BlockSet::new(plan);
    for (first, hashes) in held {
        let end = first.checked_add(hashes.len() as u64)?;
        if !(*first..end).all(|block| proven.insert(block)) {
            return None;
        }
    }
    Some(proven)
}
