//! What is said besides the bytes of the file: two JSON objects.

use serde::{Deserialize, Serialize};

use crate::limits;

/// The first message of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init {
    /// Size of the file, in bytes.
    pub file_bytes: u64,
}

impl Init {
    /// As the Python receiver reads it, from a binary message.
    pub fn encode(self) -> String {
        let file_size = self.file_bytes;
        let num_chunks = file_size.div_ceil(limits::WEBSOCKET_CHUNK_BYTES as u64);
        to_json(&Wire::Init {
            num_chunks,
            file_size,
        })
    }

    /// `None` when it is no init, or of a file larger than any.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match from_json(bytes)? {
            Wire::Init { file_size, .. } if file_size <= limits::FILE_MAX_BYTES => Some(Self {
                file_bytes: file_size,
            }),
            _ => None,
        }
    }
}

/// The last message of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eof {
    /// Of all bytes of the file.
    pub sha256: [u8; 32],
}

impl Eof {
    /// The text message that the Python receiver looks for: it compares the first bytes, so
    /// there is no blank in them.
    pub fn encode(self) -> String {
        let sha256_hash = self.sha256.iter().map(|byte| format!("{byte:02x}"));
        to_json(&Wire::Eof {
            sha256_hash: sha256_hash.collect(),
        })
    }

    /// `None` when it is no end of file.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let Wire::Eof { sha256_hash } = from_json(bytes)? else {
            return None;
        };
        let digits = sha256_hash.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut sha256 = [0; 32];
        for (byte, pair) in sha256.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self { sha256 })
    }
}

/// The name of the Python exception in an error message or in the reason of a close frame,
/// and our own code, which only our endpoints and clients add.
pub(super) fn parse_error(text: &str) -> Option<(String, Option<u16>)> {
    match from_json(text.as_bytes())? {
        Wire::Error { error, code } => Some((error, code)),
        _ => None,
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn from_json(bytes: &[u8]) -> Option<Wire> {
    if bytes.len() > limits::WEBSOCKET_CONTROL_MAX_BYTES {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

fn to_json(wire: &Wire) -> String {
    // Local invariant: numbers and strings always serialise.
    serde_json::to_string(wire).unwrap_or_default()
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Wire {
    Init {
        #[serde(default)]
        num_chunks: u64,
        file_size: u64,
    },
    Eof {
        sha256_hash: String,
    },
    Error {
        error: String,
        #[serde(default)]
        code: Option<u16>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_python_sender_says_is_understood() {
        let init = br#"{"type": "init", "num_chunks": 2, "file_size": 5242881}"#;
        let file_bytes = 5_242_881;
        assert_eq!(Init::parse(init), Some(Init { file_bytes }));
        let digits = "ab".repeat(32);
        let eof = format!(r#"{{"type": "eof", "sha256_hash": "{digits}"}}"#);
        let sha256 = [0xab; 32];
        assert_eq!(Eof::parse(eof.as_bytes()), Some(Eof { sha256 }));
    }

    #[test]
    fn the_end_of_file_begins_as_the_python_receiver_wants_it() {
        let text = Eof { sha256: [1; 32] }.encode();
        assert!(text.starts_with(r#"{"type":"eof""#), "{text}");
        assert_eq!(Eof::parse(text.as_bytes()), Some(Eof { sha256: [1; 32] }));
        let init = Init {
            file_bytes: 5 << 20,
        };
        let text = r#"{"type":"init","num_chunks":1,"file_size":5242880}"#;
        assert_eq!(init.encode(), text);
    }

    #[test]
    fn sizes_and_hashes_that_make_no_sense_are_refused() {
        for init in [
            r#"{"type":"init","file_size":-1}"#,
            r#"{"type":"init","file_size":9223372036854775808}"#,
            r#"{"type":"eof","file_size":1}"#,
            "{}",
            "",
        ] {
            assert_eq!(Init::parse(init.as_bytes()), None, "{init}");
        }
        for digits in ["", "ab", &"+1".repeat(32), &"é".repeat(32), &"a".repeat(65)] {
            let eof = format!(r#"{{"type":"eof","sha256_hash":"{digits}"}}"#);
            assert_eq!(Eof::parse(eof.as_bytes()), None, "{eof}");
        }
        let long = format!(
            r#"{{"type":"init","file_size":1,"x":"{}"}}"#,
            "x".repeat(5000)
        );
        assert_eq!(Init::parse(long.as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Init::parse(&bytes), Eof::parse(&bytes));
        }

        #[test]
        fn what_is_said_is_understood(sha256 in any::<[u8; 32]>(), file_bytes in 0..=limits::FILE_MAX_BYTES) {
            prop_assert_eq!(Eof::parse(Eof { sha256 }.encode().as_bytes()), Some(Eof { sha256 }));
            prop_assert_eq!(Init::parse(Init { file_bytes }.encode().as_bytes()), Some(Init { file_bytes }));
        }
    }
}
