//! What a session says and hears over its control stream.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::error::ProtocolError;
use crate::limits;
use crate::net::TransferError;
use crate::net::control::{ControlError, read_message, write_message};
use crate::net::outbox::Outbox;
use crate::wire::message::Message;

/// The control stream, read and written by tasks of their own, since neither may be interrupted within
/// a message; and until when something has to come for which it waits.
#[derive(Debug)]
pub(crate) struct Conversation {
    incoming: mpsc::Receiver<Result<Message, ControlError>>,
    outgoing: Option<mpsc::Sender<Message>>,
    outbox: Outbox,
    reader: JoinSet<()>,
    writer: JoinSet<()>,
    greeting_due: Instant,
    /// While there is no data connection.
    lane_due: Option<Instant>,
    /// Nothing can be said any more; what the peer has said may tell why.
    silent_from: Option<Instant>,
}

impl Conversation {
    /// Begins it. `greeting` is what was heard already; the first data connection has to come until
    /// `lane_due`.
    pub(crate) fn begin(
        say: Box<dyn AsyncWrite + Send + Unpin>,
        hear: Box<dyn AsyncRead + Send + Unpin>,
        greeting: Option<Message>,
        lane_due: Option<Instant>,
    ) -> Self {
        let (incoming_tx, incoming) = mpsc::channel(QUEUE_MESSAGES);
        let (outgoing, outgoing_rx) = mpsc::channel(QUEUE_MESSAGES);
        let (mut reader, mut writer) = (JoinSet::new(), JoinSet::new());
        reader.spawn(read_all(hear, incoming_tx, greeting));
        writer.spawn(write_all(say, outgoing_rx));
        Self {
            incoming,
            outgoing: Some(outgoing),
            outbox: Outbox::default(),
            reader,
            writer,
            greeting_due: Instant::now() + limits::GREETING_PATIENCE,
            lane_due,
            silent_from: None,
        }
    }

    /// Puts a message where [`next`](Self::next) takes what it sends.
    ///
    /// # Errors
    /// When more would wait than the windows of a session allow.
    pub(crate) fn say(&mut self, message: Message) -> Result<(), ProtocolError> {
        self.outbox.push(message)
    }

    /// There is a data connection.
    pub(crate) fn on_lane(&mut self) {
        self.lane_due = None;
    }

    /// The last data connection is gone. Another one may be on its way, or the reason.
    pub(crate) fn on_no_lane(&mut self) {
        self.lane_due = Some(Instant::now() + ANOTHER_LANE);
    }

    /// Sends what there is to say until something is heard. Cancel-safe.
    ///
    /// # Errors
    /// When the stream has ended or takes nothing more, or what has to come has not: a greeting, unless the
    /// peer `is_greeted`, or a data connection.
    pub(crate) async fn next(
        &mut self,
        is_greeted: bool,
    ) -> Result<Result<Message, ControlError>, TransferError> {
        let lost = |reason: &str| Err(TransferError::Lost(reason.to_owned()));
        loop {
            let says = self.silent_from.is_none() && !self.outbox.is_empty();
            // Each arm is cancel-safe.
            tokio::select! {
                permit = reserve(self.outgoing.as_ref()), if says => {
                    match (permit, self.outbox.pop()) {
                        (Some(permit), Some(message)) => permit.send(message),
                        _ => self.silent_from = Some(Instant::now() + REASON),
                    }
                }
                message = self.incoming.recv() => {
                    return message.map_or_else(|| lost("the control stream ended"), Ok);
                }
                () = until(self.silent_from) => return lost("nothing can be sent any more"),
                () = until(self.lane_due) => return lost("there is no data connection"),
                () = sleep_until(self.greeting_due), if !is_greeted => {
                    return lost("the other side does not greet");
                }
            }
        }
    }

    /// What is heard once nothing is to be said any more; `None` when all was. Cancel-safe.
    pub(crate) async fn rest(&mut self) -> Option<Result<Message, ControlError>> {
        self.incoming.recv().await
    }

    /// Sends what is left and ends our half of the stream; returns when the peer has ended
    /// its half, or the connection is gone: whether it ended it in good order and did not give up.
    /// The caller bounds the time.
    pub(crate) async fn finish(&mut self) -> bool {
        if let Some(outgoing) = self.outgoing.take() {
            for message in self.outbox.take() {
                if outgoing.send(message).await.is_err() {
                    break;
                }
            }
        }
        let (mut ended_well, mut gave_up) = (false, false);
        while let Some(message) = self.incoming.recv().await {
            ended_well = matches!(message, Err(ControlError::Ended));
            gave_up |= matches!(message, Ok(Message::Abort(_)));
        }
        self.reader.join_next().await;
        self.writer.join_next().await;
        ended_well && !gave_up
    }

    /// Ends our half of the stream in good order. The caller bounds the time.
    pub(crate) async fn end(&mut self) {
        self.outgoing = None;
        self.writer.join_next().await;
    }
}

async fn read_all(
    mut stream: Box<dyn AsyncRead + Send + Unpin>,
    incoming: mpsc::Sender<Result<Message, ControlError>>,
    greeting: Option<Message>,
) {
    if let Some(greeting) = greeting
        && incoming.send(Ok(greeting)).await.is_err()
    {
        return;
    }
    loop {
        let result = read_message(&mut stream).await;
        let failed = result.is_err();
        if incoming.send(result).await.is_err() || failed {
            return;
        }
    }
}

async fn write_all(
    mut stream: Box<dyn AsyncWrite + Send + Unpin>,
    mut outgoing: mpsc::Receiver<Message>,
) {
    while let Some(message) = outgoing.recv().await {
        // A broken stream is noticed by the reader.
        if write_message(&mut stream, &message).await.is_err() {
            return;
        }
    }
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
}

/// Waits for room for one more message; `None` when the stream is gone. Cancel-safe.
async fn reserve(outgoing: Option<&mpsc::Sender<Message>>) -> Option<mpsc::Permit<'_, Message>> {
    outgoing?.reserve().await.ok()
}

/// For ever where nothing is due. Cancel-safe.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Messages waiting in each direction. Those of a session are few: the window bounds them.
const QUEUE_MESSAGES: usize = 64;

/// Longest wait for another data connection when none is left, or for the reason.
const ANOTHER_LANE: Duration = Duration::from_secs(10);

/// Longest wait for the reason why nothing can be said.
const REASON: Duration = Duration::from_secs(5);
