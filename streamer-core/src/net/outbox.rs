//! What a side has to say and the control stream does not take yet.

use std::collections::VecDeque;

use crate::error::ProtocolError;
use crate::limits;
use crate::wire::message::Message;

/// Messages in order, bounded: a peer that talks and does not listen has everything it says
/// answered. Not to listen to it either would make two honest sides wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Outbox {
    /// Adds a message. The last one, which says that this side gives up, always finds room.
    ///
    /// # Errors
    /// When more would wait than the windows of a session allow. What waits is gone then: nobody
    /// hears it, and an `Abort` is still to come.
    pub(crate) fn push(&mut self, message: Message) -> Result<(), ProtocolError> {
        let bytes = self.bytes + message.memory_bytes();
        let is_last = matches!(message, Message::Abort(_));
        if bytes > limits::OUTBOX_MAX_BYTES && !is_last {
            *self = Self::default();
            return Err(ProtocolError::LimitExceeded("messages that wait for it"));
        }
        self.bytes = bytes;
        self.messages.push_back(message);
        Ok(())
    }

    /// Takes the next one out.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.memory_bytes();
        Some(message)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// All that is left.
    pub(crate) fn take(&mut self) -> VecDeque<Message> {
        std::mem::take(self).messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BlockRun;
    use crate::error::ErrorCode;
    use crate::hash::Hash;
    use crate::wire::message::{
        Abort, Answer, Decision, EntryRun, Finish, Held, LaneBlocks, Verdict,
    };

    #[test]
    fn what_waits_is_bounded_by_its_size_and_the_last_word_finds_room() {
        let mut outbox = Outbox::default();
        let held = Message::Held(Held {
            entry: 0,
            first_block: 0,
            hashes: vec![Hash([1; 32]); limits::HELD_MAX_HASHES],
        });
        let mut count = 0;
        while outbox.push(held.clone()).is_ok() {
            assert!(outbox.bytes <= limits::OUTBOX_MAX_BYTES);
            count += 1;
        }
        let size = limits::HELD_MAX_HASHES * Hash::BYTES;
        assert!((limits::OUTBOX_MAX_BYTES / size - 1..).contains(&count));
        assert!(outbox.is_empty());
        let code = ErrorCode::LimitExceeded;
        outbox.bytes = limits::OUTBOX_MAX_BYTES;
        outbox.push(Message::Abort(Abort { code })).unwrap();
        assert_eq!(outbox.take(), [Message::Abort(Abort { code })]);
        assert_eq!(outbox.bytes, 0);
        let small = Message::Finish(Finish { entries: 1 });
        for _ in 0..1000 {
            outbox.push(small.clone()).unwrap();
            assert_eq!(outbox.pop().as_ref(), Some(&small));
        }
        assert_eq!(outbox.bytes, 0);
    }

    /// As many partials as are open at a time, all of them held, and every entry of the window
    /// answered; or the blocks of a lane, every other one of them missing.
    #[test]
    fn an_honest_session_stays_within_the_bound() {
        let mut outbox = Outbox::default();
        let hashes = vec![Hash([1; 32]); limits::HELD_MAX_HASHES];
        let messages = limits::FILE_MAX_BLOCKS as usize / limits::HELD_MAX_HASHES;
        for _ in 0..64 * messages {
            let (entry, first_block, hashes) = (0, 0, hashes.clone());
            let held = Held {
                entry,
                first_block,
                hashes,
            };
            outbox.push(Message::Held(held)).unwrap();
        }
        for entry in 0..limits::WINDOW_MAX_ENTRIES as u32 {
            let decision = Decision::Send;
            let verdicts = vec![Verdict { entry, decision }];
            outbox.push(Message::Answer(Answer { verdicts })).unwrap();
        }
        let run = BlockRun { first: 0, count: 1 };
        let runs = vec![EntryRun { entry: 0, run }; 64 * limits::FILE_MAX_BLOCKS as usize / 2];
        for missing in LaneBlocks::batches(1, &runs) {
            outbox.push(Message::Missing(missing)).unwrap();
        }
    }
}
