//! What a receiver makes of what it hears.

use crate::error::ErrorCode;
use crate::limits;
use crate::websocket::close::{meaning, of_exception};
use crate::websocket::message::{Eof, Init, parse_error};
use crate::websocket::{Ending, Input};
use crate::wire::message::Role;

/// Hears a sender.
///
/// The message after the announced bytes is the end of the file, be it text or binary: the
/// Python sender's is binary, and its own receiver takes it for data.
#[derive(Debug)]
pub struct Receiver {
    state: State,
    limit_bytes: Option<u64>,
}

/// What to do about what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A file of this size is coming.
    Create {
        /// Its size, in bytes.
        file_bytes: u64,
    },
    /// The message is the next bytes of the file.
    Write,
    /// The file is complete, if it has this hash.
    Verify {
        /// What the sender hashed.
        sha256: [u8; 32],
    },
}

#[derive(Debug)]
enum State {
    ExpectInit,
    /// Bytes that are to come, and whether an end of file came before them.
    Receiving {
        left: u64,
        ended_early: bool,
    },
    Complete,
}

impl Receiver {
    /// With the most bytes that are taken.
    pub fn new(limit_bytes: Option<u64>) -> Self {
        Self {
            state: State::ExpectInit,
            limit_bytes,
        }
    }

    /// Whether the sender has not said yet what it sends.
    pub fn expects_init(&self) -> bool {
        matches!(self.state, State::ExpectInit)
    }

    /// Decides about what was heard.
    ///
    /// # Errors
    /// When nothing more can come of it.
    pub fn handle(&mut self, input: Input<'_>) -> Result<Step, Ending> {
        let bytes = match input {
            Input::Binary(bytes) => bytes,
            Input::Text(text) => match parse_error(text) {
                Some((class, _)) => {
                    return Err(Ending::Theirs(of_exception(&class, Role::Sender)));
                }
                None => text.as_bytes(),
            },
            Input::Close(code, reason) => return Err(self.closed(code, reason)),
            Input::End => return Err(Ending::Lost),
        };
        match &mut self.state {
            State::ExpectInit => self.on_init(bytes),
            State::Receiving { left: 0, .. } => {
                // More than was announced, or an end that is none: the file grew meanwhile.
                let eof = Eof::parse(bytes).ok_or(Ending::Ours(ErrorCode::SourceChanged))?;
                self.state = State::Complete;
                Ok(Step::Verify { sha256: eof.sha256 })
            }
            State::Receiving { left, ended_early } => {
                let is_text = matches!(input, Input::Text(_));
                // Fewer than announced: the file shrank meanwhile.
                if is_text && Eof::parse(bytes).is_some() {
                    return Err(Ending::Ours(ErrorCode::SourceChanged));
                }
                if is_text {
                    return Err(Ending::Ours(ErrorCode::ProtocolViolation));
                }
                *left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or(Ending::Ours(ErrorCode::SourceChanged))?;
                *ended_early = *left > 0 && Eof::parse(bytes).is_some();
                Ok(Step::Write)
            }
            State::Complete => Err(Ending::Ours(ErrorCode::ProtocolViolation)),
        }
    }

    fn on_init(&mut self, bytes: &[u8]) -> Result<Step, Ending> {
        let init = Init::parse(bytes).ok_or(Ending::Ours(ErrorCode::ProtocolViolation))?;
        let file_bytes = init.file_bytes;
        if file_bytes > self.limit_bytes.unwrap_or(limits::FILE_MAX_BYTES) {
            return Err(Ending::Ours(ErrorCode::OverInboundLimit));
        }
        self.state = State::Receiving {
            left: file_bytes,
            ended_early: false,
        };
        Ok(Step::Create { file_bytes })
    }

    fn closed(&self, code: Option<u16>, reason: &str) -> Ending {
        match (meaning(code, reason, Role::Sender), &self.state) {
            (Some(code), _) => Ending::Theirs(code),
            // The Python sender of a file that shrank: its binary end of file looked like data.
            (
                None,
                State::Receiving {
                    ended_early: true, ..
                },
            ) => Ending::Ours(ErrorCode::SourceChanged),
            (None, _) => Ending::Lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EOF: &[u8] = br#"{"type": "eof", "sha256_hash": "0101010101010101010101010101010101010101010101010101010101010101"}"#;
    const VERIFY: Step = Step::Verify { sha256: [1; 32] };

    fn init(file_bytes: u64) -> Vec<u8> {
        Init { file_bytes }.encode().into_bytes()
    }

    fn receiving(file_bytes: u64) -> Receiver {
        let mut receiver = Receiver::new(None);
        let step = receiver.handle(Input::Binary(&init(file_bytes)));
        assert_eq!(step, Ok(Step::Create { file_bytes }));
        receiver
    }

    #[test]
    fn the_message_after_the_announced_bytes_is_the_end_as_text_and_as_binary() {
        let text = std::str::from_utf8(EOF).unwrap();
        for end in [Input::Binary(EOF), Input::Text(text)] {
            let mut receiver = receiving(3);
            assert_eq!(receiver.handle(Input::Binary(b"ab")), Ok(Step::Write));
            assert_eq!(receiver.handle(Input::Binary(b"c")), Ok(Step::Write));
            assert_eq!(receiver.handle(end), Ok(VERIFY));
        }
        assert_eq!(receiving(0).handle(Input::Binary(EOF)), Ok(VERIFY));
    }

    #[test]
    fn a_file_that_looks_like_the_end_is_data_while_bytes_are_to_come() {
        let mut receiver = receiving(EOF.len() as u64);
        assert_eq!(receiver.handle(Input::Binary(EOF)), Ok(Step::Write));
        assert_eq!(receiver.handle(Input::Binary(EOF)), Ok(VERIFY));
    }

    #[test]
    fn a_source_that_grew_or_shrank_is_noticed() {
        let changed = Err(Ending::Ours(ErrorCode::SourceChanged));
        assert_eq!(receiving(2).handle(Input::Binary(b"abc")), changed);
        let mut grew = receiving(1);
        assert_eq!(grew.handle(Input::Binary(b"a")), Ok(Step::Write));
        assert_eq!(grew.handle(Input::Binary(b"b")), changed);
        let mut shrank = receiving(1000);
        assert_eq!(shrank.handle(Input::Binary(EOF)), Ok(Step::Write));
        assert_eq!(shrank.handle(Input::Close(Some(1000), "")), changed);
        let text = std::str::from_utf8(EOF).unwrap();
        assert_eq!(receiving(1000).handle(Input::Text(text)), changed);
    }

    #[test]
    fn a_peer_that_leaves_early_is_lost_and_one_that_says_why_is_not() {
        let mut receiver = receiving(5);
        assert_eq!(receiver.handle(Input::Binary(b"a")), Ok(Step::Write));
        assert_eq!(
            receiver.handle(Input::Close(Some(1000), "")),
            Err(Ending::Lost)
        );
        assert_eq!(receiver.handle(Input::End), Err(Ending::Lost));
        let reason = r#"{"type": "error", "error": "FileNotFoundError"}"#;
        let missing = Err(Ending::Theirs(ErrorCode::SourceMissing));
        let mut receiver = Receiver::new(None);
        assert_eq!(receiver.handle(Input::Close(Some(3003), reason)), missing);
    }

    #[test]
    fn the_limit_is_exact_and_checked_before_anything_is_created() {
        let mut receiver = Receiver::new(Some(10));
        let step = receiver.handle(Input::Binary(&init(10)));
        assert_eq!(step, Ok(Step::Create { file_bytes: 10 }));
        let over = Receiver::new(Some(10)).handle(Input::Binary(&init(11)));
        assert_eq!(over, Err(Ending::Ours(ErrorCode::OverInboundLimit)));
    }

    #[test]
    fn a_first_message_that_is_no_init_breaks_the_protocol() {
        let violation = Err(Ending::Ours(ErrorCode::ProtocolViolation));
        assert_eq!(
            Receiver::new(None).handle(Input::Binary(b"data")),
            violation
        );
        assert_eq!(Receiver::new(None).handle(Input::Binary(EOF)), violation);
        let mut receiver = receiving(0);
        assert_eq!(receiver.handle(Input::Binary(EOF)), Ok(VERIFY));
        assert_eq!(receiver.handle(Input::Binary(b"more")), violation);
        assert_eq!(receiving(9).handle(Input::Text("hello")), violation);
    }

    proptest! {
        /// Whatever the sizes of the messages, never more bytes are written than announced.
        #[test]
        fn no_more_is_written_than_was_announced(size in 0u64..50, pieces in proptest::collection::vec(0usize..20, 0..20)) {
            let mut receiver = receiving(size);
            let mut written = 0;
            for piece in pieces {
                match receiver.handle(Input::Binary(&vec![7; piece])) {
                    Ok(step) => {
                        prop_assert_eq!(step, Step::Write);
                        written += piece as u64;
                    }
                    Err(_) => break,
                }
            }
            prop_assert!(written <= size);
        }
    }
}
