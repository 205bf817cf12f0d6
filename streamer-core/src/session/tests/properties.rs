//! Whatever happens: the right bytes or an error, never silence, never a panic.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::pair::{Disturbance, Ending, Plan, run};
use super::table::{ROOT, SESSION, file, messages};
use super::tamper::{Tamper, Tampering};
use super::world::{Source, Store};
use crate::blocks::BlockRun;
use crate::error::ErrorCode;
use crate::limits::BLOCK_MIN_BYTES as MIB;
use crate::session::{
    Preparation, Receiver, ReceiverConfig, ReceiverInput, Sender, SenderInput, hello,
};
use crate::wire::message::*;

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        1..5000u64,
        Just(MIB),
        Just(MIB + 1),
        Just(3 * MIB - 1)
    ]
}

fn sizes() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(size(), 1..5)
}

/// Files, and one in four something else.
fn kinds() -> impl Strategy<Value = Vec<EntryKind>> {
    let other = prop_oneof![
        Just(EntryKind::Directory),
        Just(EntryKind::Symlink {
            target: b"a".to_vec()
        }),
        Just(EntryKind::Unsent {
            code: ErrorCode::PermissionDenied
        }),
    ];
    let file = size().prop_map(|size| EntryKind::File { size });
    proptest::collection::vec(prop_oneof![3 => file, 1 => other], 1..6)
}

fn damage() -> impl Strategy<Value = BTreeMap<(u32, u64), u32>> {
    proptest::collection::btree_map((0..4u32, 0..3u64), 1..6u32, 0..4)
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    let code = Just(ErrorCode::Terminated);
    let entry = 0..4u32;
    prop_oneof![
        code.prop_map(|code| Disturbance::Sender(SenderInput::Stop(code))),
        code.prop_map(|code| Disturbance::Receiver(ReceiverInput::Stop(code))),
        (entry.clone(), code).prop_map(|(entry, code)| Disturbance::Sender(
            SenderInput::SourceFailed { entry, code }
        )),
        (entry, code).prop_map(|(entry, code)| Disturbance::Receiver(
            ReceiverInput::TargetFailed { entry, code }
        )),
    ]
}

prop_compose! {
    fn plans()(
        seed: u64,
        delay in 0..200u64,
        batch in 1..5usize,
        cut in proptest::option::of(0..60usize),
        lanes in 1..9usize,
        losses in proptest::collection::btree_set(0..60usize, 0..6),
        damage in damage(),
        disturb in proptest::option::of((0..60usize, disturbance())),
        races in proptest::bool::weighted(0.2),
    ) -> Plan {
        Plan { seed, delay, batch, cut, lanes, losses, damage, disturb, races, ..Plan::default() }
    }
}

/// Of the first frames or records, a few.
fn tampering() -> impl Strategy<Value = Tampering> {
    let tamper = prop_oneof![
        2 => Just(Tamper::Repeat),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Tamper::Flip(at, bit)),
        1 => any::<usize>().prop_map(Tamper::CutShort),
    ];
    proptest::collection::btree_map(0..20usize, tamper, 1..4).prop_map(Tampering)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Some disturbed runs on one store, then an undisturbed one. `run` itself panics when
    /// both sides fall silent, and the store when a file with a wrong root gets its name.
    #[test]
    fn any_schedule_ends_with_the_right_bytes_or_an_error(
        kinds in kinds(),
        disturbed in proptest::collection::vec(plans(), 0..4),
        seed: u64,
    ) {
        let mut source = Source::default();
        kinds.iter().for_each(|kind| source.push(kind.clone()));
        let is_unsent = |kind: &EntryKind| matches!(kind, EntryKind::Unsent { .. });
        let unsent: BTreeSet<u32> =
            (0..).zip(&kinds).filter(|(_, kind)| is_unsent(kind)).map(|(number, _)| number).collect();
        let mut store = Store::default();
        let anything: BTreeSet<u32> = (0..6).collect();
        for plan in disturbed {
            let report = run(&mut source, &mut store, &plan);
            store.assert_holds(&source, &anything);
            match (&report.sender, &report.receiver) {
                (Ending::Concluded(_), Ending::Concluded(_)) => {
                    let failed = report.failed().keys().copied().collect();
                    store.assert_holds(&source, &failed);
                }
                // The receipt was lost, or crossed an Abort: what it says is true.
                (_, Ending::Concluded(end)) => {
                    let failed = end.failures.iter().map(|failure| failure.entry).collect();
                    store.assert_holds(&source, &failed);
                }
                (Ending::Concluded(_), _) => prop_assert!(false, "a receipt from nobody"),
                _ => {}
            }
        }
        let report = run(&mut source, &mut store, &Plan { seed, ..Plan::default() });
        prop_assert_eq!(report.failed().keys().copied().collect::<BTreeSet<u32>>(), unsent.clone());
        store.assert_holds(&source, &unsent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Lanes that are lost, and nothing else: the session ends well all the same.
    #[test]
    fn lost_lanes_cost_no_session(
        sizes in sizes(),
        seed: u64,
        delay in 0..200u64,
        lanes in 1..9usize,
        losses in proptest::collection::btree_set(0..80usize, 0..12),
    ) {
        let mut source = Source::files(&sizes);
        let mut store = Store::default();
        let plan = Plan { seed, delay, lanes, losses, ..Plan::default() };
        let report = run(&mut source, &mut store, &plan);
        prop_assert!(report.failed().is_empty());
        store.assert_holds(&source, &BTreeSet::new());
    }

    /// Records that are repeated, damaged anywhere or cut short, on top of all the rest.
    #[test]
    fn tampered_records_end_with_the_right_bytes_or_an_error(
        sizes in sizes(),
        plan in plans(),
        tampered_records in tampering(),
        seed: u64,
    ) {
        let mut source = Source::files(&sizes);
        let mut store = Store::default();
        let report = run(&mut source, &mut store, &Plan { tampered_records, ..plan });
        store.assert_holds(&source, &(0..5).collect());
        if let Ending::Concluded(end) = &report.receiver {
            let failed = end.failures.iter().map(|failure| failure.entry).collect();
            store.assert_holds(&source, &failed);
        }
        let report = run(&mut source, &mut store, &Plan { seed, ..Plan::default() });
        prop_assert!(report.failed().is_empty());
        store.assert_holds(&source, &BTreeSet::new());
    }

    /// The control stream is authenticated: this takes a fault in a peer. Names and attributes
    /// may be wrong then; a file whose bytes are not the source's never has a name.
    #[test]
    fn tampered_messages_end_with_bytes_of_the_source_or_an_error(
        sizes in sizes(),
        plan in plans(),
        frames in tampering(),
        seed: u64,
    ) {
        let mut source = Source::files(&sizes);
        let mut store = Store::default();
        run(&mut source, &mut store, &Plan { frames, ..plan });
        store.assert_nothing_foreign(&source);
        let report = run(&mut source, &mut store, &Plan { seed, ..Plan::default() });
        prop_assert!(report.failed().is_empty());
        store.assert_holds(&source, &BTreeSet::new());
    }
}

/// Numbers that matter: small ones, and the ends of their range.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..5u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => any::<u64>()]
}

fn entry() -> impl Strategy<Value = u32> {
    prop_oneof![9 => 0..4u32, 1 => Just(u32::MAX)]
}

fn decision() -> impl Strategy<Value = Decision> {
    let code = Just(Decision::Refuse(ErrorCode::NoSpace));
    prop_oneof![4 => Just(Decision::Send), 1 => Just(Decision::NoData), 1 => code]
}

fn offered() -> impl Strategy<Value = Vec<Entry>> {
    let size = prop_oneof![
        0..3 * MIB,
        Just(crate::limits::FILE_MAX_BYTES),
        any::<u64>()
    ];
    let directory = Just(Entry {
        kind: EntryKind::Directory,
        ..file(0)
    });
    let kind = prop_oneof![4 => size.prop_map(file), 1 => directory];
    proptest::collection::vec(kind, 0..4)
}

fn code() -> impl Strategy<Value = ErrorCode> {
    (0..45u16).prop_map(ErrorCode::from)
}

fn message(role: Role) -> impl Strategy<Value = Message> {
    let hashes = (0..4usize).prop_map(|count| vec![ROOT; count]);
    prop_oneof![
        4 => proptest::sample::select(messages(role)),
        2 => (entry(), offered(), any::<bool>())
            .prop_map(|(first, entries, last)| Message::Offer(Offer { first, entries, last })),
        2 => (entry(), number(), hashes)
            .prop_map(|(entry, first_block, hashes)| Message::Held(Held { entry, first_block, hashes })),
        4 => proptest::collection::vec((entry(), decision()), 0..4).prop_map(|verdicts| {
            let verdict = |(entry, decision)| Verdict { entry, decision };
            Message::Answer(Answer { verdicts: verdicts.into_iter().map(verdict).collect() })
        }),
        2 => (entry(), number()).prop_map(|(entry, block)| Message::Again(Again { entry, block })),
        2 => proptest::collection::vec(entry(), 0..3).prop_map(|entries| {
            let root = |entry| EntryRoot { entry, root: ROOT };
            Message::Complete(Complete { roots: entries.into_iter().map(root).collect() })
        }),
        1 => (entry(), code()).prop_map(|(entry, code)| Message::Failed(EntryFailure { entry, code })),
        2 => proptest::collection::vec((entry(), proptest::option::of(code())), 0..4).prop_map(|outcomes| {
            let outcome = |(entry, failure)| Outcome { entry, failure };
            Message::Done(Done { outcomes: outcomes.into_iter().map(outcome).collect() })
        }),
        1 => entry().prop_map(|entries| Message::Finish(Finish { entries })),
        2 => lane_blocks().prop_map(Message::LaneLost),
        2 => lane_blocks().prop_map(Message::Missing),
    ]
}

fn lane_blocks() -> impl Strategy<Value = LaneBlocks> {
    let run = (entry(), number(), number()).prop_map(|(entry, first, count)| EntryRun {
        entry,
        run: BlockRun { first, count },
    });
    let runs = proptest::collection::vec(run, 0..4);
    (0..3u16, runs, any::<bool>()).prop_map(|(lane, runs, last)| LaneBlocks { lane, runs, last })
}

fn sender_input() -> impl Strategy<Value = SenderInput> {
    prop_oneof![
        6 => message(Role::Receiver).prop_map(SenderInput::Message),
        2 => (offered(), any::<bool>())
            .prop_map(|(entries, last)| SenderInput::Manifest { entries, last }),
        1 => (entry(), any::<bool>())
            .prop_map(|(entry, agrees)| SenderInput::HeldChecked { entry, agrees }),
        3 => (entry(), number()).prop_map(|(entry, count)| SenderInput::BlocksSent { entry, count }),
        2 => entry().prop_map(|entry| SenderInput::Sealed { entry, root: ROOT }),
        1 => (entry(), code()).prop_map(|(entry, code)| SenderInput::SourceFailed { entry, code }),
        2 => lane_blocks()
            .prop_map(|LaneBlocks { lane, runs, .. }| SenderInput::LaneLost { lane, runs }),
    ]
}

fn preparation() -> impl Strategy<Value = Preparation> {
    let run = (number(), (0..4usize).prop_map(|count| vec![ROOT; count]));
    prop_oneof![
        3 => Just(Preparation::Data(Vec::new())),
        2 => proptest::collection::vec(run, 0..3).prop_map(Preparation::Data),
        1 => Just(Preparation::NoData),
        1 => code().prop_map(Preparation::Refused),
    ]
}

fn receiver_input() -> impl Strategy<Value = ReceiverInput> {
    prop_oneof![
        6 => message(Role::Sender).prop_map(ReceiverInput::Message),
        3 => (entry(), preparation())
            .prop_map(|(entry, preparation)| ReceiverInput::Prepared { entry, preparation }),
        4 => (entry(), number()).prop_map(|(entry, block)| ReceiverInput::BlockProven { entry, block }),
        2 => (entry(), number()).prop_map(|(entry, block)| ReceiverInput::BlockDamaged { entry, block }),
        1 => (entry(), code()).prop_map(|(entry, code)| ReceiverInput::TargetFailed { entry, code }),
        2 => (entry(), proptest::option::of(code()))
            .prop_map(|(entry, failure)| ReceiverInput::Finished { entry, failure }),
        1 => (0..3u16).prop_map(|lane| ReceiverInput::LaneDropped { lane }),
        1 => Just(ReceiverInput::Synced),
    ]
}

/// Outputs for one input of the strategies above: at most 4 verdicts, each with a run for
/// every gap that a few held blocks leave, and a few for what follows.
const MOST_OUTPUTS: usize = 64;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_inputs_panics_or_floods_the_sender(
        inputs in proptest::collection::vec(sender_input(), 0..60),
        dials in proptest::bool::ANY,
        greeted_after in 0..3usize,
        vacant: bool,
    ) {
        let mut sender = match dials {
            true => Sender::dialer(SESSION, false),
            false => Sender::new(SESSION, false),
        };
        let mut hello = hello(Role::Receiver, SESSION, 0);
        hello.vacant = vacant;
        let greeted = SenderInput::Message(Message::Hello(hello));
        let mut inputs = inputs;
        inputs.insert(greeted_after.min(inputs.len()), greeted);
        let mut over = false;
        for input in inputs {
            let result = sender.handle(input);
            let outputs = std::iter::from_fn(|| sender.poll_output()).count();
            let most = if over { 0 } else { MOST_OUTPUTS };
            prop_assert!(outputs <= most, "{} outputs", outputs);
            over |= result.is_err();
        }
    }

    #[test]
    fn no_sequence_of_inputs_panics_or_floods_the_receiver(
        inputs in proptest::collection::vec(receiver_input(), 0..60),
        limit in proptest::option::of(number()),
        vacant: bool,
    ) {
        let config =
            ReceiverConfig { inbound_limit_bytes: limit, vacant, ..ReceiverConfig::default() };
        let mut receiver = Receiver::new(SESSION, config);
        let hello = messages(Role::Sender).swap_remove(0);
        receiver.handle(ReceiverInput::Message(hello)).unwrap();
        let mut over = false;
        for input in inputs {
            let result = receiver.handle(input);
            let outputs = std::iter::from_fn(|| receiver.poll_output()).count();
            let most = if over { 0 } else { MOST_OUTPUTS };
            prop_assert!(outputs <= most, "{} outputs", outputs);
            over |= result.is_err();
        }
    }
}
