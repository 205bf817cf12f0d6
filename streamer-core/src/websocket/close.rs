//! Why a side closed: WebSocket close codes, and what the Python service means by them.

use crate::error::ErrorCode;
use crate::websocket::message::parse_error;
use crate::wire::message::Role;

/// All is well.
pub const NORMAL: u16 = 1000;
/// The endpoint leaves; the Python server says it after a transfer too.
const GOING_AWAY: u16 = 1001;
/// There was a close frame without a code (RFC 6455 § 7.1.5).
const NO_STATUS: u16 = 1005;
const POLICY: u16 = 1008;
/// Over the inbound limit; by RFC 6455 a message that is too big.
const TOO_BIG: u16 = 1009;
const INTERNAL: u16 = 1011;
const TRY_AGAIN_LATER: u16 = 1013;
/// The file of the side that closes: its source is missing, or its target exists.
const FILE: u16 = 3003;

/// What the peer's close frame says about why; `None` where it says that all is well.
/// `peer` is what the peer does: the codes mean one thing from a sender, another from a
/// receiver.
pub fn meaning(code: Option<u16>, reason: &str, peer: Role) -> Option<ErrorCode> {
    let said = parse_error(reason);
    if let Some((_, Some(number))) = said {
        return Some(ErrorCode::from(number));
    }
    let class = said.map(|(class, _)| class).unwrap_or_default();
    match (code.unwrap_or(NO_STATUS), peer) {
        (NORMAL | GOING_AWAY | NO_STATUS, _) => None,
        (FILE, Role::Sender) => Some(ErrorCode::SourceMissing),
        (FILE, Role::Receiver) => Some(ErrorCode::TargetExists),
        (TOO_BIG, Role::Sender) => Some(ErrorCode::LimitExceeded),
        (TOO_BIG, Role::Receiver) => Some(ErrorCode::OverInboundLimit),
        (TRY_AGAIN_LATER, _) => Some(ErrorCode::Busy),
        (1002 | 1003 | 1007 | POLICY, _) => Some(ErrorCode::ProtocolViolation),
        (_, peer) => Some(of_exception(&class, peer)),
    }
}

/// What a Python exception in the peer means, by its class.
pub(super) fn of_exception(class: &str, peer: Role) -> ErrorCode {
    match (class, peer) {
        ("FileNotFoundError" | "NotADirectoryError", Role::Receiver) => ErrorCode::ParentMissing,
        ("FileNotFoundError" | "NotADirectoryError", Role::Sender) => ErrorCode::SourceMissing,
        ("FileExistsError", _) => ErrorCode::TargetExists,
        ("PermissionError", _) => ErrorCode::PermissionDenied,
        ("IsADirectoryError", Role::Sender) => ErrorCode::UnsupportedType,
        ("IsADirectoryError", Role::Receiver) => ErrorCode::TargetExists,
        ("OSError", _) => ErrorCode::FileSystem,
        _ => ErrorCode::Internal,
    }
}

/// How this side, which does `ours`, tells the peer why it closes. The Python side shows code
/// and reason to its user; ours also reads the number of `code` in it.
pub fn telling(code: ErrorCode, ours: Role) -> (u16, String) {
    let (status, class) = match (code, ours) {
        (ErrorCode::SourceMissing, Role::Sender) | (ErrorCode::TargetExists, Role::Receiver) => {
            (FILE, "FileNotFoundError")
        }
        (ErrorCode::OverInboundLimit, _) => (TOO_BIG, "Inbound transfer limit exceeded"),
        (ErrorCode::LimitExceeded, _) => (TOO_BIG, "Message too big"),
        (ErrorCode::Busy, _) => (TRY_AGAIN_LATER, "Busy"),
        (ErrorCode::WrongDirection, _) => (POLICY, "Wrong direction"),
        (ErrorCode::PermissionDenied, _) => (INTERNAL, "PermissionError"),
        (ErrorCode::ParentMissing, _) => (INTERNAL, "FileNotFoundError"),
        (ErrorCode::NoSpace | ErrorCode::FileTooLarge | ErrorCode::FileSystem, _) => {
            (INTERNAL, "OSError")
        }
        (ErrorCode::HashMismatch | ErrorCode::SourceChanged, _) => (INTERNAL, "Hash mismatch"),
        (ErrorCode::Interrupted | ErrorCode::Terminated, _) => (GOING_AWAY, "Interrupted"),
        _ => (INTERNAL, "Error"),
    };
    let number = code.number();
    let reason = format!(r#"{{"type": "error", "error": "{class}", "code": {number}}}"#);
    (status, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the Python code writes into a close frame.
    fn python(class: &str) -> String {
        format!(r#"{{"type": "error", "error": "{class}"}}"#)
    }

    #[test]
    fn the_codes_of_the_python_service_are_understood_by_role() {
        let says = |code, class: &str, peer| meaning(Some(code), &python(class), peer);
        let table = [
            (
                3003,
                "FileNotFoundError",
                Role::Sender,
                ErrorCode::SourceMissing,
            ),
            (
                3003,
                "FileNotFoundError",
                Role::Receiver,
                ErrorCode::TargetExists,
            ),
            (
                1011,
                "FileNotFoundError",
                Role::Receiver,
                ErrorCode::ParentMissing,
            ),
            (
                1011,
                "PermissionError",
                Role::Sender,
                ErrorCode::PermissionDenied,
            ),
            (
                1011,
                "IsADirectoryError",
                Role::Sender,
                ErrorCode::UnsupportedType,
            ),
            (1011, "OSError", Role::Receiver, ErrorCode::FileSystem),
            (1011, "KeyError", Role::Receiver, ErrorCode::Internal),
        ];
        for (code, class, peer, expected) in table {
            assert_eq!(says(code, class, peer), Some(expected), "{code} {class}");
        }
        let over = "Inbound transfer limit exceeded, max allowed transfer size: 10 bytes.";
        let limit = meaning(Some(1009), over, Role::Receiver);
        assert_eq!(limit, Some(ErrorCode::OverInboundLimit));
        for code in [Some(1000), Some(1001), None] {
            assert_eq!(meaning(code, "", Role::Receiver), None);
        }
        assert_eq!(
            meaning(Some(1006), "", Role::Sender),
            Some(ErrorCode::Internal)
        );
    }

    #[test]
    fn our_own_codes_arrive_as_they_were_and_fit_a_close_frame() {
        for code in ErrorCode::ALL {
            for (ours, other) in [(Role::Sender, "sender"), (Role::Receiver, "receiver")] {
                let (status, reason) = telling(*code, ours);
                assert!(reason.len() <= 123, "{reason}");
                assert_ne!(status, NORMAL, "{code}");
                assert_eq!(
                    meaning(Some(status), &reason, ours),
                    Some(*code),
                    "as {other}"
                );
            }
        }
    }

    #[test]
    fn files_are_told_with_the_code_that_the_python_side_uses() {
        assert_eq!(telling(ErrorCode::TargetExists, Role::Receiver).0, 3003);
        assert_eq!(telling(ErrorCode::SourceMissing, Role::Sender).0, 3003);
        assert_eq!(telling(ErrorCode::OverInboundLimit, Role::Receiver).0, 1009);
    }
}
