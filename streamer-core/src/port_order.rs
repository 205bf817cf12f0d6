//! The order in which both sides try the ports of a range.
//!
//! Seeded from the secret, so that the client's first try nearly always hits, whatever the
//! size of the range, and so that no two transfers crowd on the same first port.

use ring::hmac;

use crate::coordinates::PortRange;
use crate::secret::{Purpose, TransferSecret};

/// All ports of `range`, in the order that follows from `secret`.
///
/// A Fisher–Yates shuffle over an HMAC-SHA-256 counter stream: part of the protocol, never
/// to change within a version (`docs/PROTOCOL.md#ports`).
pub fn port_order(secret: &TransferSecret, range: PortRange) -> Vec<u16> {
    let mut stream = Stream::new(secret);
    let mut ports: Vec<u16> = (range.first()..=range.last()).collect();
    for i in 0..ports.len() - 1 {
        let j = i + stream.below(ports.len() - i);
        ports.swap(i, j);
    }
    ports
}

struct Stream {
    key: hmac::Key,
    counter: u64,
    words: Vec<u32>,
}

impl Stream {
    fn new(secret: &TransferSecret) -> Self {
        let seed = *secret.derive::<32>(Purpose::PortOrder);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed),
            counter: 0,
            words: Vec::new(),
        }
    }

    fn word(&mut self) -> u32 {
        if self.words.is_empty() {
            let tag = hmac::sign(&self.key, &self.counter.to_be_bytes());
            self.counter += 1;
            let words = tag.as_ref().chunks_exact(4);
            self.words.extend(
                words
                    .rev()
                    .map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]])),
            );
        }
        self.words.pop().unwrap_or_default()
    }

    /// A number in `0..bound`. The bias of at most 2^-16 does not matter here.
    fn below(&mut self, bound: usize) -> usize {
        let scaled = (u64::from(self.word()) * bound as u64) >> 32;
        scaled as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_order_is_pinned() {
        let secret = TransferSecret::parse("wCQX1nYqHW3wxJ8vX0dQzA").unwrap();
        let order = port_order(&secret, PortRange::new(5665, 5675).unwrap());
        insta::assert_debug_snapshot!(order.iter().map(|p| p - 5665).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn it_is_a_permutation(first in 1u16.., extra in 0u16..2000, text in "[a-zA-Z0-9]{22}") {
            let range = PortRange::new(first, first.saturating_add(extra)).unwrap();
            let secret = TransferSecret::parse(&text).unwrap();
            let mut order = port_order(&secret, range);
            prop_assert_eq!(&order, &port_order(&secret, range));
            order.sort_unstable();
            prop_assert_eq!(order, (range.first()..=range.last()).collect::<Vec<_>>());
        }
    }
}
