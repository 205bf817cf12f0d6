//! No sequence of messages and events panics a session, makes it flood its driver, or makes
//! it speak after its end.

use arbitrary::{Arbitrary, Unstructured};
use streamer_core::session::{
    Preparation, Receiver, ReceiverConfig, ReceiverInput, Sender, SenderInput, hello,
};
use streamer_core::wire::codec::{decode_body, encode};
use streamer_core::wire::message::{
    Again, Answer, Complete, Decision, Done, Entry, EntryFailure, EntryKind, EntryRoot, Finish, Held,
    Message, Offer, Outcome, Receipt, Role, SessionId, Timestamp, Verdict,
};
use streamer_core::{ErrorCode, Hash};

const SESSION: SessionId = SessionId([7; 16]);

/// What one step of a few entries may lead to: a run for each gap between held blocks, and a
/// few outputs more.
const MOST_OUTPUTS: usize = 4096;

/// Panics when that does not hold.
pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let _ = match input.arbitrary() {
        Ok(true) => drive_sender(&mut input),
        _ => drive_receiver(&mut input),
    };
}

fn drive_sender(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut sender = match input.arbitrary()? {
        true => Sender::dialer(SESSION, false),
        false => Sender::new(SESSION, false),
    };
    if input.ratio(9u8, 10u8)? {
        let hello = Message::Hello(hello(Role::Receiver, SESSION, 0));
        assert_eq!(sender.handle(SenderInput::Message(hello)), Ok(()));
    }
    let mut over = false;
    while !input.is_empty() {
        let result = sender.handle(sender_input(input)?);
        let outputs = std::iter::from_fn(|| sender.poll_output()).count();
        assert!(outputs <= if over { 0 } else { MOST_OUTPUTS });
        over |= result.is_err();
        assert!(!over || sender.state_name() == "closed");
    }
    Ok(())
}

fn drive_receiver(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let config = ReceiverConfig {
        inbound_limit_bytes: input.arbitrary()?,
        ..ReceiverConfig::default()
    };
    let mut receiver = Receiver::new(SESSION, config);
    if input.ratio(9u8, 10u8)? {
        let hello = Message::Hello(hello(Role::Sender, SESSION, 0));
        assert_eq!(receiver.handle(ReceiverInput::Message(hello)), Ok(()));
    }
    let mut over = false;
    while !input.is_empty() {
        let result = receiver.handle(receiver_input(input)?);
        let outputs = std::iter::from_fn(|| receiver.poll_output()).count();
        assert!(outputs <= if over { 0 } else { MOST_OUTPUTS });
        let _ = receiver.wants(entry(input)?, number(input)?);
        over |= result.is_err();
        assert!(!over || receiver.state_name() == "closed");
    }
    Ok(())
}

fn sender_input(input: &mut Unstructured<'_>) -> arbitrary::Result<SenderInput> {
    Ok(match input.int_in_range(0..=9)? {
        0 => SenderInput::Manifest {
            entries: entries(input)?,
            last: input.arbitrary()?,
        },
        1 => SenderInput::HeldChecked {
            entry: entry(input)?,
            agrees: input.arbitrary()?,
        },
        2 => SenderInput::BlocksSent {
            entry: entry(input)?,
            count: number(input)?,
        },
        3 => SenderInput::Sealed {
            entry: entry(input)?,
            root: hash(input)?,
        },
        4 => SenderInput::SourceFailed {
            entry: entry(input)?,
            code: code(input)?,
        },
        5 if input.ratio(1u8, 20u8)? => SenderInput::Stop(code(input)?),
        _ => SenderInput::Message(message(input)?),
    })
}

fn receiver_input(input: &mut Unstructured<'_>) -> arbitrary::Result<ReceiverInput> {
    Ok(match input.int_in_range(0..=11)? {
        0 | 1 => ReceiverInput::Prepared {
            entry: entry(input)?,
            preparation: preparation(input)?,
        },
        2 => ReceiverInput::BlockProven {
            entry: entry(input)?,
            block: number(input)?,
        },
        3 => ReceiverInput::BlockDamaged {
            entry: entry(input)?,
            block: number(input)?,
        },
        4 => ReceiverInput::TargetFailed {
            entry: entry(input)?,
            code: code(input)?,
        },
        5 => ReceiverInput::Finished {
            entry: entry(input)?,
            failure: failure(input)?,
        },
        6 => ReceiverInput::Synced,
        7 if input.ratio(1u8, 20u8)? => ReceiverInput::Stop(code(input)?),
        _ => ReceiverInput::Message(message(input)?),
    })
}

/// As it comes out of the codec, so that every bound on a single message holds.
fn message(input: &mut Unstructured<'_>) -> arbitrary::Result<Message> {
    let message = any_message(input)?;
    let Ok(frame) = encode(&message) else {
        return Err(arbitrary::Error::IncorrectFormat);
    };
    assert_eq!(decode_body(&frame[4..]), Ok(message.clone()));
    Ok(message)
}

/// A message of any kind, within no bound but the codec's.
pub fn any_message(input: &mut Unstructured<'_>) -> arbitrary::Result<Message> {
    Ok(match input.int_in_range(0..=9)? {
        0 => {
            let role = if input.arbitrary()? {
                Role::Sender
            } else {
                Role::Receiver
            };
            Message::Hello(hello(role, SESSION, input.int_in_range(0..=1)?))
        }
        1 => {
            let first = entry(input)?;
            Message::Offer(Offer {
                first,
                entries: entries(input)?,
                last: input.arbitrary()?,
            })
        }
        2 => {
            let (entry, first_block) = (entry(input)?, number(input)?);
            Message::Held(Held {
                entry,
                first_block,
                hashes: hashes(input)?,
            })
        }
        3 => {
            let verdict = |input: &mut Unstructured<'_>| {
                Ok(Verdict {
                    entry: entry(input)?,
                    decision: decision(input)?,
                })
            };
            Message::Answer(Answer {
                verdicts: some(input, verdict)?,
            })
        }
        4 => Message::Again(Again {
            entry: entry(input)?,
            block: number(input)?,
        }),
        5 => {
            let root = |input: &mut Unstructured<'_>| {
                Ok(EntryRoot {
                    entry: entry(input)?,
                    root: hash(input)?,
                })
            };
            Message::Complete(Complete {
                roots: some(input, root)?,
            })
        }
        6 => Message::Failed(EntryFailure {
            entry: entry(input)?,
            code: known_code(input)?,
        }),
        7 => {
            let outcome = |input: &mut Unstructured<'_>| {
                Ok(Outcome {
                    entry: entry(input)?,
                    failure: failure(input)?,
                })
            };
            Message::Done(Done {
                outcomes: some(input, outcome)?,
            })
        }
        8 => Message::Finish(Finish {
            entries: entry(input)?,
        }),
        _ => {
            let (entries, failed) = (entry(input)?, entry(input)?);
            Message::Receipt(Receipt {
                entries,
                failed,
                bytes: number(input)?,
            })
        }
    })
}

fn some<T>(
    input: &mut Unstructured<'_>,
    one: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<T>,
) -> arbitrary::Result<Vec<T>> {
    let count = input.int_in_range(0..=5)?;
    (0..count).map(|_| one(input)).collect()
}

/// Small, most of the time: inputs that have nothing to do with each other find little.
fn entry(input: &mut Unstructured<'_>) -> arbitrary::Result<u32> {
    Ok(match u8::arbitrary(input)? {
        255 => u32::MAX,
        254 => input.arbitrary()?,
        small => u32::from(small % 6),
    })
}

fn number(input: &mut Unstructured<'_>) -> arbitrary::Result<u64> {
    Ok(match u8::arbitrary(input)? {
        255 => u64::MAX,
        254 => input.arbitrary()?,
        253 => u64::MAX - 1,
        small => u64::from(small % 6),
    })
}

fn hash(input: &mut Unstructured<'_>) -> arbitrary::Result<Hash> {
    Ok(Hash([input.arbitrary()?; Hash::BYTES]))
}

fn hashes(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Hash>> {
    some(input, hash)
}

fn known_code(input: &mut Unstructured<'_>) -> arbitrary::Result<ErrorCode> {
    Ok(*input.choose(ErrorCode::ALL)?)
}

fn code(input: &mut Unstructured<'_>) -> arbitrary::Result<ErrorCode> {
    Ok(ErrorCode::from(u16::arbitrary(input)?))
}

fn failure(input: &mut Unstructured<'_>) -> arbitrary::Result<Option<ErrorCode>> {
    Ok(if input.arbitrary()? {
        Some(code(input)?)
    } else {
        None
    })
}

fn decision(input: &mut Unstructured<'_>) -> arbitrary::Result<Decision> {
    Ok(match input.int_in_range(0..=5)? {
        0 => Decision::NoData,
        1 => Decision::Refuse(known_code(input)?),
        _ => Decision::Send,
    })
}

fn preparation(input: &mut Unstructured<'_>) -> arbitrary::Result<Preparation> {
    let run = |input: &mut Unstructured<'_>| Ok((number(input)?, hashes(input)?));
    Ok(match input.int_in_range(0..=5)? {
        0 => Preparation::NoData,
        1 => Preparation::Refused(code(input)?),
        2 => Preparation::Data(some(input, run)?),
        _ => Preparation::Data(Vec::new()),
    })
}

fn entries(input: &mut Unstructured<'_>) -> arbitrary::Result<Vec<Entry>> {
    some(input, |input| {
        let kind = match input.int_in_range(0..=4)? {
            0 if input.arbitrary()? => EntryKind::Unsent { code: code(input)? },
            0 => EntryKind::Directory,
            1 => EntryKind::Symlink {
                target: b"x".to_vec(),
            },
            2 => EntryKind::File {
                size: number(input)?,
            },
            // A few blocks, and the last one short.
            _ => EntryKind::File {
                size: u64::from(u32::arbitrary(input)? >> 10),
            },
        };
        let (path, mode) = (Default::default(), 0o600);
        Ok(Entry {
            path,
            kind,
            mode,
            modified: Timestamp::default(),
            has_holes: false,
        })
    })
}
