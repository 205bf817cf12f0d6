//! Messages over a byte stream.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::ProtocolError;
use crate::wire::codec::{self, PREFIX_BYTES};
use crate::wire::message::Message;

/// Reads one message. Not cancel-safe: give it a task of its own.
///
/// # Errors
/// When the stream ends or fails, or the message is malformed or too large.
pub async fn read_message<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Message, ControlError> {
    let mut prefix = [0; PREFIX_BYTES];
    if stream.read(&mut prefix[..1]).await? == 0 {
        return Err(ControlError::Ended);
    }
    stream.read_exact(&mut prefix[1..]).await?;
    let mut body = vec![0; codec::body_bytes(prefix)?];
    stream.read_exact(&mut body).await?;
    Ok(codec::decode_body(&body)?)
}

/// Writes one message. Not cancel-safe.
///
/// # Errors
/// When the stream fails.
pub async fn write_message<W: AsyncWrite + Unpin>(
    stream: &mut W,
    message: &Message,
) -> Result<(), ControlError> {
    stream.write_all(&codec::encode(message)?).await?;
    Ok(stream.flush().await?)
}

/// The control stream failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The other side ended the stream, after a whole message.
    #[error("the control stream ended")]
    Ended,
    /// The stream.
    #[error("the control stream failed")]
    Stream(#[from] io::Error),
    /// What came over it.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}
