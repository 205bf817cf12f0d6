//! Cuts the manifest into messages.

use crate::limits;
use crate::wire::message::{Entry, EntryKind, Offer};

/// Cuts entries into offers that fit in a message each, however long their paths are.
pub(super) fn offers_of(mut first: u32, entries: Vec<Entry>, last: bool) -> Vec<Offer> {
    let mut offers = Vec::with_capacity(1);
    let mut batch = Vec::new();
    let mut bytes = OFFER_OVERHEAD_BYTES;
    for entry in entries {
        let entry_bytes = encoded_bytes(&entry);
        if bytes + entry_bytes > limits::MESSAGE_MAX_BYTES {
            let count = batch.len() as u32;
            let entries = std::mem::take(&mut batch);
            offers.push(Offer {
                first,
                entries,
                last: false,
            });
            first += count;
            bytes = OFFER_OVERHEAD_BYTES;
        }
        bytes += entry_bytes;
        batch.push(entry);
    }
    offers.push(Offer {
        first,
        entries: batch,
        last,
    });
    offers
}

/// At most this long: the longest form of every number in it, and its two byte strings.
fn encoded_bytes(entry: &Entry) -> usize {
    let target = match &entry.kind {
        EntryKind::Symlink { target } => target.len(),
        EntryKind::File { .. } | EntryKind::Directory | EntryKind::Unsent { .. } => 0,
    };
    ENTRY_OVERHEAD_BYTES + entry.path.as_bytes().len() + target
}

/// Tag, first number, count and flag of an offer, at their longest, rounded up.
const OFFER_OVERHEAD_BYTES: usize = 32;

/// Lengths, kind, size, mode and time of an entry, at their longest, rounded up.
const ENTRY_OVERHEAD_BYTES: usize = 64;
