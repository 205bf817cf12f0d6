//! Names of files in JSON, which has no bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use streamer_core::path::Shown;

/// A path as fields of an object.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct JsonPath {
    /// Itself where it is UTF-8; else for people only, with other bytes as `\\xNN`.
    path: String,
    /// All of it, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
}

impl JsonPath {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self {
                path: text.to_owned(),
                path_base64: None,
            },
            Err(_) => Self {
                path: Shown(bytes).to_string(),
                path_base64: Some(STANDARD.encode(bytes)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_can_be_told_from_every_other() {
        let json = |bytes: &[u8]| serde_json::to_value(JsonPath::of(bytes)).unwrap();
        for text in ["new\nline", r"new\nline", "tab\t", "é\u{a0}\"'"] {
            assert_eq!(json(text.as_bytes()), serde_json::json!({ "path": text }));
        }
        assert_eq!(
            json(b"b\xff"),
            serde_json::json!({"path": "b\\xff", "path_base64": "Yv8="})
        );
    }
}
