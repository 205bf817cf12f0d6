//! The side that has the bytes.

mod entries;
mod losses;

use std::collections::VecDeque;

use self::entries::{Pending, Phase, Transferring};
use crate::blocks::{BlockPlan, BlockRun, BlockSet};
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::limits;
use crate::session::offers::offers_of;
use crate::session::{Conclusion, FIRST_ENTRY, SessionError, check_control, check_hello, hello};
use crate::wire::message::{
    Abort, Again, Answer, Complete, Decision, Done, Entry, EntryFailure, EntryRoot, EntryRun,
    Finish, Held, Hello, Message, Receipt, Role, SessionId, Wanted,
};

/// State machine of the sender. See the module for how to drive it.
#[derive(Debug, Clone)]
pub struct Sender {
    session: SessionId,
    /// The receiver has said `Hello`: nothing else of it is taken before.
    is_greeted: bool,
    /// The receiver has said that it wants the first entry, if it is a file.
    is_vacant: bool,
    state: State,
    outputs: VecDeque<SenderOutput>,
    failures: Vec<EntryFailure>,
    totals: Receipt,
}

/// What happened at the sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderInput {
    /// The peer said this.
    Message(Message),
    /// The next entries of the source, as asked for by [`SenderOutput::ReadManifest`].
    Manifest {
        /// At most [`limits::BATCH_MAX_ENTRIES`].
        entries: Vec<Entry>,
        /// Whether the source has no more.
        last: bool,
    },
    /// Answers [`SenderOutput::CheckHeld`].
    HeldChecked {
        /// Which entry.
        entry: u32,
        /// Whether the source has these hashes too.
        agrees: bool,
    },
    /// Blocks were written to a data stream.
    BlocksSent {
        /// Which entry.
        entry: u32,
        /// How many.
        count: u64,
    },
    /// Answers [`SenderOutput::Seal`]: the source did not change, and this is its root.
    Sealed {
        /// Which entry.
        entry: u32,
        /// BLAKE3 of the whole file.
        root: Hash,
    },
    /// An entry cannot be read any more.
    SourceFailed {
        /// Which entry.
        entry: u32,
        /// Why.
        code: ErrorCode,
    },
    /// A lane that does not control is lost, and these blocks were given to it. Each of them
    /// counts as sent.
    LaneLost {
        /// Its number.
        lane: u16,
        /// Whatever became of them.
        runs: Vec<EntryRun>,
    },
    /// This side has to stop.
    Stop(ErrorCode),
}

/// What the driver of a sender has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderOutput {
    /// Send this on the control stream.
    Send(Message),
    /// Comes first, if the receiver does not want everything: leave the rest out of the
    /// manifest.
    Filter(Wanted),
    /// Read on in the source, then feed [`SenderInput::Manifest`].
    ReadManifest,
    /// Hash these blocks of the source and compare.
    CheckHeld(Held),
    /// Send these blocks as records.
    SendBlocks {
        /// Which entry.
        entry: u32,
        /// Which blocks.
        run: BlockRun,
    },
    /// All blocks are sent or held: check that the source did not change, compute its root.
    Seal {
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
    /// The transfer is over; close the connection.
    Close(Conclusion),
}

#[derive(Debug, Clone)]
enum State {
    Transferring(Transferring),
    ExpectReceipt,
    Closed,
}

impl Sender {
    /// Starts a session with our `Hello` as first output. With `restart` the receiver throws
    /// away what an earlier run left.
    pub fn new(session: SessionId, restart: bool) -> Self {
        let mut hello = hello(Role::Sender, session, 0);
        hello.restart = restart;
        let hello = Message::Hello(hello);
        Self {
            session,
            is_greeted: false,
            is_vacant: false,
            state: State::Transferring(Transferring::default()),
            outputs: VecDeque::from([SenderOutput::Send(hello)]),
            failures: Vec::new(),
            totals: Receipt::default(),
        }
    }

    /// The same for whoever dials: offers right behind its `Hello`, a round trip earlier. A
    /// receiver that listens has no filter to be heard first.
    pub fn dialer(session: SessionId, restart: bool) -> Self {
        let mut sender = Self::new(session, restart);
        sender.read_on();
        sender
    }

    /// Takes what happened.
    ///
    /// # Errors
    /// The session is over; send the remaining outputs, then close.
    pub fn handle(&mut self, input: SenderInput) -> Result<(), SessionError> {
        if matches!(self.state, State::Closed) {
            return self.refuse_late(&input);
        }
        let result = self.dispatch(input);
        if let Err(error) = &result {
            self.outputs.clear();
            if let Some(code) = error.farewell() {
                self.outputs
                    .push_back(SenderOutput::Send(Message::Abort(Abort { code })));
            }
            self.state = State::Closed;
        }
        result
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<SenderOutput> {
        self.outputs.pop_front()
    }

    /// Entries offered so far: the number of the next one.
    pub fn offered(&self) -> u32 {
        match &self.state {
            State::Transferring(transfer) => transfer.offered,
            State::ExpectReceipt | State::Closed => 0,
        }
    }

    /// Whether the receiver has said `Hello`.
    pub fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Bytes that either side may be hashing, without a word: the receiver of what it finds at its
    /// target, this one of what it was told is held.
    pub fn unhashed_bytes(&self) -> u64 {
        let State::Transferring(transfer) = &self.state else {
            return 0;
        };
        let of = |pending: &Pending| match pending.phase {
            Phase::ExpectAnswer { .. } => pending.plan.map(BlockPlan::size),
            Phase::Sending { checks, .. } if checks > 0 => pending.plan.map(BlockPlan::size),
            _ => None,
        };
        let sizes = transfer.entries.values().filter_map(of);
        sizes.fold(0, u64::saturating_add)
    }

    /// How the session ends if only the receipt is lost: the receiver has told the outcome of
    /// everything. `None` before that.
    pub fn unheard(&self) -> Option<Conclusion> {
        let is_over = match &self.state {
            State::Transferring(transfer) => transfer.is_over(),
            State::ExpectReceipt => true,
            State::Closed => false,
        };
        is_over.then(|| Conclusion {
            receipt: self.totals,
            failures: self.failures.clone(),
        })
    }

    /// Name of the state, for errors and logs.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            _ if !self.is_greeted => "expecting Hello",
            State::Transferring(_) => "transferring",
            State::ExpectReceipt => "expecting Receipt",
        }
    }

    /// A closed session says nothing more, and what it still has to say stays: an event or an
    /// `Abort` that comes late changes nothing, any other message is a fault.
    fn refuse_late(&self, input: &SenderInput) -> Result<(), SessionError> {
        match input {
            SenderInput::Message(message) if !matches!(message, Message::Abort(_)) => {
                Err(self.unexpected(message.name()).into())
            }
            _ => Ok(()),
        }
    }

    fn unexpected(&self, message: &'static str) -> ProtocolError {
        let state = self.state_name();
        ProtocolError::Unexpected { message, state }
    }

    fn dispatch(&mut self, input: SenderInput) -> Result<(), SessionError> {
        match input {
            SenderInput::Message(message) => self.handle_message(message),
            SenderInput::Stop(code) => Err(SessionError::Ours(code)),
            SenderInput::Manifest { entries, last } => self.on_manifest(entries, last),
            SenderInput::HeldChecked { entry, agrees } => {
                self.on_held_checked(entry, agrees);
                Ok(())
            }
            SenderInput::LaneLost { lane, runs } => {
                self.on_lane_lost(lane, &runs);
                Ok(())
            }
            SenderInput::BlocksSent { entry, count } => {
                self.on_blocks_sent(entry, count);
                Ok(())
            }
            SenderInput::Sealed { entry, root } => {
                self.on_sealed(entry, root);
                Ok(())
            }
            SenderInput::SourceFailed { entry, code } => {
                self.fail_entry(entry, code);
                Ok(())
            }
        }
    }

    fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        if let Message::Abort(Abort { code }) = message {
            return Err(SessionError::Peer(code));
        }
        let name = message.name();
        if !self.is_greeted {
            return match message {
                Message::Hello(hello) => self.on_hello(hello),
                _ => Err(self.unexpected(name).into()),
            };
        }
        match (&mut self.state, message) {
            (State::Transferring(_), Message::Held(held)) => self.on_held(held),
            (State::Transferring(_), Message::Answer(answer)) => self.on_answer(&answer),
            (State::Transferring(_), Message::Again(again)) => self.on_again(again),
            (State::Transferring(_), Message::Done(done)) => self.on_done(&done),
            (State::ExpectReceipt, Message::Receipt(receipt)) => self.on_receipt(receipt),
            // It had everything before it heard that a lane is lost.
            (State::Transferring(transfer), Message::Receipt(receipt)) if transfer.is_over() => {
                self.on_receipt(receipt)
            }
            (State::Transferring(_), Message::Missing(missing)) => self.on_missing(&missing),
            _ => Err(self.unexpected(name).into()),
        }
    }

    fn on_hello(&mut self, theirs: Hello) -> Result<(), SessionError> {
        check_hello(Role::Sender, &theirs).map_err(SessionError::Ours)?;
        check_control(self.session, &theirs)?;
        self.is_greeted = true;
        if self.has_begun() {
            if !theirs.wanted.is_everything() || theirs.vacant {
                return Err(ProtocolError::Misbehaved("listens and has wishes").into());
            }
            return Ok(());
        }
        self.is_vacant = theirs.vacant;
        if !theirs.wanted.is_everything() {
            self.outputs.push_back(SenderOutput::Filter(theirs.wanted));
        }
        self.read_on();
        Ok(())
    }

    /// Whether the manifest is being read, or was.
    fn has_begun(&self) -> bool {
        match &self.state {
            State::Transferring(transfer) => {
                transfer.reading || transfer.last_offered || transfer.offered > 0
            }
            State::ExpectReceipt | State::Closed => true,
        }
    }

    fn on_manifest(&mut self, entries: Vec<Entry>, last: bool) -> Result<(), SessionError> {
        let State::Transferring(transfer) = &mut self.state else {
            return Ok(());
        };
        if !transfer.reading || entries.len() > limits::BATCH_MAX_ENTRIES {
            return Err(SessionError::Ours(ErrorCode::Internal));
        }
        let room = limits::TRANSFER_MAX_ENTRIES - transfer.offered;
        if entries.len() > room as usize {
            return Err(SessionError::Ours(ErrorCode::LimitExceeded));
        }
        if last && entries.is_empty() && transfer.offered == 0 {
            // A receipt for it would be one for nothing.
            return Err(SessionError::Ours(ErrorCode::Internal));
        }
        transfer.reading = false;
        transfer.last_offered = last;
        let mut batches = offers_of(transfer.offered, entries, last);
        let is_first = transfer.offered == 0;
        for entry in batches.iter().flat_map(|offer| &offer.entries) {
            transfer
                .entries
                .insert(transfer.offered, Pending::new(entry.plan()));
            transfer.offered += 1;
            transfer.unsaid += 1;
        }
        let offers = batches.drain(..).map(Message::Offer);
        self.outputs.extend(offers.map(SenderOutput::Send));
        if is_first && self.is_vacant {
            self.send_unasked(FIRST_ENTRY);
        }
        self.read_on();
        self.finish_if_done();
        Ok(())
    }

    /// Asks for more of the manifest while the window has room.
    fn read_on(&mut self) {
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        if !transfer.reading && !transfer.last_offered && transfer.has_room() {
            transfer.reading = true;
            self.outputs.push_back(SenderOutput::ReadManifest);
        }
    }

    fn on_held(&mut self, theirs: Held) -> Result<(), SessionError> {
        let pending = self.pending(theirs.entry)?;
        let plan = pending
            .plan
            .ok_or(ProtocolError::Misbehaved("holds blocks of no file"))?;
        let (held, checks) = match &mut pending.phase {
            Phase::ExpectAnswer { held, checks } => (held, checks),
            Phase::Failed => return Ok(()),
            _ => return Err(ProtocolError::Misbehaved("holds blocks after its verdict").into()),
        };
        let held = held.get_or_insert_with(|| BlockSet::new(plan));
        let end = theirs.first_block.checked_add(theirs.hashes.len() as u64);
        let valid = end.is_some_and(|end| {
            end > theirs.first_block && (theirs.first_block..end).all(|block| held.insert(block))
        });
        if !valid {
            return Err(ProtocolError::Misbehaved(
                "holds no block, a block twice, or one beyond the end",
            )
            .into());
        }
        *checks += 1;
        let count = theirs.hashes.len() as u64;
        pending.held += count;
        if let State::Transferring(transfer) = &mut self.state {
            transfer.held += count;
            if transfer.held > limits::HELD_OPEN_MAX_HASHES {
                return Err(ProtocolError::LimitExceeded("blocks held").into());
            }
        }
        self.outputs.push_back(SenderOutput::CheckHeld(theirs));
        Ok(())
    }

    fn on_answer(&mut self, answer: &Answer) -> Result<(), SessionError> {
        for verdict in &answer.verdicts {
            let entry = verdict.entry;
            let pending = self.pending(entry)?;
            let (held, checks) = match &mut pending.phase {
                Phase::ExpectAnswer { held, checks } => (held.take(), *checks),
                Phase::Failed if verdict.decision == Decision::Send => continue,
                Phase::Failed => (None, 0),
                _ => return Err(ProtocolError::Misbehaved("answered an entry twice").into()),
            };
            match (verdict.decision, pending.plan) {
                (Decision::Refuse(code), _) => self.forget(entry, Some(code)),
                (Decision::NoData, plan) => self.keep(entry, plan),
                (Decision::Send, None) => {
                    return Err(ProtocolError::Misbehaved("asked for the bytes of no file").into());
                }
                (Decision::Send, Some(plan)) => {
                    let held = held.unwrap_or_else(|| BlockSet::new(plan));
                    self.send_rest(entry, plan, &held, checks);
                }
            }
        }
        self.finish_if_done();
        Ok(())
    }

    /// It is in place, without a byte of it.
    fn keep(&mut self, entry: u32, plan: Option<BlockPlan>) {
        if let State::Transferring(transfer) = &mut self.state {
            transfer.has_kept |= plan.is_some();
        }
        self.forget(entry, None);
    }

    /// All of a file whose verdict is known beforehand.
    fn send_unasked(&mut self, entry: u32) {
        if let Ok(pending) = self.pending(entry)
            && let Some(plan) = pending.plan
        {
            self.send_rest(entry, plan, &BlockSet::new(plan), 0);
        }
    }

    /// What is not held, while so many messages about what is are being checked.
    fn send_rest(&mut self, entry: u32, plan: BlockPlan, held: &BlockSet, checks: u32) {
        let Ok(pending) = self.pending(entry) else {
            return;
        };
        let unsent = plan.count() - held.len();
        pending.phase = Phase::Sending { unsent, checks };
        let runs = held.missing().into_iter();
        self.outputs
            .extend(runs.map(|run| SenderOutput::SendBlocks { entry, run }));
        self.seal_if_sent(entry);
    }

    fn on_again(&mut self, Again { entry, block }: Again) -> Result<(), SessionError> {
        let pending = self.pending(entry)?;
        let exists = pending.plan.is_some_and(|plan| block < plan.count());
        if matches!(pending.phase, Phase::Failed) {
            return Ok(());
        }
        if !exists || matches!(pending.phase, Phase::ExpectAnswer { .. }) {
            return Err(ProtocolError::Misbehaved("asked again for what it never got").into());
        }
        pending.repeats += 1;
        if pending.repeats > limits::ENTRY_MAX_REPEATS {
            return Err(ProtocolError::LimitExceeded("blocks asked for again").into());
        }
        // The root was or will be announced regardless: it does not depend on the repetition.
        if let Phase::Sending { unsent, .. } = &mut pending.phase {
            *unsent += 1;
        }
        let run = BlockRun {
            first: block,
            count: 1,
        };
        self.outputs
            .push_back(SenderOutput::SendBlocks { entry, run });
        Ok(())
    }

    fn on_done(&mut self, done: &Done) -> Result<(), SessionError> {
        for outcome in &done.outcomes {
            let pending = self.pending(outcome.entry)?;
            let early = !matches!(pending.phase, Phase::ExpectDone | Phase::Failed);
            if early && outcome.failure.is_none() {
                return Err(ProtocolError::Misbehaved("was done before it had everything").into());
            }
            self.forget(outcome.entry, outcome.failure);
        }
        self.finish_if_done();
        Ok(())
    }

    fn on_held_checked(&mut self, entry: u32, agrees: bool) {
        if !agrees {
            return self.fail_entry(entry, ErrorCode::SourceChanged);
        }
        let Ok(pending) = self.pending(entry) else {
            return;
        };
        if let Phase::ExpectAnswer { checks, .. } | Phase::Sending { checks, .. } =
            &mut pending.phase
        {
            *checks = checks.saturating_sub(1);
        }
        self.seal_if_sent(entry);
    }

    fn on_blocks_sent(&mut self, entry: u32, count: u64) {
        let Ok(pending) = self.pending(entry) else {
            return;
        };
        if let Phase::Sending { unsent, .. } = &mut pending.phase {
            *unsent = unsent.saturating_sub(count);
            self.seal_if_sent(entry);
        }
    }

    fn seal_if_sent(&mut self, entry: u32) {
        let Ok(pending) = self.pending(entry) else {
            return;
        };
        if matches!(
            pending.phase,
            Phase::Sending {
                unsent: 0,
                checks: 0
            }
        ) {
            pending.phase = Phase::Sealing;
            self.outputs.push_back(SenderOutput::Seal { entry });
        }
    }

    fn on_sealed(&mut self, entry: u32, root: Hash) {
        let Ok(pending) = self.pending(entry) else {
            return;
        };
        if matches!(pending.phase, Phase::Sealing) {
            pending.phase = Phase::ExpectDone;
            self.complete(EntryRoot { entry, root });
            self.on_said();
        }
    }

    /// Adds a root to the message that is still waiting to be sent, or starts one.
    fn complete(&mut self, root: EntryRoot) {
        if let Some(SenderOutput::Send(Message::Complete(complete))) = self.outputs.back_mut()
            && complete.roots.len() < limits::BATCH_MAX_ENTRIES
        {
            return complete.roots.push(root);
        }
        let complete = Message::Complete(Complete { roots: vec![root] });
        self.outputs.push_back(SenderOutput::Send(complete));
    }

    /// Tells the receiver that an entry cannot be sent. It stays pending until the receiver
    /// has put its partial away.
    fn fail_entry(&mut self, entry: u32, code: ErrorCode) {
        let Ok(pending) = self.pending(entry) else {
            return;
        };
        if matches!(pending.phase, Phase::Failed) {
            return;
        }
        let was_said = pending.phase.is_said();
        pending.phase = Phase::Failed;
        let failure = EntryFailure { entry, code };
        self.outputs
            .push_back(SenderOutput::Send(Message::Failed(failure)));
        if !was_said {
            self.on_said();
        }
    }

    fn forget(&mut self, entry: u32, failure: Option<ErrorCode>) {
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        if let Some(pending) = transfer.entries.remove(&entry) {
            transfer.unsaid -= usize::from(!pending.phase.is_said());
            transfer.held -= pending.held;
            self.totals.count(pending.plan, failure.is_some());
        }
        if let Some(code) = failure
            && self.failures.len() < limits::RECEIPT_MAX_FAILURES
        {
            self.failures.push(EntryFailure { entry, code });
        }
        let release = SenderOutput::Release { entry, failure };
        self.outputs.push_back(release);
        self.read_on();
    }

    fn on_said(&mut self) {
        if let State::Transferring(transfer) = &mut self.state {
            transfer.unsaid -= 1;
        }
        self.finish_if_done();
    }

    /// Says that nothing more comes, without waiting until what came is in place.
    fn finish_if_done(&mut self) {
        let State::Transferring(transfer) = &mut self.state else {
            return;
        };
        if transfer.last_offered && transfer.unsaid == 0 && !transfer.has_finished {
            transfer.has_finished = true;
            let entries = transfer.offered;
            self.outputs
                .push_back(SenderOutput::Send(Message::Finish(Finish { entries })));
        }
        if transfer.is_over() && transfer.losses.is_empty() {
            self.state = State::ExpectReceipt;
        }
    }

    fn on_receipt(&mut self, receipt: Receipt) -> Result<(), SessionError> {
        if receipt != self.totals {
            return Err(ProtocolError::Misbehaved("gave a receipt for something else").into());
        }
        let failures = std::mem::take(&mut self.failures);
        self.outputs
            .push_back(SenderOutput::Close(Conclusion { receipt, failures }));
        self.state = State::Closed;
        Ok(())
    }

    fn pending(&mut self, entry: u32) -> Result<&mut Pending, ProtocolError> {
        let unknown = ProtocolError::Misbehaved("named an entry that is not open");
        let State::Transferring(transfer) = &mut self.state else {
            return Err(unknown);
        };
        transfer.entries.get_mut(&entry).ok_or(unknown)
    }
}
