//! A path inside a transfer that cannot leave it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A relative path of bytes, normalised: names separated by single slashes, none of them
/// empty, `.` or `..`, none with a zero byte. The empty path is the root of the transfer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelPath(Vec<u8>);

impl RelPath {
    /// The root of the transfer.
    pub fn root() -> Self {
        Self::default()
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path of what this is in, and its name there; `None` for the root.
    pub fn split_last(&self) -> Option<(Self, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (Self(self.0[..slash].to_vec()), &self.0[slash + 1..]),
            None => (Self::root(), &self.0),
        })
    }

    /// Whether this is in `directory`, however deep. The root is in nothing, and everything
    /// else is in the root.
    pub fn is_in(&self, directory: &Self) -> bool {
        match self.0.strip_prefix(directory.as_bytes()) {
            Some(rest) if directory.is_root() => !rest.is_empty(),
            Some(rest) => rest.first() == Some(&b'/'),
            None => false,
        }
    }

    /// How many names it has.
    pub fn depth(&self) -> usize {
        match self.0.is_empty() {
            true => 0,
            false => 1 + self.0.iter().filter(|byte| **byte == b'/').count(),
        }
    }

    /// This path with one more name.
    ///
    /// # Errors
    /// When the name, or the path with it, is not allowed.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name.contains(&b'/') {
            return Err(PathError::BadName);
        }
        bytes.try_into()
    }
}

/// Why bytes are not a [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// More than [`limits::PATH_MAX_NAMES`] names.
    #[error("a path holds more than {} names", limits::PATH_MAX_NAMES)]
    TooDeep,
    /// Over [`limits::PATH_MAX_BYTES`].
    #[error("a path is longer than {} bytes", limits::PATH_MAX_BYTES)]
    TooLong,
    /// An empty name, `.`, `..`, a zero byte, or a name over [`limits::NAME_MAX_BYTES`].
    #[error("a path holds an empty, special or too long name")]
    BadName,
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = PathError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        if bytes.len() > limits::PATH_MAX_BYTES {
            return Err(PathError::TooLong);
        }
        let allowed = |name: &[u8]| {
            !name.is_empty()
                && name != b"."
                && name != b".."
                && name.len() <= limits::NAME_MAX_BYTES
                && !name.contains(&0)
        };
        if !bytes.is_empty() && !bytes.split(|b| *b == b'/').all(allowed) {
            return Err(PathError::BadName);
        }
        if bytes.iter().filter(|byte| **byte == b'/').count() >= limits::PATH_MAX_NAMES {
            return Err(PathError::TooDeep);
        }
        Ok(Self(bytes))
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Self {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&self.0).fmt(f)
    }
}

/// Shows the bytes of a path on one line: control characters and foreign bytes escaped, so
/// that a name cannot write to the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() {
                    write!(f, "{}", c.escape_default())?
                } else {
                    write!(f, "{c}")?
                }
            }
            chunk
                .invalid()
                .iter()
                .try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leaves_the_root_is_a_path() {
        for bad in ["/etc", "a//b", "a/", "..", "a/../b", "./a", "a\0b", "a/."] {
            assert_eq!(
                RelPath::try_from(bad.as_bytes().to_vec()),
                Err(PathError::BadName),
                "{bad}"
            );
        }
        assert_eq!(RelPath::try_from(vec![b'a'; 256]), Err(PathError::BadName));
        let long = b"a/".repeat(2100);
        assert_eq!(RelPath::try_from(long), Err(PathError::TooLong));
        let deep = |names: usize| vec!["a"; names].join("/").into_bytes();
        assert!(RelPath::try_from(deep(limits::PATH_MAX_NAMES)).is_ok());
        let too_deep = deep(limits::PATH_MAX_NAMES + 1);
        assert_eq!(RelPath::try_from(too_deep), Err(PathError::TooDeep));
        assert_eq!(RelPath::root().join(b"a/b"), Err(PathError::BadName));
    }

    #[test]
    fn a_path_is_in_its_ancestors_and_in_nothing_else() {
        let path = |text: &str| RelPath::try_from(text.as_bytes().to_vec()).unwrap();
        let (parent, name) = path("a/b/c")
            .split_last()
            .map(|(p, n)| (p, n.to_vec()))
            .unwrap();
        assert_eq!((parent, name.as_slice()), (path("a/b"), &b"c"[..]));
        assert_eq!(path("a").split_last().unwrap().0, RelPath::root());
        assert!(RelPath::root().split_last().is_none());
        assert!(path("a/b").is_in(&path("a")) && path("a").is_in(&RelPath::root()));
        assert!(!path("ab").is_in(&path("a")) && !path("a").is_in(&path("a")));
        assert!(!RelPath::root().is_in(&RelPath::root()));
        assert_eq!(
            [
                RelPath::root().depth(),
                path("a").depth(),
                path("a/b").depth()
            ],
            [0, 1, 2]
        );
    }

    #[test]
    fn any_other_bytes_are_and_are_shown_on_one_line() {
        let path = RelPath::try_from(b"a b/\xff\n\x1b[2J\xc3\xa9".to_vec()).unwrap();
        assert_eq!(path.to_string(), "a b/\\xff\\n\\u{1b}[2Jé");
    }
}
