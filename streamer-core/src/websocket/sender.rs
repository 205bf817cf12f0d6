//! What a sender makes of what it hears. What it says is always the same: init, file, end.

use crate::error::ErrorCode;
use crate::websocket::close::{meaning, of_exception};
use crate::websocket::message::parse_error;
use crate::websocket::{Ending, Input};
use crate::wire::message::Role;

/// Hears the peer while a file is sent to it.
#[derive(Debug, Default)]
pub struct Sender {
    all_said: bool,
}

impl Sender {
    /// The end of the file was sent.
    pub fn on_all_said(&mut self) {
        self.all_said = true;
    }

    /// Whether the peer has it all: the protocol knows no receipt, a close frame without an
    /// error after the end of the file is all there is.
    ///
    /// # Errors
    /// When nothing more can come of it.
    pub fn handle(&self, input: Input<'_>) -> Result<bool, Ending> {
        match input {
            Input::Text(text) if parse_error(text).is_some() => {
                let class = parse_error(text)
                    .map(|(class, _)| class)
                    .unwrap_or_default();
                Err(Ending::Theirs(of_exception(&class, Role::Receiver)))
            }
            // Receivers say nothing: this one wants to send too.
            Input::Binary(_) | Input::Text(_) => Err(Ending::Ours(ErrorCode::WrongDirection)),
            Input::Close(code, reason) => match meaning(code, reason, Role::Receiver) {
                Some(code) => Err(Ending::Theirs(code)),
                None if self.all_said => Ok(true),
                None => Err(Ending::Lost),
            },
            Input::End => Err(Ending::Lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_after_the_end_is_the_only_good_one() {
        let mut sender = Sender::default();
        assert_eq!(
            sender.handle(Input::Close(Some(1000), "")),
            Err(Ending::Lost)
        );
        sender.on_all_said();
        assert_eq!(sender.handle(Input::Close(Some(1000), "")), Ok(true));
        assert_eq!(sender.handle(Input::Close(Some(1001), "")), Ok(true));
        assert_eq!(sender.handle(Input::End), Err(Ending::Lost));
        let over = sender.handle(Input::Close(Some(1009), "over"));
        assert_eq!(over, Err(Ending::Theirs(ErrorCode::OverInboundLimit)));
    }

    #[test]
    fn a_peer_that_sends_too_is_for_the_other_direction() {
        let sender = Sender::default();
        let init = br#"{"type": "init", "num_chunks": 1, "file_size": 1}"#;
        let wrong = Err(Ending::Ours(ErrorCode::WrongDirection));
        assert_eq!(sender.handle(Input::Binary(init)), wrong);
        let error = r#"{"type": "error", "error": "PermissionError"}"#;
        let denied = Err(Ending::Theirs(ErrorCode::PermissionDenied));
        assert_eq!(sender.handle(Input::Text(error)), denied);
    }
}
