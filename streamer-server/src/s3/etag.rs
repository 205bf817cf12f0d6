//! Entity tags as S3 makes them: the MD5 of a part; of an object in parts, the MD5 of those
//! MD5s and their number. Stores that encrypt make others, which prove nothing.

use md5::{Digest as _, Md5};

/// The MD5 of a part.
pub(super) type PartHash = [u8; 16];

/// A tag as a store gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) text: String,
    /// It is made of checksums: the store did not encrypt under a key of its own.
    pub(super) proves: bool,
}

impl Tag {
    /// As [`part_agrees`]; `None` also where the tag only looks like a hash.
    pub(super) fn part_agrees(&self, hash: &PartHash) -> Option<bool> {
        self.proves.then(|| part_agrees(&self.text, hash))?
    }

    /// `None` when it proves nothing.
    pub(super) fn stored(&self) -> Option<Stored> {
        let tag = self.text.trim_matches('"');
        let (hash, stored) = match tag.split_once('-') {
            Some((hash, number)) => (hash, Stored::InParts(number.parse().ok()?)),
            None => (tag, Stored::AtOnce),
        };
        (self.proves && is_hash(hash)).then_some(stored)
    }

    /// As [`object_agrees`]; `None` also where the tag only looks like a hash.
    pub(super) fn object_agrees<'a>(
        &self,
        hashes: impl ExactSizeIterator<Item = &'a PartHash>,
    ) -> Option<bool> {
        self.proves.then(|| object_agrees(&self.text, hashes))?
    }
}

/// Whether the tag of a part is its hash. `None` when it is no hash.
pub(super) fn part_agrees(tag: &str, hash: &PartHash) -> Option<bool> {
    let tag = tag.trim_matches('"');
    is_hash(tag).then(|| tag.eq_ignore_ascii_case(&hex(hash)))
}

fn is_hash(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// How an object was stored of which the tag is made of hashes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    AtOnce,
    /// So many, of which the tag does not tell the sizes.
    InParts(u64),
}

/// Whether the tag of an object is that of these parts. `None` when it is of another form or
/// number of parts, and proves nothing.
pub(super) fn object_agrees<'a>(
    tag: &str,
    hashes: impl ExactSizeIterator<Item = &'a PartHash>,
) -> Option<bool> {
    let tag = tag.trim_matches('"');
    let Some((hash, number)) = tag.split_once('-') else {
        // An object that was stored at once has the tag of a part.
        let mut hashes = hashes;
        return match (hashes.next(), hashes.next()) {
            (Some(only), None) => part_agrees(tag, only),
            _ => None,
        };
    };
    let count = hashes.len();
    if !is_hash(hash) || number.parse() != Ok(count) {
        return None;
    }
    let mut all = Md5::new();
    hashes.for_each(|hash| all.update(hash));
    let all: PartHash = all.finalize().into();
    Some(hash.eq_ignore_ascii_case(&hex(&all)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`hex`] for a part's hash.
pub(super) fn unhex(text: &str) -> Option<PartHash> {
    let mut hash = PartHash::default();
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in hash.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_those_that_stores_make() {
        let empty: PartHash = Md5::digest(b"").into();
        assert_eq!(hex(&empty), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(unhex(&hex(&empty)), Some(empty));
        assert_eq!(unhex("d4"), None);
        let tag = "\"d41d8cd98f00b204e9800998ecf8427e\"";
        assert_eq!(part_agrees(tag, &empty), Some(true));
        assert_eq!(part_agrees(tag, &[0; 16]), Some(false));
        assert_eq!(part_agrees("\"opaque\"", &empty), None);
        // As computed by a store for one empty part.
        let tag = "\"59adb24ef3cdbe0297f05b395827453f-1\"";
        assert_eq!(object_agrees(tag, [empty].iter()), Some(true));
        assert_eq!(object_agrees(tag, [[1; 16]].iter()), Some(false));
        assert_eq!(object_agrees(tag, [empty, empty].iter()), None);
        let whole = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(object_agrees(whole, [empty].iter()), Some(true));
        assert_eq!(object_agrees(whole, [empty, empty].iter()), None);
        let stored = |tag: &str, proves| {
            let text = tag.to_owned();
            Tag { text, proves }.stored()
        };
        assert_eq!(stored(whole, true), Some(Stored::AtOnce));
        assert_eq!(stored(whole, false), None);
        let parts = format!("\"{whole}-7\"");
        assert_eq!(stored(&parts, true), Some(Stored::InParts(7)));
        assert_eq!(stored("\"opaque-7\"", true), None);
    }
}
