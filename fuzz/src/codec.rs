//! Any bytes on the control stream are messages that encode back to themselves, or an error.

use streamer_core::limits;
use streamer_core::wire::codec::{decode, decode_body, encode};

/// Panics when that does not hold.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok(Some((message, length))) = decode(rest) {
        assert!(length <= rest.len());
        rest = &rest[length..];
        assert_eq!(message.check_bounds(), Ok(()));
    }
    // Without the prefix, which is hard to guess.
    if let Ok(message) = decode_body(bytes) {
        let frame = encode(&message).expect("what decodes is within every bound");
        assert!(frame.len() <= limits::MESSAGE_MAX_BYTES + 4);
        assert_eq!(decode(&frame), Ok(Some((message, frame.len()))));
    }
}
