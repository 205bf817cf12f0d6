//! A connection of TLS 1.3 after its handshake: plaintext and records in both directions, with
//! no input or output of its own.

use std::io;
use std::ops::Range;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, Error, ExtractedSecrets};

use crate::net::tls_record::{
    Content, MAX_PLAIN_BYTES, MAX_RECORD_BYTES, OVERHEAD_BYTES, RecordKey, record_bytes,
};

/// What is left of a handshake: whoever can make the next keys.
pub(super) enum KeyMaker {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl KeyMaker {
    fn next_sending(&mut self) -> Result<RecordKey, Error> {
        RecordKey::new(match self {
            Self::Client(connection) => connection.update_tx_secret()?,
            Self::Server(connection) => connection.update_tx_secret()?,
        })
    }

    fn next_receiving(&mut self) -> Result<RecordKey, Error> {
        RecordKey::new(match self {
            Self::Client(connection) => connection.update_rx_secret()?,
            Self::Server(connection) => connection.update_rx_secret()?,
        })
    }

    /// Records that one key may protect: RFC 8446 § 5.5.
    fn records_of_a_key(&self) -> u64 {
        let suite = match self {
            Self::Client(connection) => connection.negotiated_cipher_suite(),
            Self::Server(connection) => connection.negotiated_cipher_suite(),
        };
        match suite.tls13() {
            Some(suite) => suite.common.confidentiality_limit,
            None => 0,
        }
    }
}

/// Both directions.
pub(super) struct Channel {
    sending: RecordKey,
    receiving: RecordKey,
    keys: KeyMaker,
    /// The key is changed after so many records.
    records_of_a_key: u64,
    /// The peer wants ours changed as well.
    owes_key: bool,
    incoming: Incoming,
    outgoing: Vec<u8>,
    /// Of `outgoing`, what the socket took.
    sent: usize,
    peer_ended: bool,
    ended: bool,
}

impl Channel {
    /// For a connection none of whose records was read beyond its handshake.
    pub(super) fn new(secrets: ExtractedSecrets, keys: KeyMaker) -> Result<Self, Error> {
        Ok(Self {
            sending: RecordKey::new(secrets.tx)?,
            receiving: RecordKey::new(secrets.rx)?,
            records_of_a_key: keys.records_of_a_key(),
            keys,
            owes_key: false,
            incoming: Incoming::new(2 * MAX_RECORD_BYTES),
            outgoing: Vec::new(),
            sent: 0,
            peer_ended: false,
            ended: false,
        })
    }

    /// Lets so many bytes of plaintext wait together.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.incoming.grow(bytes + 2 * MAX_RECORD_BYTES);
    }

    /// Plaintext that has arrived and was not consumed.
    pub(super) fn plain(&self) -> &[u8] {
        &self.incoming.buffer[self.incoming.plain.clone()]
    }

    /// Whether plaintext is here, or a part of a record, whose rest its sender has sent as well.
    pub(super) fn has_more(&self) -> bool {
        !(self.incoming.plain.is_empty() && self.incoming.cipher.is_empty())
    }

    /// Forgets the first `bytes` of [`plain`](Self::plain).
    pub(super) fn consume(&mut self, bytes: usize) {
        let plain = &mut self.incoming.plain;
        plain.start += bytes.min(plain.len());
    }

    /// Whether the peer said that nothing more will come.
    pub(super) fn peer_ended(&self) -> bool {
        self.peer_ended
    }

    /// Where to read to from the socket. Empty only when more plaintext waits than was
    /// [reserved](Self::reserve).
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.incoming.space()
    }

    /// Opens the records that `bytes` more in [`space`](Self::space) complete.
    ///
    /// # Errors
    /// `InvalidData` when the peer breaks the protocol, or ends it with an alert. The alert
    /// for the peer is in [`outgoing`](Self::outgoing) then.
    pub(super) fn arrived(&mut self, bytes: usize) -> io::Result<()> {
        self.incoming.cipher.end += bytes;
        self.open_all().map_err(|error| {
            if !matches!(error, Error::AlertReceived(_)) {
                self.say_why(&error);
            }
            invalid(error)
        })
    }

    fn open_all(&mut self) -> Result<(), Error> {
        while let Some(record) = self.incoming.next_record()? {
            let gap = record.start - self.incoming.plain.end;
            let bytes = &mut self.incoming.buffer[self.incoming.plain.end..record.end];
            let (content, length) = self.receiving.open(bytes, gap)?;
            let bytes = &bytes[..length];
            match content {
                Content::Data if self.peer_ended => {
                    return Err(Error::General("data after the end".into()));
                }
                Content::Data => self.incoming.plain.end += length,
                Content::Alert => self.peer_ended |= is_farewell(bytes)?,
                Content::Handshake => {
                    self.owes_key |= wants_key(bytes)?;
                    self.receiving = self.keys.next_receiving()?;
                }
            }
        }
        Ok(())
    }

    /// Seals `parts`, one after the other.
    ///
    /// # Errors
    /// When the cryptography refuses: never seen.
    pub(super) fn seal(&mut self, mut parts: [&[u8]; 2]) -> io::Result<()> {
        self.forget_sent();
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let records = bytes.div_ceil(MAX_PLAIN_BYTES);
        self.outgoing.reserve(bytes + records * OVERHEAD_BYTES);
        while parts.iter().any(|part| !part.is_empty()) {
            self.change_key().map_err(invalid)?;
            let mut room = MAX_PLAIN_BYTES;
            let record = parts.each_mut().map(|part| {
                let (taken, rest) = part.split_at(room.min(part.len()));
                room -= taken.len();
                *part = rest;
                taken
            });
            self.sending
                .seal(Content::Data, record, &mut self.outgoing)
                .map_err(invalid)?;
        }
        Ok(())
    }

    /// Where the last key is used up, or the peer asked for it (RFC 8446 § 4.6.3).
    fn change_key(&mut self) -> Result<(), Error> {
        if !self.owes_key && self.sending.sequence() + RESERVE < self.records_of_a_key {
            return Ok(());
        }
        self.sending
            .seal(Content::Handshake, [&KEY_UPDATE, &[]], &mut self.outgoing)?;
        self.sending = self.keys.next_sending()?;
        self.owes_key = false;
        Ok(())
    }

    /// Says that nothing more will come, once.
    ///
    /// # Errors
    /// As [`seal`](Self::seal).
    pub(super) fn end(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.ended, true) {
            self.forget_sent();
            self.alert(WARNING, AlertDescription::CloseNotify)
                .map_err(invalid)?;
        }
        Ok(())
    }

    fn say_why(&mut self, error: &Error) {
        let description = match error {
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            _ => AlertDescription::UnexpectedMessage,
        };
        // The connection is lost, whether the peer hears why or not.
        let _ = self.alert(FATAL, description);
    }

    fn alert(&mut self, level: u8, description: AlertDescription) -> Result<(), Error> {
        let alert = [level, description.into()];
        self.sending
            .seal(Content::Alert, [&alert, &[]], &mut self.outgoing)
    }

    /// Records for the socket.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing[self.sent..]
    }

    /// The socket took so many bytes of [`outgoing`](Self::outgoing).
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.outgoing.len() {
            self.forget_sent();
        }
    }

    fn forget_sent(&mut self) {
        self.outgoing.drain(..self.sent);
        self.sent = 0;
    }
}

/// Of a peer that breaks the protocol, or refuses us.
pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Whether the alert says that the peer has nothing more to say.
fn is_farewell(alert: &[u8]) -> Result<bool, Error> {
    match alert {
        [_, description] => match AlertDescription::from(*description) {
            AlertDescription::CloseNotify => Ok(true),
            other => Err(Error::AlertReceived(other)),
        },
        _ => Err(Error::General("an alert that is none".into())),
    }
}

/// Of a message after the handshake: whether our key is to be changed, as the peer's is.
fn wants_key(message: &[u8]) -> Result<bool, Error> {
    match message {
        [24, 0, 0, 1, wants @ 0..=1] => Ok(*wants == 1),
        // No tickets are asked for, nor granted.
        _ => Err(Error::General(
            "a handshake message after the handshake".into(),
        )),
    }
}

/// In one buffer: plaintext that waits, and behind it what is not opened yet.
struct Incoming {
    buffer: Vec<u8>,
    plain: Range<usize>,
    cipher: Range<usize>,
}

impl Incoming {
    fn new(bytes: usize) -> Self {
        Self {
            buffer: vec![0; bytes],
            plain: 0..0,
            cipher: 0..0,
        }
    }

    fn grow(&mut self, bytes: usize) {
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
    }

    fn space(&mut self) -> &mut [u8] {
        let waiting = self.plain.len() + self.cipher.len();
        if waiting == 0 || self.buffer.len() - self.cipher.end < MAX_RECORD_BYTES {
            let plain = self.plain.len();
            self.buffer.copy_within(self.plain.clone(), 0);
            self.buffer.copy_within(self.cipher.clone(), plain);
            self.plain = 0..plain;
            self.cipher = plain..waiting;
        }
        &mut self.buffer[self.cipher.end..]
    }

    /// Where the next complete record is, which is taken off.
    fn next_record(&mut self) -> Result<Option<Range<usize>>, Error> {
        let start = self.cipher.start;
        match record_bytes(&self.buffer[self.cipher.clone()])? {
            Some(length) if length <= self.cipher.len() => {
                self.cipher.start += length;
                Ok(Some(start..start + length))
            }
            _ => Ok(None),
        }
    }
}

/// The message of RFC 8446 § 4.6.3, which asks for nothing.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// Records of a key that are left for its end: the change itself and alerts.
const RESERVE: u64 = 8;

/// Levels of alerts.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

#[cfg(test)]
mod tests;
