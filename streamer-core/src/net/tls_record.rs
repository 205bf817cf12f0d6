//! Protection of single records of TLS 1.3 (RFC 8446 § 5.2), with keys that rustls agreed on.
//!
//! Programs that leave this to the kernel take the keys in the same way. Here it saves copies:
//! rustls hands out every record in an allocation of its own, and these are opened where they
//! lie, one behind the other, ready to be hashed and written.

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce,
    UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, Error};

/// What a record holds (RFC 8446 § 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Alert,
    Handshake,
    Data,
}

impl Content {
    const fn number(self) -> u8 {
        match self {
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
        }
    }

    fn of(number: u8) -> Result<Self, Error> {
        [Self::Alert, Self::Handshake, Self::Data]
            .into_iter()
            .find(|content| content.number() == number)
            .ok_or_else(|| Error::General(format!("a record of the unknown type {number}")))
    }
}

/// Protects the records of one direction. A sequence number is used once.
pub(super) struct RecordKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl RecordKey {
    /// From what rustls extracts: the number of the next record, and the secrets.
    pub(super) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("an unknown cipher was agreed on".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Error::EncryptError)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::EncryptError)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// Number of the next record.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// RFC 8446 § 5.3.
    fn nonce(&mut self) -> Result<Nonce, Error> {
        let mut nonce = self.iv;
        let number = self.sequence.to_be_bytes();
        for (byte, other) in nonce.iter_mut().rev().zip(number.iter().rev()) {
            *byte ^= other;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Appends `parts`, one after the other and [`MAX_PLAIN_BYTES`] together at most, to `out`
    /// as one record.
    pub(super) fn seal(
        &mut self,
        content: Content,
        parts: [&[u8]; 2],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let tag_bytes = self.key.algorithm().tag_len();
        let plain: usize = parts.iter().map(|part| part.len()).sum();
        let length = u16::try_from(plain + CONTENT_BYTES + tag_bytes)
            .ok()
            .filter(|_| plain <= MAX_PLAIN_BYTES)
            .ok_or(Error::EncryptError)?;
        let header = header(length);
        out.extend_from_slice(&header);
        let start = out.len();
        for part in parts {
            out.extend_from_slice(part);
        }
        out.push(content.number());
        let nonce = self.nonce()?;
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[start..])
            .map_err(|_| Error::EncryptError)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens the record that fills `bytes` from `gap` on. What it holds is at the beginning of
    /// `bytes` then; its length is returned.
    pub(super) fn open(&mut self, bytes: &mut [u8], gap: usize) -> Result<(Content, usize), Error> {
        let header = bytes.get(gap..).and_then(<[u8]>::first_chunk);
        let header: [u8; HEADER_BYTES] = *header.ok_or(Error::DecryptError)?;
        let nonce = self.nonce()?;
        let plain = self
            .key
            .open_within(nonce, Aad::from(header), bytes, gap + HEADER_BYTES..)
            .map_err(|_| Error::DecryptError)?;
        // Zeros behind the type are padding.
        let end = plain.iter().rposition(|byte| *byte != 0);
        let end = end.ok_or_else(|| Error::General("a record without a type".into()))?;
        if end > MAX_PLAIN_BYTES {
            return Err(Error::PeerSentOversizedRecord);
        }
        Ok((Content::of(plain[end])?, end))
    }
}

/// Bytes of the record that begins `bytes`, with its header; `None` when more is needed to
/// tell.
pub(super) fn record_bytes(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some([kind, _, _, high, low]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if *kind != Content::Data.number() {
        return Err(Error::General(format!(
            "a record of type {kind} in the clear"
        )));
    }
    match length {
        ..=MAX_PROTECTED_BYTES => Ok(Some(HEADER_BYTES + length)),
        _ => Err(Error::PeerSentOversizedRecord),
    }
}

/// As every protected record begins: application data, by the version number of TLS 1.2.
fn header(length: u16) -> [u8; HEADER_BYTES] {
    let [high, low] = length.to_be_bytes();
    [Content::Data.number(), 3, 3, high, low]
}

/// Type, version, length.
pub(super) const HEADER_BYTES: usize = 5;

/// The type of what is in a protected record, behind it.
const CONTENT_BYTES: usize = 1;

/// Largest content of a record.
pub(super) const MAX_PLAIN_BYTES: usize = 1 << 14;

/// Largest protected content that a peer may send.
const MAX_PROTECTED_BYTES: usize = MAX_PLAIN_BYTES + 256;

/// Largest record.
pub(super) const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_PROTECTED_BYTES;

/// What a record adds to its content.
pub(super) const OVERHEAD_BYTES: usize = HEADER_BYTES + CONTENT_BYTES + MAX_TAG_LEN;
