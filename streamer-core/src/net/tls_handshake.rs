//! The handshake of a TCP connection: rustls says what to send and checks what comes.
//!
//! Not one byte behind the handshake is read, so that the keys it ends with are all that is
//! left of it.

use std::io;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{Error, ExtractedSecrets};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::net::tls_channel::{Channel, KeyMaker, invalid};
use crate::net::tls_record::{HEADER_BYTES, MAX_RECORD_BYTES};

/// One of rustls's two kinds of connection.
pub(super) trait Party {
    type Data;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn into_keys(self) -> Result<(ExtractedSecrets, KeyMaker), Error>;
}

impl Party for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, KeyMaker), Error> {
        let (secrets, keys) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, KeyMaker::Client(keys)))
    }
}

impl Party for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn into_keys(self) -> Result<(ExtractedSecrets, KeyMaker), Error> {
        let (secrets, keys) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, KeyMaker::Server(keys)))
    }
}

/// Shakes hands. Not cancel-safe; the caller bounds the time.
///
/// # Errors
/// `InvalidData` when the peer is a stranger or breaks the protocol; else as the connection
/// fails.
pub(super) async fn shake_hands(
    mut party: impl Party,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Channel> {
    let mut incoming = Vec::with_capacity(MAX_RECORD_BYTES);
    let mut outgoing = Vec::new();
    loop {
        let UnbufferedStatus { discard, state, .. } = party.process(&mut incoming);
        let next = match state {
            Ok(state) => Next::of(state, &mut outgoing),
            Err(error) => Err(error),
        };
        incoming.drain(..discard);
        match next {
            Ok(Next::Again) => {}
            Ok(Next::Send) => {
                stream.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Ok(Next::Read) => read_record(stream, &mut incoming).await?,
            Ok(Next::Done) => {
                let keys = party.into_keys().map_err(invalid)?;
                return Channel::new(keys.0, keys.1).map_err(invalid);
            }
            Err(error) => {
                say_why(&mut party, &mut incoming, &mut outgoing);
                // It is refused, whether it hears so or not.
                let _ = stream.write_all(&outgoing).await;
                return Err(invalid(error));
            }
        }
    }
}

/// What a handshake waits for.
enum Next {
    Again,
    Send,
    Read,
    Done,
}

impl Next {
    fn of<Data>(
        state: ConnectionState<'_, '_, Data>,
        outgoing: &mut Vec<u8>,
    ) -> Result<Self, Error> {
        match state {
            ConnectionState::EncodeTlsData(message) => {
                encode(message, outgoing)?;
                Ok(Self::Again)
            }
            ConnectionState::TransmitTlsData(sent) => {
                sent.done();
                Ok(Self::Send)
            }
            ConnectionState::BlockedHandshake => Ok(Self::Read),
            ConnectionState::WriteTraffic(_) => Ok(Self::Done),
            _ => Err(Error::General("the peer ended the handshake".into())),
        }
    }
}

fn encode<Data>(mut message: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let encoded = match message.encode(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => {
            outgoing.resize(start + needed.required_size, 0);
            message.encode(&mut outgoing[start..])
        }
        encoded => encoded,
    };
    match encoded {
        Ok(bytes) => {
            outgoing.truncate(start + bytes);
            Ok(())
        }
        Err(error) => Err(Error::General(error.to_string())),
    }
}

/// The alert with which rustls ends a handshake that failed.
fn say_why(party: &mut impl Party, incoming: &mut Vec<u8>, outgoing: &mut Vec<u8>) {
    loop {
        let UnbufferedStatus { discard, state, .. } = party.process(incoming);
        let Ok(ConnectionState::EncodeTlsData(alert)) = state else {
            return;
        };
        if encode(alert, outgoing).is_err() {
            return;
        }
        incoming.drain(..discard);
    }
}

/// Adds one whole record.
async fn read_record(
    stream: &mut (impl AsyncRead + Unpin),
    incoming: &mut Vec<u8>,
) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await?;
    let [.., high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    // A few records at most are one message: what we present is small.
    if incoming.len() + length > MAX_RECORD_BYTES {
        return Err(invalid(Error::PeerSentOversizedRecord));
    }
    incoming.extend_from_slice(&header);
    let start = incoming.len();
    incoming.resize(start + length, 0);
    stream.read_exact(&mut incoming[start..]).await?;
    Ok(())
}
