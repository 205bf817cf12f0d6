//! Bytes to messages and back.
//!
//! A frame is a 32-bit big-endian length and that many bytes of postcard, whose encoding is
//! a stable specification of its own.

use crate::error::ProtocolError;
use crate::limits;
use crate::wire::VERSION;
use crate::wire::message::Message;

/// Length of the prefix of a frame, in bytes.
pub const PREFIX_BYTES: usize = 4;

/// Encodes a message as one frame.
///
/// # Errors
/// When the message exceeds a bound of [`limits`]: a mistake of ours.
pub fn encode(message: &Message) -> Result<Vec<u8>, ProtocolError> {
    message.check_bounds()?;
    let frame = postcard::to_extend(message, vec![0; PREFIX_BYTES])
        .map_err(|_| ProtocolError::Malformed)?;
    let length = frame.len() - PREFIX_BYTES;
    if length > limits::MESSAGE_MAX_BYTES {
        return Err(ProtocolError::LimitExceeded("bytes in a message"));
    }
    let mut frame = frame;
    frame[..PREFIX_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

/// Length of the body that follows a prefix, in bytes.
///
/// # Errors
/// When it is over [`limits::MESSAGE_MAX_BYTES`]: nothing is allocated for it.
pub fn body_bytes(prefix: [u8; PREFIX_BYTES]) -> Result<usize, ProtocolError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > limits::MESSAGE_MAX_BYTES {
        return Err(ProtocolError::LimitExceeded("bytes in a message"));
    }
    Ok(length)
}

/// Decodes the body of a frame and checks every bound. Of a `Hello` the version is looked at before
/// anything else, and what follows the fields that are known here is ignored.
///
/// # Errors
/// When the bytes are not exactly one message, or a bound is exceeded; of another version than ours,
/// that.
pub fn decode_body(body: &[u8]) -> Result<Message, ProtocolError> {
    let version = greeting_version(body);
    if version.is_some_and(|version| version != VERSION) {
        return Err(ProtocolError::OtherVersion);
    }
    let (message, rest) =
        postcard::take_from_bytes::<Message>(body).map_err(|_| ProtocolError::Malformed)?;
    if version.is_none() && !rest.is_empty() {
        return Err(ProtocolError::Malformed);
    }
    message.check_bounds()?;
    Ok(message)
}

/// Of a `Hello`, whatever else is in it: where it stands never changes.
fn greeting_version(body: &[u8]) -> Option<u16> {
    let ((variant, version), _) = postcard::take_from_bytes::<(u32, u16)>(body).ok()?;
    (variant == HELLO).then_some(version)
}

/// Number of its variant.
const HELLO: u32 = 0;

/// Takes the first message from a buffer: the message and the bytes it took, or `None` when
/// more bytes are needed.
///
/// # Errors
/// As [`body_bytes`] and [`decode_body`].
pub fn decode(buffer: &[u8]) -> Result<Option<(Message, usize)>, ProtocolError> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = body_bytes(*prefix)?;
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    Ok(Some((decode_body(body)?, PREFIX_BYTES + length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockRun;
    use crate::error::ErrorCode;
    use crate::hash::Hash;
    use crate::path::RelPath;
    use crate::wire::message::*;
    use proptest::prelude::*;

    pub(crate) fn one_of_each() -> Vec<Message> {
        let entry = Entry {
            path: RelPath::try_from(b"d/\xff name".to_vec()).unwrap(),
            kind: EntryKind::File { size: 1 << 40 },
            mode: 0o640,
            modified: Timestamp {
                seconds: -1,
                nanos: 999_999_999,
            },
            has_holes: false,
        };
        let verdict = Verdict {
            entry: 3,
            decision: Decision::Refuse(ErrorCode::NoSpace),
        };
        vec![
            Message::Hello(Hello {
                version: 1,
                role: Role::Sender,
                session: SessionId([7; 16]),
                lane: 0,
                software: "streamer 0.1.0".into(),
                wanted: Wanted {
                    include: vec!["*.h5".into()],
                    exclude: vec!["tmp/".into()],
                },
                restart: true,
                vacant: true,
            }),
            Message::Offer(Offer {
                first: 0,
                entries: vec![entry],
                last: true,
            }),
            Message::Held(Held {
                entry: 0,
                first_block: 9,
                hashes: vec![Hash([1; 32])],
            }),
            Message::Answer(Answer {
                verdicts: vec![verdict],
            }),
            Message::Again(Again {
                entry: 1,
                block: u64::MAX,
            }),
            Message::Complete(Complete {
                roots: vec![EntryRoot {
                    entry: 1,
                    root: Hash([2; 32]),
                }],
            }),
            Message::Failed(EntryFailure {
                entry: 1,
                code: ErrorCode::SourceChanged,
            }),
            Message::Done(Done {
                outcomes: vec![Outcome {
                    entry: 1,
                    failure: None,
                }],
            }),
            Message::Finish(Finish { entries: 2 }),
            Message::Receipt(Receipt {
                entries: 1,
                failed: 1,
                bytes: 5,
            }),
            Message::Abort(Abort {
                code: ErrorCode::Unknown(999),
            }),
        ]
    }

    #[test]
    fn every_message_round_trips() {
        for message in one_of_each() {
            let frame = encode(&message).unwrap();
            assert_eq!(decode(&frame).unwrap(), Some((message, frame.len())));
            for cut in 0..frame.len() {
                assert_eq!(decode(&frame[..cut]).unwrap(), None);
            }
        }
    }

    #[test]
    fn the_wire_format_is_pinned() {
        let frames: Vec<String> = one_of_each()
            .iter()
            .map(|m| {
                encode(m)
                    .unwrap()
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect()
            })
            .collect();
        insta::assert_debug_snapshot!(frames);
    }

    fn greeting() -> Vec<u8> {
        postcard::to_allocvec(&one_of_each()[0]).unwrap()
    }

    #[test]
    fn a_greeting_may_have_more_fields_and_no_other_message_may() {
        for message in one_of_each() {
            let mut body = postcard::to_allocvec(&message).unwrap();
            body.extend_from_slice(b"more");
            let expected = match message {
                Message::Hello(_) => Ok(message),
                _ => Err(ProtocolError::Malformed),
            };
            assert_eq!(decode_body(&body), expected);
        }
    }

    #[test]
    fn the_version_of_a_greeting_counts_before_all_else() {
        let mut body = greeting();
        assert_eq!(body[..2], [0, VERSION as u8]);
        body[1] += 1;
        for length in 2..=body.len() {
            let error = decode_body(&body[..length]).unwrap_err();
            assert_eq!(error.code(), ErrorCode::UnsupportedVersion, "{length}");
        }
        // A role that is not known here.
        body[2] = 7;
        assert_eq!(decode_body(&body), Err(ProtocolError::OtherVersion));
        body[1] = VERSION as u8;
        assert_eq!(decode_body(&body), Err(ProtocolError::Malformed));
        body[1] = 0;
        assert_eq!(decode_body(&body), Err(ProtocolError::OtherVersion));
    }

    #[test]
    fn a_huge_length_is_refused_before_its_bytes_come() {
        let frame = (limits::MESSAGE_MAX_BYTES as u32 + 1).to_be_bytes();
        assert!(matches!(
            decode(&frame),
            Err(ProtocolError::LimitExceeded(_))
        ));
    }

    #[test]
    fn bounds_hold_both_ways() {
        let hashes = vec![Hash([0; 32]); limits::HELD_MAX_HASHES + 1];
        let held = Message::Held(Held {
            entry: 0,
            first_block: 0,
            hashes,
        });
        assert!(matches!(
            encode(&held),
            Err(ProtocolError::LimitExceeded(_))
        ));
        let body = postcard::to_allocvec(&held).unwrap();
        assert!(matches!(
            decode_body(&body),
            Err(ProtocolError::LimitExceeded(_))
        ));
    }

    #[test]
    fn runs_of_more_blocks_than_a_file_has_do_not_decode() {
        let decodes = |first, count| {
            let run = BlockRun { first, count };
            let runs = vec![EntryRun { entry: 0, run }];
            let (lane, last) = (1, true);
            let blocks = LaneBlocks { lane, runs, last };
            let body = postcard::to_allocvec(&Message::Missing(blocks)).unwrap();
            decode_body(&body).is_ok()
        };
        assert!(decodes(0, limits::FILE_MAX_BLOCKS));
        assert!(!decodes(1, limits::FILE_MAX_BLOCKS));
        // No blocks at all, were their end the largest number there is.
        assert!(!decodes(u64::MAX, u64::MAX));
    }

    #[test]
    fn a_time_of_more_than_a_second_of_nanoseconds_does_not_decode() {
        let Message::Offer(mut offer) = one_of_each().swap_remove(1) else {
            panic!("the second message is an offer");
        };
        offer.entries[0].modified.nanos = limits::NANOS_MAX + 1;
        let body = postcard::to_allocvec(&Message::Offer(offer)).unwrap();
        assert!(matches!(
            decode_body(&body),
            Err(ProtocolError::LimitExceeded(_))
        ));
    }

    #[test]
    fn a_path_that_leaves_does_not_decode() {
        let mut body = postcard::to_allocvec(&one_of_each()[1]).unwrap();
        let name = body.windows(2).position(|w| w == b"d/").unwrap();
        body[name] = b'/';
        assert_eq!(decode_body(&body), Err(ProtocolError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let _ = decode_body(&bytes);
        }
    }
}
