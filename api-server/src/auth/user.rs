//! A user name that is safe as a directory name and an argument.

use std::fmt;

use crate::limits;

/// A user name: one path component, not an option, printable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName(String);

impl UserName {
    /// `None` when the text cannot be a user name.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= limits::USER_NAME_MAX_BYTES;
        let safe = !text.starts_with('-')
            && text != "."
            && text != ".."
            && !text
                .contains(|c: char| c == '/' || c == ':' || c.is_control() || c.is_whitespace());
        (fits && safe).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_names() {
        for name in ["bob", "bob@example.org", "b.o-b_1", "ü"] {
            assert!(UserName::parse(name).is_some(), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "", ".", "..", "a/b", "-x", "a b", "a\nb", "a\0", "a:b", &long,
        ] {
            assert!(UserName::parse(name).is_none(), "{name:?}");
        }
    }
}
