//! A sender and a receiver over a simulated link, in virtual time.
//!
//! Control messages keep their order; records overtake each other and the messages. Work at
//! either side takes time too. All of it follows from one seed.

use std::collections::{BTreeMap, BTreeSet};

use super::tamper::Tampering;
use super::world::{Source, Store};
use crate::blocks::BlockRun;
use crate::error::ErrorCode;
use crate::hash::{Hash, root_of};
use crate::path::RelPath;
use crate::session::{
    Conclusion, Preparation, Receiver, ReceiverConfig, ReceiverInput, ReceiverOutput, Sender,
    SenderInput, SenderOutput, SessionError,
};
use crate::wire::codec;
use crate::wire::message::{Entry, EntryRun, Message, SessionId, Wanted};
use crate::wire::record::{HEADER_BYTES, RecordHeader, TRAILER_BYTES};

/// What a run is like and what goes wrong in it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Longest delay of anything, in ticks.
    pub(super) delay: u64,
    /// Entries read from the source at a time.
    pub(super) batch: usize,
    pub(super) limit: Option<u64>,
    /// The receiver says that its target is vacant when it is not: something has come there
    /// since it looked.
    pub(super) races: bool,
    /// Steps after which the link is gone.
    pub(super) cut: Option<usize>,
    /// Lanes that carry records.
    pub(super) lanes: usize,
    /// Steps after each of which a lane is lost, and another one takes its place.
    pub(super) losses: BTreeSet<usize>,
    /// How often each block arrives damaged.
    pub(super) damage: BTreeMap<(u32, u64), u32>,
    /// What happens to messages on their way.
    pub(super) frames: Tampering,
    /// What happens to records on their way.
    pub(super) tampered_records: Tampering,
    /// Steps after which this happens.
    pub(super) disturb: Option<(usize, Disturbance)>,
}

#[derive(Debug, Clone)]
pub(super) enum Disturbance {
    Sender(SenderInput),
    Receiver(ReceiverInput),
    /// The source changes, seen or unseen by its modification time.
    Change(usize, bool),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            delay: 50,
            batch: 1024,
            limit: None,
            races: false,
            cut: None,
            lanes: 1,
            losses: BTreeSet::new(),
            damage: BTreeMap::new(),
            frames: Tampering::default(),
            tampered_records: Tampering::default(),
            disturb: None,
        }
    }
}

/// How a run ended for one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    Concluded(Conclusion),
    Failed(SessionError),
    Cut,
}

impl Ending {
    pub(super) fn conclusion(&self) -> &Conclusion {
        match self {
            Self::Concluded(conclusion) => conclusion,
            other => panic!("not concluded: {other:?}"),
        }
    }
}

/// What a run was.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) sender: Ending,
    pub(super) receiver: Ending,
    pub(super) steps: usize,
    pub(super) records: u64,
    pub(super) prepared: BTreeSet<u32>,
    /// Most entries that were offered and not done at one time.
    pub(super) most_open: usize,
}

impl Report {
    pub(super) fn failed(&self) -> BTreeMap<u32, ErrorCode> {
        let failures = &self.receiver.conclusion().failures;
        let mut theirs = self.sender.conclusion().failures.clone();
        let mut ours = failures.clone();
        theirs.sort_by_key(|failure| failure.entry);
        ours.sort_by_key(|failure| failure.entry);
        assert_eq!(ours, theirs, "the sides disagree on what failed");
        assert_eq!(
            self.sender.conclusion().receipt,
            self.receiver.conclusion().receipt
        );
        ours.iter()
            .map(|failure| (failure.entry, failure.code))
            .collect()
    }
}

enum Event {
    Sender(SenderInput),
    Receiver(ReceiverInput),
    FrameToSender(Vec<u8>),
    FrameToReceiver(Vec<u8>),
    Read { entry: u32, block: u64 },
    Record { lane: u16, bytes: Vec<u8> },
    LaneDropped { lane: u16 },
}

impl Event {
    fn is_record_of(&self, wanted: u16) -> bool {
        matches!(self, Self::Record { lane, .. } if *lane == wanted)
    }
}

/// Runs one session to its end or its cut. Panics when it falls silent before.
pub(super) fn run(source: &mut Source, store: &mut Store, plan: &Plan) -> Report {
    let session = SessionId([7; 16]);
    let is_listening = plan.seed.is_multiple_of(2);
    let is_vacant = source
        .entries
        .first()
        .is_none_or(|entry| store.is_vacant(&entry.path));
    let says_vacant = plan.races || (is_vacant && plan.seed.is_multiple_of(4));
    let config = ReceiverConfig {
        inbound_limit_bytes: plan.limit,
        wanted: Wanted::default(),
        vacant: is_listening && says_vacant,
    };
    Pair {
        sender: match is_listening {
            true => Sender::new(session, false),
            false => Sender::dialer(session, false),
        },
        receiver: Receiver::new(session, config.clone()),
        sender_end: None,
        receiver_end: None,
        events: BTreeMap::new(),
        now: 0,
        random: plan.seed,
        control: [0; 2],
        arrived: [Vec::new(), Vec::new()],
        lanes: (1..=plan.lanes as u16).collect(),
        given: BTreeMap::new(),
        frames: 0,
        has_stalled: false,
        damage: plan.damage.clone(),
        offered: BTreeMap::new(),
        sent: BTreeMap::new(),
        released: BTreeSet::new(),
        paths: BTreeMap::new(),
        read: 0,
        records: 0,
        most_open: 0,
        expects_first: config.vacant,
        early: Vec::new(),
        plan,
        source,
        store,
    }
    .run()
}

struct Pair<'a> {
    sender: Sender,
    receiver: Receiver,
    sender_end: Option<Ending>,
    receiver_end: Option<Ending>,
    /// By time, then by a number that keeps them apart.
    events: BTreeMap<(u64, u64), Event>,
    now: u64,
    random: u64,
    /// When the last frame arrives, for each direction.
    control: [u64; 2],
    /// What came over the control stream and is no whole frame yet, for each direction.
    arrived: [Vec<u8>; 2],
    /// Those that live; numbers count up.
    lanes: Vec<u16>,
    /// The blocks that each was given.
    given: BTreeMap<u16, Vec<EntryRun>>,
    frames: usize,
    has_stalled: bool,
    damage: BTreeMap<(u32, u64), u32>,
    /// What the sender offered, and the hashes of what it sent or checked.
    offered: BTreeMap<u32, Entry>,
    sent: BTreeMap<(u32, u64), Hash>,
    released: BTreeSet<u32>,
    paths: BTreeMap<u32, (RelPath, Entry)>,
    read: usize,
    records: u64,
    most_open: usize,
    /// The first entry was promised to be wanted, and its target is not found yet.
    expects_first: bool,
    /// Its records, by lane, which wait for that.
    early: Vec<(u16, Vec<u8>)>,
    plan: &'a Plan,
    source: &'a mut Source,
    store: &'a mut Store,
}

impl Pair<'_> {
    fn run(mut self) -> Report {
        self.drain();
        let mut steps = 0;
        while !(self.sender_end.is_some() && self.receiver_end.is_some()) {
            if self.plan.cut == Some(steps) {
                self.sender_end.get_or_insert(Ending::Cut);
                self.receiver_end.get_or_insert(Ending::Cut);
                break;
            }
            if let Some((_, what)) = self.plan.disturb.as_ref().filter(|(at, _)| *at == steps) {
                self.disturb(what.clone());
            }
            if self.plan.losses.contains(&steps) {
                self.lose_lane();
            }
            let Some(((time, _), event)) = self.events.pop_first() else {
                self.stall();
                continue;
            };
            self.now = time;
            self.step(event);
            self.drain();
            steps += 1;
        }
        Report {
            sender: self.sender_end.unwrap(),
            receiver: self.receiver_end.unwrap(),
            steps,
            records: self.records,
            prepared: self.paths.keys().copied().collect(),
            most_open: self.most_open,
        }
    }

    fn disturb(&mut self, what: Disturbance) {
        match what {
            Disturbance::Sender(input) => self.tell_sender(input),
            Disturbance::Receiver(input) => self.tell_receiver(input),
            Disturbance::Change(entry, secretly) => self.source.change(entry, secretly),
        }
        self.drain();
    }

    /// Nothing happens any more. A driver notices that in the end; it must never have to when
    /// nobody tampered.
    fn stall(&mut self) {
        let tampered = !self.plan.frames.is_empty() || !self.plan.tampered_records.is_empty();
        assert!(
            tampered && !self.has_stalled,
            "silence: {:?} and {:?}",
            self.sender,
            self.receiver
        );
        self.has_stalled = true;
        self.tell_receiver(ReceiverInput::Stop(ErrorCode::TimedOut));
        self.tell_sender(SenderInput::Stop(ErrorCode::TimedOut));
        self.drain();
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Sender(input) => self.tell_sender(input),
            Event::Receiver(input) => {
                let is_first = matches!(input, ReceiverInput::Prepared { entry: 0, .. });
                self.tell_receiver(input);
                if is_first {
                    self.on_first_found();
                }
            }
            Event::FrameToSender(frame) => self.on_frame(1, &frame),
            Event::FrameToReceiver(frame) => self.on_frame(0, &frame),
            Event::Read { entry, block } => self.read_block(entry, block),
            Event::Record { lane, bytes } => self.on_record(lane, bytes),
            Event::LaneDropped { lane } => {
                self.events.retain(|_, event| !event.is_record_of(lane));
                self.early.retain(|(early, _)| *early != lane);
                self.tell_receiver(ReceiverInput::LaneDropped { lane });
            }
        }
    }

    /// Some of what is on its way is gone; the rest may still come until the lane is dropped.
    fn lose_lane(&mut self) {
        let place = self.random(self.lanes.len() as u64 - 1) as usize;
        let next = self.lanes.iter().max().map_or(1, |lane| lane + 1);
        let lane = std::mem::replace(&mut self.lanes[place], next);
        let on_it = self
            .events
            .iter()
            .filter(|(_, event)| event.is_record_of(lane));
        let on_it: Vec<(u64, u64)> = on_it.map(|(when, _)| *when).collect();
        for when in on_it {
            if self.random(1) == 0 {
                self.events.remove(&when);
            }
        }
        let runs = self.given.remove(&lane).unwrap_or_default();
        self.tell_sender(SenderInput::LaneLost { lane, runs });
        self.drain();
    }

    /// Takes the messages out of what arrived so far.
    fn on_frame(&mut self, direction: usize, frame: &[u8]) {
        self.arrived[direction].extend_from_slice(frame);
        loop {
            match codec::decode(&self.arrived[direction]) {
                Ok(None) => return,
                Ok(Some((message, length))) => {
                    self.arrived[direction].drain(..length);
                    match direction {
                        0 => self.tell_receiver(ReceiverInput::Message(message)),
                        _ => self.tell_sender(SenderInput::Message(message)),
                    }
                }
                Err(error) => {
                    let failed = Ending::Failed(error.into());
                    let (ours, theirs) = match direction {
                        0 => (&mut self.receiver_end, &mut self.sender_end),
                        _ => (&mut self.sender_end, &mut self.receiver_end),
                    };
                    // The connection is closed: the other side sees that and no more.
                    ours.get_or_insert(failed);
                    theirs.get_or_insert(Ending::Cut);
                    return;
                }
            }
        }
    }

    fn tell_sender(&mut self, input: SenderInput) {
        if self.sender_end.is_some() {
            return;
        }
        if let Err(error) = self.sender.handle(input) {
            self.drain_sender();
            self.sender_end = Some(Ending::Failed(error));
        }
    }

    fn tell_receiver(&mut self, input: ReceiverInput) {
        if self.receiver_end.is_some() {
            return;
        }
        if let Err(error) = self.receiver.handle(input) {
            self.drain_receiver();
            self.receiver_end = Some(Ending::Failed(error));
        }
    }

    fn drain(&mut self) {
        self.drain_sender();
        self.drain_receiver();
        self.most_open = self.most_open.max(self.offered.len() - self.released.len());
    }

    fn drain_sender(&mut self) {
        while let Some(output) = self.sender.poll_output() {
            match output {
                SenderOutput::Send(message) => self.send(0, &message),
                SenderOutput::ReadManifest => self.read_manifest(),
                SenderOutput::CheckHeld(held) => {
                    let entry = held.entry;
                    let blocks = held.first_block..;
                    let agrees = blocks.zip(&held.hashes).all(|(block, hash)| {
                        let ours = self.source.block(entry, block).1;
                        self.sent.insert((entry, block), ours);
                        ours == *hash
                    });
                    self.soon(Event::Sender(SenderInput::HeldChecked { entry, agrees }));
                }
                SenderOutput::SendBlocks { entry, run } => {
                    run.blocks()
                        .for_each(|block| self.soon(Event::Read { entry, block }));
                }
                SenderOutput::Seal { entry } => self.seal(entry),
                SenderOutput::Filter(_) => {}
                SenderOutput::Release { entry, .. } => {
                    assert!(self.released.insert(entry), "released twice: {entry}");
                }
                SenderOutput::Close(end) => self.sender_end = Some(Ending::Concluded(end)),
            }
        }
    }

    fn read_manifest(&mut self) {
        let end = (self.read + self.plan.batch).min(self.source.entries.len());
        let entries = self.source.entries[self.read..end].to_vec();
        for (number, entry) in (self.read as u32..).zip(&entries) {
            self.offered.insert(number, entry.clone());
        }
        self.read = end;
        let last = end == self.source.entries.len();
        self.soon(Event::Sender(SenderInput::Manifest { entries, last }));
    }

    fn seal(&mut self, entry: u32) {
        let count = self.offered[&entry].plan().unwrap().count();
        let hashes: Vec<Hash> = (0..count).map(|block| self.sent[&(entry, block)]).collect();
        let input = if self.offered[&entry] == self.source.entries[entry as usize] {
            SenderInput::Sealed {
                entry,
                root: root_of(&hashes),
            }
        } else {
            SenderInput::SourceFailed {
                entry,
                code: ErrorCode::SourceChanged,
            }
        };
        self.soon(Event::Sender(input));
    }

    fn drain_receiver(&mut self) {
        while let Some(output) = self.receiver.poll_output() {
            match output {
                ReceiverOutput::Send(message) => self.send(1, &message),
                ReceiverOutput::Prepare { entry, offered } => {
                    // Another entry of this session holds the lock on that partial.
                    let is_taken = self.paths.values().any(|(path, _)| *path == offered.path);
                    self.paths
                        .insert(entry, (offered.path.clone(), offered.clone()));
                    let preparation = match is_taken {
                        true => Preparation::Refused(ErrorCode::TargetBusy),
                        false => self.store.prepare(&offered),
                    };
                    self.soon(Event::Receiver(ReceiverInput::Prepared {
                        entry,
                        preparation,
                    }));
                }
                ReceiverOutput::Refuse { entry, .. } => {
                    let preparation = Preparation::Noted;
                    self.soon(Event::Receiver(ReceiverInput::Prepared {
                        entry,
                        preparation,
                    }));
                    if entry == 0 {
                        self.on_first_found();
                    }
                }
                ReceiverOutput::Restart | ReceiverOutput::Release { .. } => {}
                ReceiverOutput::Finish { entry, root } => {
                    let failure = self.store.finish(&self.paths[&entry].0, root);
                    self.soon(Event::Receiver(ReceiverInput::Finished { entry, failure }));
                }
                ReceiverOutput::Suspend { entry } => assert!(self.paths.contains_key(&entry)),
                ReceiverOutput::DropLane { lane } => self.soon(Event::LaneDropped { lane }),
                ReceiverOutput::Sync => self.soon(Event::Receiver(ReceiverInput::Synced)),
                ReceiverOutput::Close(end) => self.receiver_end = Some(Ending::Concluded(end)),
            }
        }
    }

    fn read_block(&mut self, entry: u32, block: u64) {
        if self.released.contains(&entry) || self.sender_end.is_some() {
            return;
        }
        let (mut bytes, hash) = self.source.block(entry, block);
        self.sent.insert((entry, block), hash);
        if let Some(times) = self
            .damage
            .get_mut(&(entry, block))
            .filter(|times| **times > 0)
        {
            *times -= 1;
            bytes[0] ^= 1;
        }
        self.records += 1;
        let plan = self.offered[&entry].plan().unwrap();
        let offset = plan.range(block).start;
        let header = RecordHeader {
            entry,
            offset,
            length: plan.len(block),
            is_hole: false,
        };
        let record = [&header.encode()[..], &bytes, &hash.0].concat();
        let number = self.records as usize - 1;
        let place = self.random(self.lanes.len() as u64 - 1) as usize;
        let lane = self.lanes[place];
        let run = BlockRun {
            first: block,
            count: 1,
        };
        let given = self.given.entry(lane).or_default();
        given.push(EntryRun { entry, run });
        for bytes in self.plan.tampered_records.apply(number, record) {
            self.soon(Event::Record { lane, bytes });
        }
        self.tell_sender(SenderInput::BlocksSent { entry, count: 1 });
    }

    fn on_first_found(&mut self) {
        self.expects_first = false;
        for (lane, record) in std::mem::take(&mut self.early) {
            self.on_record(lane, record);
        }
    }

    fn on_record(&mut self, lane: u16, record: Vec<u8>) {
        let Some((header, rest)) = record.split_first_chunk::<HEADER_BYTES>() else {
            return;
        };
        let RecordHeader {
            entry,
            offset,
            length,
            ..
        } = RecordHeader::decode(*header);
        if entry == 0 && self.expects_first {
            return self.early.push((lane, record));
        }
        // Of an entry that is over, or was never offered: skipped.
        let Some((path, offered)) = self.paths.get(&entry) else {
            return;
        };
        let Some(block) = offered
            .plan()
            .and_then(|plan| plan.block_at(offset, length))
        else {
            return self.tell_receiver(ReceiverInput::Stop(ErrorCode::ProtocolViolation));
        };
        if self.receiver_end.is_some() || !self.receiver.wants(entry, block) {
            return;
        }
        let Some((bytes, hash)) = rest.split_last_chunk::<TRAILER_BYTES>() else {
            return;
        };
        if bytes.len() as u64 != length {
            // The stream ended within the block.
            return;
        }
        let hash = Hash(*hash);
        let input = if self.store.write(path, block, bytes, hash) {
            ReceiverInput::BlockProven { entry, block }
        } else {
            ReceiverInput::BlockDamaged { entry, block }
        };
        self.tell_receiver(input);
    }

    fn send(&mut self, direction: usize, message: &Message) {
        let frame = codec::encode(message).unwrap();
        let frames = self.plan.frames.apply(self.frames, frame);
        self.frames += 1;
        let arrival = (self.now + self.random(self.plan.delay)).max(self.control[direction]);
        self.control[direction] = arrival;
        for frame in frames {
            let event = match direction {
                0 => Event::FrameToReceiver(frame),
                _ => Event::FrameToSender(frame),
            };
            self.at(arrival, event);
        }
    }

    fn soon(&mut self, event: Event) {
        let time = self.now + self.random(self.plan.delay);
        self.at(time, event);
    }

    fn at(&mut self, time: u64, event: Event) {
        // Later events of one time come later: frames keep their order.
        let number = self.events.range((time, 0)..=(time, u64::MAX)).next_back();
        let number = number.map_or(0, |((_, number), _)| number + 1);
        self.events.insert((time, number), event);
    }

    /// SplitMix64: a number in `0..=max`.
    fn random(&mut self, max: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % (max + 1)
    }
}
