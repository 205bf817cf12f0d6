//! What a link may do to frames and records beside delaying and cutting: repeat and damage.

use std::collections::BTreeMap;

/// What happens to a frame or record on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tamper {
    /// It arrives twice.
    Repeat,
    /// One bit of it is flipped: of the byte at this place, counted round.
    Flip(usize, u8),
    /// It ends here, counted round: so does what follows on a stream.
    CutShort(usize),
}

/// Which of all frames and records, counted from the start of a run, are tampered with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tampering(pub(super) BTreeMap<usize, Tamper>);

impl Tampering {
    /// What arrives instead of `bytes`, the `number`th to be sent.
    pub(super) fn apply(&self, number: usize, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
        match self.0.get(&number) {
            None => {}
            Some(Tamper::Repeat) => return vec![bytes.clone(), bytes],
            Some(Tamper::Flip(at, bit)) => {
                let at = at % bytes.len();
                bytes[at] ^= 1 << (bit % 8);
            }
            Some(Tamper::CutShort(length)) => {
                let length = length % bytes.len();
                bytes.truncate(length);
            }
        }
        vec![bytes]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
