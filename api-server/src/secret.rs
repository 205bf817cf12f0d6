//! A text that cannot be printed.

use std::fmt;

use serde::{Deserialize as _, Deserializer};
use zeroize::Zeroizing;

/// A password, key or token. `Debug` redacts, there is no `Display`, memory is cleared on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Reads a text from outside: unlike in the configuration, it names no file.
    pub(crate) fn literal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }

    /// The text, for the one place that needs it. Never log it, never put it in an argument.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_redacts() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("hunter2"))),
            "Some(Secret(redacted))"
        );
    }

    #[test]
    fn a_text_from_outside_names_no_file() {
        let text = serde_json::Value::from("secret_file:/etc/hostname");
        let secret = Secret::literal(text).unwrap();
        assert_eq!(secret.expose(), "secret_file:/etc/hostname");
    }
}
