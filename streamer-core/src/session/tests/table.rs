//! Every message in every state, as one table.

use std::fmt::Write as _;

use crate::blocks::BlockRun;
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::session::{
    Preparation, Receiver, ReceiverConfig, ReceiverInput, ReceiverOutput, Sender, SenderInput,
    SenderOutput, SessionError, hello,
};
use crate::wire::message::*;

pub(super) const SESSION: SessionId = SessionId([7; 16]);
pub(super) const ROOT: Hash = Hash([3; 32]);

pub(super) fn file(size: u64) -> Entry {
    Entry {
        path: crate::path::RelPath::root(),
        kind: EntryKind::File { size },
        mode: 0o600,
        modified: Timestamp::default(),
        has_holes: false,
    }
}

/// One of each kind, about entry 0, as `role` would say it.
pub(super) fn messages(role: Role) -> Vec<Message> {
    let verdict = Verdict {
        entry: 0,
        decision: Decision::Send,
    };
    let outcome = Outcome {
        entry: 0,
        failure: None,
    };
    let held = Held {
        entry: 0,
        first_block: 0,
        hashes: vec![ROOT],
    };
    vec![
        Message::Hello(hello(role, SESSION, 0)),
        Message::Offer(Offer {
            first: 0,
            entries: vec![file(1)],
            last: true,
        }),
        Message::Held(held),
        Message::Answer(Answer {
            verdicts: vec![verdict],
        }),
        Message::Again(Again { entry: 0, block: 0 }),
        Message::Complete(Complete {
            roots: vec![EntryRoot {
                entry: 0,
                root: ROOT,
            }],
        }),
        Message::Failed(EntryFailure {
            entry: 0,
            code: ErrorCode::SourceChanged,
        }),
        Message::Done(Done {
            outcomes: vec![outcome],
        }),
        Message::Finish(Finish { entries: 1 }),
        Message::Receipt(Receipt {
            entries: 1,
            failed: 0,
            bytes: 1,
        }),
        Message::Abort(Abort {
            code: ErrorCode::Interrupted,
        }),
        Message::LaneLost(lane_blocks()),
        Message::Missing(lane_blocks()),
    ]
}

pub(super) fn lane_blocks() -> LaneBlocks {
    let run = BlockRun { first: 0, count: 1 };
    LaneBlocks {
        lane: 1,
        runs: vec![EntryRun { entry: 0, run }],
        last: true,
    }
}

fn from_receiver(kind: usize) -> SenderInput {
    SenderInput::Message(messages(Role::Receiver).swap_remove(kind))
}

fn hello_of_a_vacant_target() -> SenderInput {
    let mut hello = hello(Role::Receiver, SESSION, 0);
    hello.vacant = true;
    SenderInput::Message(Message::Hello(hello))
}

fn from_sender(kind: usize) -> ReceiverInput {
    ReceiverInput::Message(messages(Role::Sender).swap_remove(kind))
}

const HELLO: usize = 0;
const OFFER: usize = 1;
const ANSWER: usize = 3;
const COMPLETE: usize = 5;
const DONE: usize = 7;
const FINISH: usize = 8;
const RECEIPT: usize = 9;

/// A sender that has taken these inputs, with nothing left to do. One that has a manifest
/// before anything else dials.
pub(super) fn sender_after(inputs: Vec<SenderInput>) -> Sender {
    let mut sender = match inputs.first() {
        Some(SenderInput::Manifest { .. }) => Sender::dialer(SESSION, false),
        _ => Sender::new(SESSION, false),
    };
    for input in inputs {
        sender.handle(input).unwrap();
    }
    while sender.poll_output().is_some() {}
    sender
}

pub(super) fn receiver_after(inputs: Vec<ReceiverInput>) -> Receiver {
    receiver_with(ReceiverConfig::default(), inputs)
}

/// The same, which has said that its target is vacant.
fn vacant_receiver_after(inputs: Vec<ReceiverInput>) -> Receiver {
    let config = ReceiverConfig {
        vacant: true,
        ..ReceiverConfig::default()
    };
    receiver_with(config, inputs)
}

fn receiver_with(config: ReceiverConfig, inputs: Vec<ReceiverInput>) -> Receiver {
    let mut receiver = Receiver::new(SESSION, config);
    for input in inputs {
        receiver.handle(input).unwrap();
    }
    while receiver.poll_output().is_some() {}
    receiver
}

/// Each state by the inputs that lead to it from the one before.
pub(super) fn sender_paths() -> Vec<(&'static str, Vec<SenderInput>)> {
    let manifest = SenderInput::Manifest {
        entries: vec![file(1)],
        last: true,
    };
    let failed = SenderInput::SourceFailed {
        entry: 0,
        code: ErrorCode::FileSystem,
    };
    let opening = vec![from_receiver(HELLO), manifest.clone()];
    let early = vec![manifest];
    let way = [
        ("sending", from_receiver(ANSWER)),
        ("sealing", SenderInput::BlocksSent { entry: 0, count: 1 }),
        (
            "expecting Done",
            SenderInput::Sealed {
                entry: 0,
                root: ROOT,
            },
        ),
        ("expecting Receipt", from_receiver(DONE)),
        ("closed", from_receiver(RECEIPT)),
    ];
    let mut paths = vec![
        ("expecting Hello", vec![]),
        ("offered early", early.clone()),
        (
            "failed early",
            [early.clone(), vec![failed.clone()]].concat(),
        ),
        ("nothing offered", opening[..1].to_vec()),
        ("expecting Answer", opening.clone()),
        ("entry failed", [opening.clone(), vec![failed]].concat()),
        (
            "sending unasked",
            vec![hello_of_a_vacant_target(), opening[1].clone()],
        ),
    ];
    let mut inputs = opening;
    for (name, input) in way {
        inputs.push(input);
        paths.push((name, inputs.clone()));
    }
    paths
}

pub(super) fn receiver_paths() -> Vec<(&'static str, Vec<ReceiverInput>)> {
    let preparation = Preparation::Data(Vec::new());
    let way = [
        ("nothing offered", from_sender(HELLO)),
        ("preparing", from_sender(OFFER)),
        (
            "receiving",
            ReceiverInput::Prepared {
                entry: 0,
                preparation,
            },
        ),
        ("root known", from_sender(COMPLETE)),
        (
            "finishing",
            ReceiverInput::BlockProven { entry: 0, block: 0 },
        ),
        (
            "all done",
            ReceiverInput::Finished {
                entry: 0,
                failure: None,
            },
        ),
        ("syncing", from_sender(FINISH)),
        ("closed", ReceiverInput::Synced),
    ];
    let mut paths = vec![("expecting Hello", vec![])];
    let mut inputs = Vec::new();
    for (name, input) in way {
        inputs.push(input);
        paths.push((name, inputs.clone()));
    }
    paths
}

/// States of one that has said that its target is vacant.
fn vacant_receiver_paths() -> Vec<(&'static str, Vec<ReceiverInput>)> {
    let opening = vec![from_sender(HELLO), from_sender(OFFER)];
    let rooted = [opening.clone(), vec![from_sender(COMPLETE)]].concat();
    vec![("expected", opening), ("expected, rooted", rooted)]
}

#[test]
fn a_vacant_target_takes_its_file_without_a_verdict() {
    let found = |preparation| ReceiverInput::Prepared {
        entry: 0,
        preparation,
    };
    let outputs = |mut receiver: Receiver| -> Vec<String> {
        let outputs = std::iter::from_fn(|| receiver.poll_output());
        outputs.map(|output| receiver_says(&output)).collect()
    };
    for (name, path) in vacant_receiver_paths() {
        let mut receiver = vacant_receiver_after(path);
        let failing = receiver.clone();
        receiver
            .handle(found(Preparation::Data(Vec::new())))
            .unwrap();
        assert_eq!(outputs(receiver.clone()), [""; 0], "{name}");
        receiver
            .handle(ReceiverInput::BlockProven { entry: 0, block: 0 })
            .unwrap();
        let is_rooted = name == "expected, rooted";
        let expected: &[&str] = if is_rooted { &["finish 0"] } else { &[] };
        assert_eq!(outputs(receiver), expected, "{name}");
        // What is there by now makes it fail; the sender hears of it as of any outcome.
        for (preparation, code) in [
            (Preparation::NoData, ErrorCode::TargetExists),
            (Preparation::Refused(ErrorCode::NoSpace), ErrorCode::NoSpace),
        ] {
            let mut receiver = failing.clone();
            receiver.handle(found(preparation)).unwrap();
            let done = Done {
                outcomes: vec![Outcome {
                    entry: 0,
                    failure: Some(code),
                }],
            };
            let outputs: Vec<_> = std::iter::from_fn(|| receiver.poll_output()).collect();
            let expected = [
                ReceiverOutput::Release {
                    entry: 0,
                    failure: Some(code),
                },
                ReceiverOutput::Send(Message::Done(done)),
            ];
            assert_eq!(outputs, expected, "{name}");
        }
    }
}

#[test]
fn a_sender_sends_the_file_of_a_vacant_target_at_once_and_no_tree() {
    let outputs = |entry: Entry| {
        let mut sender = Sender::new(SESSION, false);
        sender.handle(hello_of_a_vacant_target()).unwrap();
        let (entries, last) = (vec![entry], true);
        sender
            .handle(SenderInput::Manifest { entries, last })
            .unwrap();
        let outputs = std::iter::from_fn(|| sender.poll_output());
        outputs
            .map(|output| sender_says(&output))
            .collect::<Vec<_>>()
    };
    let run = BlockRun { first: 0, count: 1 };
    let send = sender_says(&SenderOutput::SendBlocks { entry: 0, run });
    let read = sender_says(&SenderOutput::ReadManifest);
    assert_eq!(outputs(file(1)), ["Hello", &read, "Offer", &send]);
    let seal = sender_says(&SenderOutput::Seal { entry: 0 });
    assert_eq!(outputs(file(0)), ["Hello", &read, "Offer", &seal]);
    let directory = Entry {
        kind: EntryKind::Directory,
        ..file(0)
    };
    assert_eq!(outputs(directory), ["Hello", &read, "Offer"]);
}

#[test]
fn a_sender_that_dials_offers_before_it_is_greeted_and_goes_on_as_any_other() {
    let mut early = Sender::dialer(SESSION, false);
    assert!(matches!(
        early.poll_output(),
        Some(SenderOutput::Send(Message::Hello(_)))
    ));
    assert_eq!(early.poll_output(), Some(SenderOutput::ReadManifest));
    let manifest = || SenderInput::Manifest {
        entries: vec![file(1)],
        last: true,
    };
    let [early, late] = [
        vec![manifest(), from_receiver(HELLO), from_receiver(ANSWER)],
        vec![from_receiver(HELLO), manifest(), from_receiver(ANSWER)],
    ]
    .map(sender_after);
    assert_eq!(early.state_name(), "transferring");
    assert_eq!(format!("{early:?}"), format!("{late:?}"));
}

#[test]
fn a_wish_that_comes_after_the_offer_is_a_fault() {
    let sender = sender_after(vec![SenderInput::Manifest {
        entries: vec![file(1)],
        last: true,
    }]);
    let mut late = hello(Role::Receiver, SESSION, 0);
    late.wanted.exclude.push("x".to_owned());
    let late = SenderInput::Message(Message::Hello(late));
    for wish in [late, hello_of_a_vacant_target()] {
        let mut sender = sender.clone();
        let error = sender.handle(wish);
        assert_eq!(
            error.unwrap_err().code(),
            ErrorCode::ProtocolViolation,
            "{sender:?}"
        );
    }
}

#[test]
fn only_the_receipt_is_missing_once_the_outcome_of_everything_is_told() {
    for (name, path) in sender_paths() {
        let unheard = sender_after(path).unheard();
        let receipt = unheard.map(|conclusion| conclusion.receipt);
        let expected = (name == "expecting Receipt").then_some(Receipt {
            entries: 1,
            failed: 0,
            bytes: 1,
        });
        assert_eq!(receipt, expected, "{name}");
    }
}

fn outcome(result: &Result<(), SessionError>, state: &str, outputs: &[String]) -> String {
    let outputs = match outputs {
        [] => "-".to_owned(),
        some => some.join(", "),
    };
    match result {
        Ok(()) => format!("{state}: {outputs}"),
        Err(error) => format!("ERROR {error} => {state}: {outputs}"),
    }
}

fn sender_says(output: &SenderOutput) -> String {
    match output {
        SenderOutput::Send(Message::Abort(abort)) => format!("Abort {}", abort.code.number()),
        SenderOutput::Send(message) => message.name().to_owned(),
        SenderOutput::Close(_) => "close".to_owned(),
        other => format!("{other:?}"),
    }
}

fn receiver_says(output: &ReceiverOutput) -> String {
    match output {
        ReceiverOutput::Send(Message::Abort(abort)) => format!("Abort {}", abort.code.number()),
        ReceiverOutput::Send(message) => message.name().to_owned(),
        ReceiverOutput::Prepare { entry, .. } => format!("prepare {entry}"),
        ReceiverOutput::Finish { entry, .. } => format!("finish {entry}"),
        other => format!("{other:?}"),
    }
}

/// An unexpected message is the peer's fault, ends the session, and is answered by one Abort.
fn assert_refused(error: &SessionError, outputs: &[String], was_closed: bool) {
    let expected = match error {
        SessionError::Protocol(error) if !was_closed => {
            vec![format!("Abort {}", error.code().number())]
        }
        SessionError::Ours(code) => vec![format!("Abort {}", code.number())],
        SessionError::Protocol(ProtocolError::Unexpected { .. }) | SessionError::Peer(_) => vec![],
        other => panic!("{other:?} in a closed session"),
    };
    assert_eq!(outputs, expected);
}

#[test]
fn every_message_in_every_state_has_the_outcome_of_the_table() {
    let mut table = String::from("SENDER\n");
    for (name, path) in sender_paths() {
        for message in messages(Role::Receiver) {
            let mut sender = sender_after(path.clone());
            let was_closed = sender.state_name() == "closed";
            let result = sender.handle(SenderInput::Message(message.clone()));
            let outputs: Vec<_> = std::iter::from_fn(|| sender.poll_output()).collect();
            let said: Vec<_> = outputs.iter().map(sender_says).collect();
            let state = sender.state_name();
            let row = outcome(&result, state, &said);
            writeln!(table, "{name:<18}{:<10}{row}", message.name()).unwrap();
            if let Err(error) = result {
                assert_refused(&error, &said, was_closed);
                assert_eq!(state, "closed");
                assert_silent_sender(sender);
            }
        }
    }
    table.push_str("\nRECEIVER\n");
    let vacant = vacant_receiver_paths().into_iter();
    let vacant = vacant.map(|(name, path)| (name, vacant_receiver_after(path)));
    let paths = receiver_paths().into_iter();
    let paths = paths.map(|(name, path)| (name, receiver_after(path)));
    for (name, receiver) in paths.chain(vacant) {
        for message in messages(Role::Sender) {
            let mut receiver = receiver.clone();
            let was_closed = receiver.state_name() == "closed";
            let result = receiver.handle(ReceiverInput::Message(message.clone()));
            let outputs: Vec<_> = std::iter::from_fn(|| receiver.poll_output()).collect();
            let said: Vec<_> = outputs.iter().map(receiver_says).collect();
            let state = receiver.state_name();
            let row = outcome(&result, state, &said);
            writeln!(table, "{name:<18}{:<10}{row}", message.name()).unwrap();
            if let Err(error) = result {
                assert_refused(&error, &said, was_closed);
                assert_eq!(state, "closed");
                assert_silent_receiver(receiver);
            }
        }
    }
    insta::assert_snapshot!(table);
}

fn assert_silent_sender(mut sender: Sender) {
    for (_, path) in sender_paths() {
        for input in path {
            let _ = sender.handle(input);
            assert_eq!(sender.poll_output(), None);
        }
    }
    assert_eq!(
        sender.handle(SenderInput::Stop(ErrorCode::Interrupted)),
        Ok(())
    );
    assert_eq!(sender.poll_output(), None);
}

fn assert_silent_receiver(mut receiver: Receiver) {
    for (_, path) in receiver_paths() {
        for input in path {
            let _ = receiver.handle(input);
            assert_eq!(receiver.poll_output(), None);
        }
    }
    assert_eq!(
        receiver.handle(ReceiverInput::Stop(ErrorCode::Interrupted)),
        Ok(())
    );
    assert_eq!(receiver.poll_output(), None);
}
