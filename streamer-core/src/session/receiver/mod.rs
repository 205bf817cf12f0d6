//! The side that gets the bytes.

mod entries;
mod losses;

use std::collections::{BTreeMap, VecDeque};

use self::entries::{Pending, Phase};
use self::losses::Loss;
use crate::blocks::BlockPlan;
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::limits;
use crate::session::{Conclusion, FIRST_ENTRY, SessionError, check_control, check_hello, hello};
use crate::wire::message::{
    Abort, Complete, Entry, EntryFailure, EntryKind, Finish, Hello, Message, Offer, Receipt, Role,
    SessionId, Wanted,
};

/// State machine of the receiver. See the module for how to drive it.
#[derive(Debug, Clone)]
pub struct Receiver {
    session: SessionId,
    state: State,
    inbound_limit_bytes: Option<u64>,
    /// The sender was told that the first entry is wanted, if it is a file.
    is_vacant: bool,
    outputs: VecDeque<ReceiverOutput>,
    failures: Vec<EntryFailure>,
    totals: Receipt,
}

/// What a receiver accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceiverConfig {
    /// Most bytes offered in one transfer; `None`: any number. One byte over is refused.
    pub inbound_limit_bytes: Option<u64>,
    /// What the sender is asked for, of a tree.
    pub wanted: Wanted,
    /// Nothing is at the target. The sender is told, and sends the first entry, if it is a file,
    /// without waiting for a verdict. Only for a receiver that dials; a file that comes there
    /// meanwhile makes the entry fail.
    pub vacant: bool,
}

/// What happened at the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverInput {
    /// The peer said this.
    Message(Message),
    /// Answers [`ReceiverOutput::Prepare`] and [`ReceiverOutput::Refuse`]. Until then the entry has its
    /// place in the window, whatever the sender says of it: so what waits for whoever looks at targets
    /// is bounded.
    Prepared {
        /// Which entry.
        entry: u32,
        /// What is there.
        preparation: Preparation,
    },
    /// A block arrived, is in the file, and its hash is the one announced with it.
    BlockProven {
        /// Which entry.
        entry: u32,
        /// Which block.
        block: u64,
    },
    /// A block arrived, but its hash is not the one announced with it.
    BlockDamaged {
        /// Which entry.
        entry: u32,
        /// Which block.
        block: u64,
    },
    /// An entry cannot be written any more.
    TargetFailed {
        /// Which entry.
        entry: u32,
        /// Why.
        code: ErrorCode,
    },
    /// Answers [`ReceiverOutput::Finish`]: it has its final name, or the reason why not.
    Finished {
        /// Which entry.
        entry: u32,
        /// `None`: done.
        failure: Option<ErrorCode>,
    },
    /// Answers [`ReceiverOutput::DropLane`]: nothing comes from it any more, and what came was
    /// told.
    LaneDropped {
        /// Its number.
        lane: u16,
    },
    /// Answers [`ReceiverOutput::Sync`].
    Synced,
    /// This side has to stop.
    Stop(ErrorCode),
}

/// How the target of an entry was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preparation {
    /// A file to be written, of which blocks are there already and proven: runs of hashes,
    /// each with its first block.
    Data(Vec<(u64, Vec<Hash>)>),
    /// Nothing to be sent: made, or kept as it is.
    NoData,
    /// It cannot be received.
    Refused(ErrorCode),
    /// It was refused or suspended before anything was looked at, and that is noted.
    Noted,
}

/// What the driver of a receiver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverOutput {
    /// Send this on the control stream.
    Send(Message),
    /// Comes first, if the sender wants it: throw away what an earlier run left, unless that
    /// was done for this session already.
    Restart,
    /// Look at the target of this entry, make what can be made, and open its partial.
    Prepare {
        /// Its number.
        entry: u32,
        /// What was offered.
        offered: Entry,
    },
    /// This entry is refused as it is offered: there is nothing to look at. Note that, in the order
    /// of entries.
    Refuse {
        /// Its number.
        entry: u32,
        /// What was offered.
        offered: Entry,
    },
    /// Every block is proven: compare the root, make the file durable, name it.
    Finish {
        /// Which entry.
        entry: u32,
        /// What the sender says the root is.
        root: Hash,
    },
    /// The entry failed: close its partial, or do not open it. It stays for a later resume. A
    /// [`Prepare`](Self::Prepare) that is not answered still has to be.
    Suspend {
        /// Which entry.
        entry: u32,
    },
    /// The entry is over; forget it.
    Release {
        /// Which entry.
        entry: u32,
        /// `None`: it is in place.
        failure: Option<ErrorCode>,
    },
    /// The sender has lost this lane: take nothing more from it, now or later, then feed
    /// [`ReceiverInput::LaneDropped`].
    DropLane {
        /// Its number.
        lane: u16,
    },
    /// Make everything durable, then feed [`ReceiverInput::Synced`].
    Sync,
    /// The receipt was given; wait for the peer to close the connection.
    Close(Conclusion),
}

#[derive(Debug, Clone)]
enum State {
    ExpectHello,
    Transferring(Transferring),
    Syncing,
    Closed,
}

#[derive(Debug, Clone, Default)]
struct Transferring {
    offered: u32,
    offered_bytes: u64,
    last_offered: bool,
    /// The sender has said all there is to say.
    has_finished: bool,
    entries: BTreeMap<u32, Pending>,
    /// The lane that the sender has lost.
    loss: Option<Loss>,
}

impl Receiver {
    /// Starts a session with our `Hello` as first output.
    pub fn new(session: SessionId, config: ReceiverConfig) -> Self {
        let mut hello = hello(Role::Receiver, session, 0);
        hello.wanted = config.wanted;
        hello.vacant = config.vacant;
        let hello = ReceiverOutput::Send(Message::Hello(hello));
        Self {
            session,
            state: State::ExpectHello,
            inbound_limit_bytes: config.inbound_limit_bytes,
            is_vacant: config.vacant,
            outputs: VecDeque::from([hello]),
            failures: Vec::new(),
            totals: Receipt::default(),
        }
    }

    /// Takes what happened.
    ///
    /// # Errors
    /// The session is over; send the remaining outputs, then close.
    pub fn handle(&mut self, input: ReceiverInput) -> Result<(), SessionError> {
        if matches!(self.state, State::Closed) {
            return self.refuse_late(&input);
        }
        let result = self.dispatch(input);
        if let Err(error) = &result {
            self.outputs.clear();
            if let Some(code) = error.farewell() {
                self.outputs
                    .push_back(ReceiverOutput::Send(Message::Abort(Abort { code })));
            }
            self.state = State::Closed;
        }
        result
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        self.outputs.pop_front()
    }

    /// Name of the state, for errors and logs.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::ExpectHello => "expecting Hello",
            State::Transferring(_) => "transferring",
            State::Syncing => "syncing",
            State::Closed => "closed",
        }
    }

    /// Whether the sender has said `Hello`.
    pub fn is_greeted(&self) -> bool {
        !matches!(self.state, State::ExpectHello)
    }

    /// Whether this block of this entry is wanted now: asked for, and not yet proven.
    pub fn wants(&self, entry: u32, block: u64) -> bool {
        let State::Transferring(transfer) = &self.state else {
            return false;
        };
        let Some(pending) = transfer.entries.get(&entry) else {
            return false;
        };
        match &pending.phase {
            Phase::Receiving { proven, .. } => !proven.contains(block),
            Phase::Preparing | Phase::Expected { .. } | Phase::Finishing => false,
        }
    }

    /// Whether the sender has said of some file that all of it was sent, and blocks of it are
    /// still missing.
    pub fn is_owed(&self) -> bool {
        let State::Transferring(transfer) = &self.state else {
            return false;
        };
        // Complete and with its root, an entry is past this phase.
        let is_owed = |pending: &Pending| match pending.phase {
            Phase::Receiving { root, .. } => root.is_some(),
            Phase::Preparing | Phase::Expected { .. } | Phase::Finishing => false,
        };
        transfer.entries.values().any(is_owed)
    }

    /// Bytes that either side may be hashing, without a word: this one of what it finds at the
    /// target, the sender of what it was told is held.
    pub fn unhashed_bytes(&self) -> u64 {
        let State::Transferring(transfer) = &self.state else {
            return 0;
        };
        let of = |pending: &Pending| {
            let plan = pending.plan?;
            Some(match &pending.phase {
                Phase::Preparing | Phase::Expected { .. } => plan.size(),
                Phase::Receiving {
                    held, root: None, ..
                } => plan.size().min(held.saturating_mul(plan.block_bytes())),
                Phase::Receiving { .. } | Phase::Finishing => 0,
            })
        };
        let sizes = transfer.entries.values().filter_map(of);
        sizes.fold(0, u64::saturating_add)
    }

    /// A closed session says nothing more, and what it still has to say stays: an event, an
    /// `Abort`, `Failed` or `LaneLost` that comes late changes nothing, any other message is a fault.
    fn refuse_late(&self, input: &ReceiverInput) -> Result<(), SessionError> {
        match input {
            ReceiverInput::Message(message)
                if !matches!(
                    message,
                    Message::Abort(_) | Message::Failed(_) | Message::LaneLost(_)
                ) =>
            {
                Err(self.unexpected(message.name()).into())
            }
            _ => Ok(()),
        }
    }

    fn unexpected(&self, message: &'static str) -> ProtocolError {
        let state = self.state_name();
        ProtocolError::Unexpected { message, state }
    }

    fn dispatch(&mut self, input: ReceiverInput) -> Result<(), SessionError> {
        match input {
            ReceiverInput::Message(message) => self.handle_message(message)?,
            ReceiverInput::Stop(code) => return Err(SessionError::Ours(code)),
            ReceiverInput::Prepared { entry, preparation } => self.on_prepared(entry, preparation),
            ReceiverInput::BlockProven { entry, block } => self.on_proven(entry, block),
            ReceiverInput::BlockDamaged { entry, block } => self.on_damaged(entry, block),
            ReceiverInput::TargetFailed { entry, code } => self.suspend(entry, code),
            ReceiverInput::Finished { entry, failure } => {
                if matches!(self.phase(entry), Some(Phase::Finishing)) {
                    self.conclude(entry, failure);
                }
            }
            ReceiverInput::LaneDropped { lane } => self.on_lane_dropped(lane),
            ReceiverInput::Synced => self.on_synced(),
        }
        self.sync_if_done();
        Ok(())
    }

    fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        if let Message::Abort(Abort { code }) = message {
            return Err(SessionError::Peer(code));
        }
        let name = message.name();
        match (&mut self.state, message) {
            (State::ExpectHello, Message::Hello(hello)) => self.on_hello(&hello),
            (State::Transferring(_), Message::Offer(offer)) => self.on_offer(offer),
            (State::Transferring(_), Message::Complete(complete)) => self.on_complete(&complete),
            (State::Transferring(_), Message::Failed(failure)) => self.on_failed(failure),
            (State::Transferring(_), Message::LaneLost(lost)) => self.on_lane_lost(&lost),
            (State::Transferring(_), Message::Finish(finish)) => self.on_finish(finish),
            // Too late: everything is in place, and the receipt says so.
            (State::Syncing, Message::Failed(_) | Message::LaneLost(_)) => Ok(()),
            _ => Err(self.unexpected(name).into()),
        }
    }

    fn on_hello(&mut self, theirs: &Hello) -> Result<(), SessionError> {
        check_hello(Role::Receiver, theirs).map_err(SessionError::Ours)?;
        check_control(self.session, theirs)?;
        self.state = State::Transferring(Transferring::default());
        if theirs.restart {
            self.outputs.push_back(ReceiverOutput::Restart);
        }
        Ok(())
    }

    fn on_offer(&mut self, offer: Offer) -> Result<(), SessionError> {
        let limit = self.inbound_limit_bytes;
        let State::Transferring(transfer) = &mut self.state else {
            return Ok(());
        };
        if transfer.last_offered || offer.first != transfer.offered {
            return Err(ProtocolError::Misbehaved("offered entries out of order").into());
        }
        if transfer.entries.len() + offer.entries.len() > limits::WINDOW_MAX_ENTRIES {
            return Err(ProtocolError::LimitExceeded("entries at a time").into());
        }
        let room = limits::TRANSFER_MAX_ENTRIES - transfer.offered;
        if offer.entries.len() > room as usize {
            return Err(ProtocolError::LimitExceeded("entries in a transfer").into());
        }
        if offer.last && offer.entries.is_empty() && transfer.offered == 0 {
            // A receipt for it would be one for a file that is not there.
            return Err(ProtocolError::Misbehaved("offered nothing").into());
        }
        transfer.last_offered = offer.last;
        for offered in offer.entries {
            let entry = transfer.offered;
            transfer.offered += 1;
            let plan = offered.plan();
            let is_expected = self.is_vacant && entry == FIRST_ENTRY && plan.is_some();
            let phase = match is_expected {
                true => Phase::Expected { root: None },
                false => Phase::Preparing,
            };
            let bytes = transfer
                .offered_bytes
                .saturating_add(plan.map_or(0, BlockPlan::size));
            let refusal = match offered.kind {
                EntryKind::Unsent { code } => Some(code),
                _ if limit.is_some_and(|limit| bytes > limit) => Some(ErrorCode::OverInboundLimit),
                _ => None,
            };
            let pending = Pending {
                plan,
                phase,
                failure: refusal,
            };
            transfer.entries.insert(entry, pending);
            self.outputs.push_back(match refusal {
                Some(_) => ReceiverOutput::Refuse { entry, offered },
                None => {
                    transfer.offered_bytes = bytes;
                    ReceiverOutput::Prepare { entry, offered }
                }
            });
        }
        Ok(())
    }

    fn on_complete(&mut self, complete: &Complete) -> Result<(), SessionError> {
        let mut roots = complete.roots.iter();
        roots.try_for_each(|root| self.on_root(*root))
    }

    fn on_failed(&mut self, failure: EntryFailure) -> Result<(), SessionError> {
        match self.phase(failure.entry) {
            None => self.check_past(failure.entry)?,
            // It has every byte and the root, and may have its name already: too late.
            Some(Phase::Finishing) => {}
            Some(_) => self.suspend(failure.entry, failure.code),
        }
        Ok(())
    }

    fn on_finish(&mut self, finish: Finish) -> Result<(), SessionError> {
        let State::Transferring(transfer) = &mut self.state else {
            return Ok(());
        };
        let is_complete = |pending: &Pending| match &pending.phase {
            Phase::Preparing => pending.failure.is_some(),
            Phase::Receiving { root, .. } | Phase::Expected { root } => root.is_some(),
            Phase::Finishing => true,
        };
        if !transfer.last_offered
            || transfer.has_finished
            || !transfer.entries.values().all(is_complete)
            || finish.entries != transfer.offered
        {
            return Err(ProtocolError::Misbehaved("finished before it was done").into());
        }
        transfer.has_finished = true;
        Ok(())
    }

    fn sync_if_done(&mut self) {
        if let State::Transferring(transfer) = &self.state
            && transfer.has_finished
            && transfer.entries.is_empty()
            && transfer.loss.is_none()
        {
            self.state = State::Syncing;
            self.outputs.push_back(ReceiverOutput::Sync);
        }
    }

    fn on_synced(&mut self) {
        if matches!(self.state, State::Syncing) {
            let receipt = self.totals;
            let failures = std::mem::take(&mut self.failures);
            self.outputs
                .push_back(ReceiverOutput::Send(Message::Receipt(receipt)));
            self.outputs
                .push_back(ReceiverOutput::Close(Conclusion { receipt, failures }));
            self.state = State::Closed;
        }
    }

    /// A message about an entry that is over may have crossed ours; one that was never
    /// offered is a fault.
    fn check_past(&self, entry: u32) -> Result<(), SessionError> {
        match &self.state {
            State::Transferring(transfer) if entry < transfer.offered => Ok(()),
            _ => Err(ProtocolError::Misbehaved("named an entry that was not offered").into()),
        }
    }
}
