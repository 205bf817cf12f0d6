//! One authenticated connection with its control stream, ready for a session.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::ErrorCode;
use crate::net::TransferError;
use crate::net::control::{self, ControlError};
use crate::session::SessionError;
use crate::wire::message::{Message, SessionId};

/// What a session runs over.
#[derive(Debug)]
pub struct Link {
    /// The connection; data streams are opened on it.
    pub connection: quinn::Connection,
    /// Our half of the control stream.
    pub control_send: quinn::SendStream,
    /// The peer's half.
    pub control_receive: quinn::RecvStream,
    /// Whose session it is: chosen by the dialer.
    pub session: SessionId,
    /// The peer's first message, where it was read already: at the listener.
    pub greeting: Option<Message>,
}

/// The control stream, read and written by tasks of their own, since neither may be
/// interrupted within a message.
#[derive(Debug)]
pub(crate) struct ControlTasks {
    pub(crate) incoming: mpsc::Receiver<Result<Message, ControlError>>,
    outgoing: Option<mpsc::Sender<Message>>,
    tasks: JoinSet<()>,
}

impl ControlTasks {
    pub(crate) fn spawn(
        mut send: quinn::SendStream,
        mut receive: quinn::RecvStream,
        greeting: Option<Message>,
    ) -> Self {
        let (incoming_tx, incoming) = mpsc::channel(CONTROL_QUEUE_MESSAGES);
        let (outgoing, mut outgoing_rx) = mpsc::channel::<Message>(CONTROL_QUEUE_MESSAGES);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Some(greeting) = greeting
                && incoming_tx.send(Ok(greeting)).await.is_err()
            {
                return;
            }
            loop {
                let result = control::read_message(&mut receive).await;
                let failed = result.is_err();
                if incoming_tx.send(result).await.is_err() || failed {
                    return;
                }
            }
        });
        tasks.spawn(async move {
            while let Some(message) = outgoing_rx.recv().await {
                // A broken stream is noticed by the reader.
                if control::write_message(&mut send, &message).await.is_err() {
                    return;
                }
            }
            let _ = send.finish();
            let _ = send.stopped().await;
        });
        Self {
            incoming,
            outgoing: Some(outgoing),
            tasks,
        }
    }

    /// Where messages go; drop it before [`drain`](Self::drain).
    pub(crate) fn outgoing(&self) -> Option<mpsc::Sender<Message>> {
        self.outgoing.clone()
    }

    /// Sends what is left and ends our half of the stream; returns when the peer has it all,
    /// or the connection is gone. The caller bounds the time.
    pub(crate) async fn drain(&mut self, messages: impl IntoIterator<Item = Message>) {
        if let Some(outgoing) = self.outgoing.take() {
            for message in messages {
                if outgoing.send(message).await.is_err() {
                    break;
                }
            }
        }
        self.incoming.close();
        while self.incoming.recv().await.is_some() {}
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Waits for room for one more message; `None` when the stream is gone. Cancel-safe.
pub(crate) async fn reserve(
    outgoing: Option<&mpsc::Sender<Message>>,
) -> Option<mpsc::Permit<'_, Message>> {
    outgoing?.reserve().await.ok()
}

/// What a message that did not come means: the peer may have closed with a reason.
pub(crate) fn lost(connection: &quinn::Connection, error: ControlError) -> TransferError {
    if let (ControlError::Stream(_), Some(reason)) = (&error, connection.close_reason()) {
        return closed(&reason);
    }
    error.into()
}

/// What the end of a connection means.
pub(crate) fn closed(reason: &quinn::ConnectionError) -> TransferError {
    match reason {
        quinn::ConnectionError::ApplicationClosed(close) => {
            match u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX) {
                0 => TransferError::Lost("closed by the other side".to_owned()),
                code => SessionError::Peer(ErrorCode::from(code)).into(),
            }
        }
        other => TransferError::Lost(other.to_string()),
    }
}

/// Messages waiting in each direction. Those of a session are few: the window bounds them.
const CONTROL_QUEUE_MESSAGES: usize = 64;
