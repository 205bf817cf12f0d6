//! A peer that breaks the protocol, one rule at a time.

use super::table::{
    ROOT, SESSION, file, lane_blocks, receiver_after, receiver_paths, sender_after, sender_paths,
};
use crate::blocks::BlockRun;
use crate::error::{ErrorCode, ProtocolError};
use crate::hash::Hash;
use crate::limits;
use crate::session::{
    Conclusion, Preparation, Receiver, ReceiverInput, ReceiverOutput, Sender, SenderInput,
    SenderOutput, SessionError, hello,
};
use crate::wire::VERSION;
use crate::wire::message::*;

fn sender_at(name: &str) -> Sender {
    let path = sender_paths().into_iter().find(|(state, _)| *state == name);
    sender_after(path.unwrap().1)
}

fn receiver_at(name: &str) -> Receiver {
    let path = receiver_paths()
        .into_iter()
        .find(|(state, _)| *state == name);
    receiver_after(path.unwrap().1)
}

/// The fault that a message is to a sender in a state; the peer is told its code.
fn sender_fault(state: &str, message: Message) -> SessionError {
    let mut sender = sender_at(state);
    let error = sender.handle(SenderInput::Message(message)).unwrap_err();
    let abort = Message::Abort(Abort { code: error.code() });
    assert_eq!(sender.poll_output(), Some(SenderOutput::Send(abort)));
    assert_eq!(sender.poll_output(), None);
    error
}

fn receiver_fault(state: &str, message: Message) -> SessionError {
    let mut receiver = receiver_at(state);
    let error = receiver
        .handle(ReceiverInput::Message(message))
        .unwrap_err();
    let abort = Message::Abort(Abort { code: error.code() });
    assert_eq!(receiver.poll_output(), Some(ReceiverOutput::Send(abort)));
    assert_eq!(receiver.poll_output(), None);
    error
}

fn misbehaved(error: SessionError) -> &'static str {
    match error {
        SessionError::Protocol(ProtocolError::Misbehaved(what)) => what,
        other => panic!("not misbehaviour: {other:?}"),
    }
}

fn exceeded(error: SessionError) -> &'static str {
    match error {
        SessionError::Protocol(ProtocolError::LimitExceeded(what)) => what,
        other => panic!("not a bound: {other:?}"),
    }
}

fn held(first_block: u64, count: usize) -> Message {
    let hashes = vec![ROOT; count];
    Message::Held(Held {
        entry: 0,
        first_block,
        hashes,
    })
}

fn offer(first: u32, count: usize, last: bool) -> Message {
    let entries = vec![file(1); count];
    Message::Offer(Offer {
        first,
        entries,
        last,
    })
}

#[test]
fn a_greeting_that_does_not_fit_is_refused_with_its_code() {
    let greet = |change: fn(&mut Hello)| {
        let mut hello = hello(Role::Receiver, SESSION, 0);
        change(&mut hello);
        sender_fault("expecting Hello", Message::Hello(hello)).code()
    };
    assert_eq!(
        greet(|h| h.version = VERSION + 1),
        ErrorCode::UnsupportedVersion
    );
    assert_eq!(greet(|h| h.role = Role::Sender), ErrorCode::WrongDirection);
    assert_eq!(
        greet(|h| h.session = SessionId([8; 16])),
        ErrorCode::ProtocolViolation
    );
    assert_eq!(greet(|h| h.lane = 1), ErrorCode::ProtocolViolation);
}

#[test]
fn blocks_held_beyond_the_end_twice_or_none_at_all_are_misbehaviour() {
    for message in [
        held(1, 1),
        held(0, 2),
        held(u64::MAX, 1),
        held(u64::MAX - 1, 2),
        held(0, 0),
    ] {
        assert!(misbehaved(sender_fault("expecting Answer", message)).contains("holds"));
    }
    let mut sender = sender_at("expecting Answer");
    sender.handle(SenderInput::Message(held(0, 1))).unwrap();
    let twice = sender.handle(SenderInput::Message(held(0, 1)));
    assert!(misbehaved(twice.unwrap_err()).contains("twice"));
    assert!(misbehaved(sender_fault("sending", held(0, 1))).contains("verdict"));
}

#[test]
fn more_blocks_held_than_a_receiver_has_open_are_too_many() {
    let mut sender = sender_at("nothing offered");
    let blocks = limits::FILE_MAX_BLOCKS;
    let most = (limits::HELD_OPEN_MAX_HASHES / blocks) as u32;
    let entries = vec![file(blocks * limits::BLOCK_MIN_BYTES); most as usize + 2];
    let last = true;
    sender
        .handle(SenderInput::Manifest { entries, last })
        .unwrap();
    let hold = |sender: &mut Sender, entry| {
        let parts = (0..blocks).step_by(limits::HELD_MAX_HASHES);
        let result = parts.into_iter().try_for_each(|first_block| {
            let hashes = vec![ROOT; limits::HELD_MAX_HASHES];
            let held = Message::Held(Held {
                entry,
                first_block,
                hashes,
            });
            sender.handle(SenderInput::Message(held))
        });
        while sender.poll_output().is_some() {}
        result
    };
    for entry in 0..most {
        hold(&mut sender, entry).unwrap();
    }
    // What is over does not count.
    let outcome = Outcome {
        entry: 0,
        failure: Some(ErrorCode::NoSpace),
    };
    let outcomes = vec![outcome];
    let done = Message::Done(Done { outcomes });
    sender.handle(SenderInput::Message(done)).unwrap();
    hold(&mut sender, most).unwrap();
    let error = hold(&mut sender, most + 1).unwrap_err();
    assert_eq!(exceeded(error), "blocks held");
}

/// Whoever looks at targets may be hashing one for hours, and what is behind it waits.
#[test]
fn an_entry_has_its_place_in_the_window_until_its_target_was_looked_at() {
    let code = ErrorCode::PermissionDenied;
    let (window, batch) = (limits::WINDOW_MAX_ENTRIES, limits::BATCH_MAX_ENTRIES);
    let tell = |receiver: &mut Receiver, message| receiver.handle(ReceiverInput::Message(message));
    let offer = |first: usize, count, kind: &EntryKind| {
        let kind = kind.clone();
        let entries = vec![Entry { kind, ..file(1) }; count];
        let (first, last) = (first as u32, false);
        Message::Offer(Offer {
            first,
            entries,
            last,
        })
    };
    for kind in [EntryKind::Unsent { code }, EntryKind::File { size: 1 }] {
        let mut receiver = receiver_at("nothing offered");
        for first in (0..window).step_by(batch) {
            tell(&mut receiver, offer(first, batch, &kind)).unwrap();
        }
        for entry in 0..window as u32 {
            let failure = EntryFailure { entry, code };
            tell(&mut receiver, Message::Failed(failure)).unwrap();
        }
        let is_over = |output| {
            matches!(
                output,
                ReceiverOutput::Send(_) | ReceiverOutput::Release { .. }
            )
        };
        assert!(!std::iter::from_fn(|| receiver.poll_output()).any(is_over));
        let mut one_too_many = receiver.clone();
        let error = tell(&mut one_too_many, offer(window, 1, &kind)).unwrap_err();
        assert_eq!(exceeded(error), "entries at a time");
        // What is found does not matter any more.
        let preparation = Preparation::Data(Vec::new());
        let entry = 7;
        receiver
            .handle(ReceiverInput::Prepared { entry, preparation })
            .unwrap();
        let decision = Decision::Refuse(code);
        let verdicts = vec![Verdict { entry, decision }];
        let failure = Some(code);
        let outputs: Vec<_> = std::iter::from_fn(|| receiver.poll_output()).collect();
        let expected = [
            ReceiverOutput::Release { entry, failure },
            ReceiverOutput::Send(Message::Answer(Answer { verdicts })),
        ];
        assert_eq!(outputs, expected);
        tell(&mut receiver, offer(window, 1, &kind)).unwrap();
    }
}

#[test]
fn asking_for_the_bytes_of_a_directory_is_misbehaviour() {
    let mut sender = sender_at("nothing offered");
    let entries = vec![Entry {
        kind: EntryKind::Directory,
        ..file(0)
    }];
    sender
        .handle(SenderInput::Manifest {
            entries,
            last: true,
        })
        .unwrap();
    let verdict = Verdict {
        entry: 0,
        decision: Decision::Send,
    };
    let answer = Message::Answer(Answer {
        verdicts: vec![verdict],
    });
    let error = sender.handle(SenderInput::Message(answer)).unwrap_err();
    assert_eq!(misbehaved(error), "asked for the bytes of no file");
}

#[test]
fn asking_again_is_bounded_and_only_for_blocks_that_exist() {
    let again = |block| Message::Again(Again { entry: 0, block });
    misbehaved(sender_fault("sending", again(1)));
    misbehaved(sender_fault("expecting Answer", again(0)));
    let mut sender = sender_at("expecting Done");
    for _ in 0..limits::ENTRY_MAX_REPEATS {
        sender.handle(SenderInput::Message(again(0))).unwrap();
    }
    let error = sender.handle(SenderInput::Message(again(0))).unwrap_err();
    assert_eq!(exceeded(error), "blocks asked for again");
}

#[test]
fn a_receipt_for_something_else_is_misbehaviour() {
    let good = Receipt {
        entries: 1,
        failed: 0,
        bytes: 1,
    };
    for receipt in [
        Receipt { entries: 2, ..good },
        Receipt { failed: 1, ..good },
        Receipt { bytes: 0, ..good },
    ] {
        let error = sender_fault("expecting Receipt", Message::Receipt(receipt));
        assert!(misbehaved(error).contains("receipt"));
    }
}

/// Answers everything but the first entry until the sender wants no more, or has offered so many.
fn offered_behind_an_open_entry(sender: &mut Sender, decision: Decision, most: u32) -> u32 {
    let mut is_reading = true;
    while std::mem::take(&mut is_reading) && sender.offered() < most {
        let first = sender.offered();
        let entries = vec![file(1); limits::BATCH_MAX_ENTRIES];
        let last = false;
        sender
            .handle(SenderInput::Manifest { entries, last })
            .unwrap();
        let verdicts = (first.max(1)..sender.offered()).map(|entry| Verdict { entry, decision });
        let verdicts = verdicts.collect();
        let answer = Message::Answer(Answer { verdicts });
        sender.handle(SenderInput::Message(answer)).unwrap();
        while let Some(output) = sender.poll_output() {
            is_reading |= output == SenderOutput::ReadManifest;
        }
    }
    sender.offered()
}

#[test]
fn no_more_is_offered_behind_an_open_entry_than_may_wait_for_its_hash() {
    let most = limits::TREE_SPAN_MAX_ENTRIES as u32;
    let mut sender = sender_at("nothing offered");
    let refused = Decision::Refuse(ErrorCode::NameRefused);
    let offered = offered_behind_an_open_entry(&mut sender, refused, 2 * most);
    assert_eq!(offered, most);
    // It goes on as soon as that one is over.
    let verdict = Verdict {
        entry: 0,
        decision: refused,
    };
    let verdicts = vec![verdict];
    let answer = Message::Answer(Answer { verdicts });
    sender.handle(SenderInput::Message(answer)).unwrap();
    let mut outputs = std::iter::from_fn(|| sender.poll_output());
    assert!(outputs.any(|output| output == SenderOutput::ReadManifest));

    // Without a hash nothing waits.
    let mut sender = sender_at("nothing offered");
    let offered = offered_behind_an_open_entry(&mut sender, Decision::NoData, 2 * most);
    assert_eq!(offered, 2 * most);
}

#[test]
fn a_manifest_without_entries_is_a_fault_on_either_side() {
    let error = receiver_fault("nothing offered", offer(0, 0, true));
    assert_eq!(misbehaved(error), "offered nothing");
    for state in ["nothing offered", "expecting Hello"] {
        let mut sender = match state {
            "expecting Hello" => Sender::dialer(SESSION, false),
            _ => sender_at(state),
        };
        let (entries, last) = (Vec::new(), true);
        let error = sender.handle(SenderInput::Manifest { entries, last });
        assert_eq!(
            error,
            Err(SessionError::Ours(ErrorCode::Internal)),
            "{state}"
        );
    }
    // The end of a manifest may come by itself.
    let mut receiver = receiver_at("nothing offered");
    for offer in [offer(0, 0, false), offer(0, 1, false), offer(1, 0, true)] {
        receiver.handle(ReceiverInput::Message(offer)).unwrap();
    }
}

#[test]
fn offers_out_of_order_after_the_last_or_over_the_window_are_refused() {
    misbehaved(receiver_fault("nothing offered", offer(1, 1, false)));
    misbehaved(receiver_fault("preparing", offer(1, 1, true)));
    let mut receiver = receiver_at("nothing offered");
    let batch = limits::BATCH_MAX_ENTRIES;
    for first in (0..limits::WINDOW_MAX_ENTRIES).step_by(batch) {
        let offer = offer(first as u32, batch, false);
        receiver.handle(ReceiverInput::Message(offer)).unwrap();
    }
    let offer = offer(limits::WINDOW_MAX_ENTRIES as u32, 1, false);
    let error = receiver.handle(ReceiverInput::Message(offer)).unwrap_err();
    assert_eq!(exceeded(error), "entries at a time");
}

#[test]
fn a_complete_before_the_verdict_or_twice_is_misbehaviour() {
    let complete = |entry| {
        Message::Complete(Complete {
            roots: vec![EntryRoot { entry, root: ROOT }],
        })
    };
    for state in ["preparing", "root known", "finishing"] {
        misbehaved(receiver_fault(state, complete(0)));
    }
    misbehaved(receiver_fault("receiving", complete(1)));
}

#[test]
fn a_finish_that_is_early_or_miscounts_is_misbehaviour() {
    misbehaved(receiver_fault(
        "receiving",
        Message::Finish(Finish { entries: 1 }),
    ));
    misbehaved(receiver_fault(
        "all done",
        Message::Finish(Finish { entries: 2 }),
    ));
    misbehaved(receiver_fault(
        "nothing offered",
        Message::Finish(Finish { entries: 0 }),
    ));
}

#[test]
fn a_failed_that_comes_while_the_file_gets_its_name_is_too_late() {
    let mut receiver = receiver_at("finishing");
    let failed = EntryFailure {
        entry: 0,
        code: ErrorCode::FileSystem,
    };
    receiver
        .handle(ReceiverInput::Message(Message::Failed(failed)))
        .unwrap();
    assert_eq!(receiver.poll_output(), None);
    receiver
        .handle(ReceiverInput::Finished {
            entry: 0,
            failure: None,
        })
        .unwrap();
    let outcome = Outcome {
        entry: 0,
        failure: None,
    };
    let done = Message::Done(Done {
        outcomes: vec![outcome],
    });
    let (entry, failure) = (0, None);
    let release = ReceiverOutput::Release { entry, failure };
    assert_eq!(receiver.poll_output(), Some(release));
    assert_eq!(receiver.poll_output(), Some(ReceiverOutput::Send(done)));
}

#[test]
fn what_comes_after_the_receipt_does_not_take_it_back() {
    let late = [
        ReceiverInput::Stop(ErrorCode::Terminated),
        ReceiverInput::Message(Message::Abort(Abort {
            code: ErrorCode::Interrupted,
        })),
        ReceiverInput::Message(offer(1, 1, true)),
    ];
    for input in late {
        let mut receiver = receiver_at("syncing");
        receiver.handle(ReceiverInput::Synced).unwrap();
        let _ = receiver.handle(input);
        let receipt = Receipt {
            entries: 1,
            failed: 0,
            bytes: 1,
        };
        let send = ReceiverOutput::Send(Message::Receipt(receipt));
        assert_eq!(receiver.poll_output(), Some(send));
        let conclusion = Conclusion {
            receipt,
            failures: Vec::new(),
        };
        assert_eq!(
            receiver.poll_output(),
            Some(ReceiverOutput::Close(conclusion))
        );
    }
}

#[test]
fn a_block_that_is_damaged_after_its_proof_is_not_proven_any_more() {
    let mut receiver = receiver_at("receiving");
    let block = 0;
    receiver
        .handle(ReceiverInput::BlockProven { entry: 0, block })
        .unwrap();
    assert!(!receiver.wants(0, block));
    receiver
        .handle(ReceiverInput::BlockDamaged { entry: 0, block })
        .unwrap();
    assert!(receiver.wants(0, block));
    let again = Message::Again(Again { entry: 0, block });
    assert_eq!(receiver.poll_output(), Some(ReceiverOutput::Send(again)));
    receiver
        .handle(ReceiverInput::BlockDamaged { entry: 0, block: 9 })
        .unwrap();
    assert_eq!(receiver.poll_output(), None);
}

#[test]
fn what_a_side_may_be_hashing_is_what_was_offered_and_then_what_is_held() {
    let size = 3 * limits::BLOCK_MIN_BYTES;
    let entries = vec![file(size)];
    let mut receiver = receiver_at("nothing offered");
    assert_eq!(receiver.unhashed_bytes(), 0);
    let offer = Message::Offer(Offer {
        first: 0,
        entries: entries.clone(),
        last: true,
    });
    receiver.handle(ReceiverInput::Message(offer)).unwrap();
    assert_eq!(receiver.unhashed_bytes(), size);
    let preparation = Preparation::Data(vec![(1, vec![ROOT; 2])]);
    let prepared = ReceiverInput::Prepared {
        entry: 0,
        preparation,
    };
    receiver.handle(prepared).unwrap();
    assert_eq!(receiver.unhashed_bytes(), 2 * limits::BLOCK_MIN_BYTES);

    let mut sender = Sender::new(SESSION, false);
    let greeting = Message::Hello(hello(Role::Receiver, SESSION, 0));
    let manifest = SenderInput::Manifest {
        entries,
        last: true,
    };
    sender.handle(SenderInput::Message(greeting)).unwrap();
    sender.handle(manifest).unwrap();
    assert_eq!(sender.unhashed_bytes(), size);
    let verdict = Verdict {
        entry: 0,
        decision: Decision::Send,
    };
    let answer = Message::Answer(Answer {
        verdicts: vec![verdict],
    });
    for message in [held(1, 2), answer] {
        sender.handle(SenderInput::Message(message)).unwrap();
        assert_eq!(sender.unhashed_bytes(), size);
    }
    let checked = SenderInput::HeldChecked {
        entry: 0,
        agrees: true,
    };
    sender.handle(checked).unwrap();
    assert_eq!(sender.unhashed_bytes(), 0);
}

#[test]
fn a_partial_that_claims_impossible_blocks_is_refused_here_not_announced() {
    for runs in [vec![(1, 1)], vec![(0, 1), (0, 1)], vec![(u64::MAX, 1)]] {
        let mut receiver = receiver_at("preparing");
        let held = runs
            .into_iter()
            .map(|(first, count)| (first, vec![Hash([0; 32]); count]));
        let preparation = Preparation::Data(held.collect());
        receiver
            .handle(ReceiverInput::Prepared {
                entry: 0,
                preparation,
            })
            .unwrap();
        let decision = Decision::Refuse(ErrorCode::Internal);
        let verdicts = vec![Verdict { entry: 0, decision }];
        let answer = Message::Answer(Answer { verdicts });
        let (entry, failure) = (0, Some(ErrorCode::Internal));
        let release = ReceiverOutput::Release { entry, failure };
        assert_eq!(receiver.poll_output(), Some(release));
        assert_eq!(receiver.poll_output(), Some(ReceiverOutput::Send(answer)));
    }
}

#[test]
fn a_manifest_that_nobody_asked_for_is_our_own_mistake() {
    let mut sender = sender_at("expecting Answer");
    let manifest = SenderInput::Manifest {
        entries: vec![file(1)],
        last: true,
    };
    assert_eq!(
        sender.handle(manifest),
        Err(SessionError::Ours(ErrorCode::Internal))
    );
}

#[test]
fn nothing_is_sealed_before_the_held_blocks_are_checked() {
    let mut sender = sender_at("expecting Answer");
    sender.handle(SenderInput::Message(held(0, 1))).unwrap();
    let verdict = Verdict {
        entry: 0,
        decision: Decision::Send,
    };
    let answer = Message::Answer(Answer {
        verdicts: vec![verdict],
    });
    sender.handle(SenderInput::Message(answer)).unwrap();
    let check = sender.poll_output();
    assert!(matches!(check, Some(SenderOutput::CheckHeld(_))));
    assert_eq!(sender.poll_output(), None);
    let checked = SenderInput::HeldChecked {
        entry: 0,
        agrees: true,
    };
    sender.handle(checked).unwrap();
    assert_eq!(sender.poll_output(), Some(SenderOutput::Seal { entry: 0 }));
}

#[test]
fn blocks_that_no_file_has_are_not_missing_from_a_lane() {
    let mut sender = sender_at("sending");
    let EntryRun { entry, run } = lane_blocks().runs[0];
    let runs = vec![EntryRun { entry, run }];
    sender
        .handle(SenderInput::LaneLost { lane: 1, runs })
        .unwrap();
    let (first, count) = (u64::MAX, u64::MAX);
    let missing = LaneBlocks {
        runs: vec![EntryRun {
            entry,
            run: BlockRun { first, count },
        }],
        ..lane_blocks()
    };
    let error = sender.handle(SenderInput::Message(Message::Missing(missing)));
    let what = misbehaved(error.unwrap_err());
    assert_eq!(what, "misses blocks that were not lost");
}
