//! Strangers and clients: everybody until they have said who they are.

use std::sync::Arc;
use std::time::Duration;

use streamer_core::net::control::read_message;
use streamer_core::net::link::Link;
use streamer_core::net::quic::Endpoint;
use streamer_core::wire::message::{Hello, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A client that holds the secret and has greeted.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) hello: Hello,
    pub(crate) link: Link,
}

/// Takes calls until dropped. Callers who do not hold the secret end here, and cost one of a
/// bounded number of handshakes for a bounded time.
#[derive(Debug)]
pub(crate) struct Callers {
    arrived: mpsc::Receiver<Caller>,
    /// Ends all handshakes when dropped.
    _tasks: JoinSet<()>,
}

impl Callers {
    pub(crate) fn spawn(endpoint: Endpoint) -> Self {
        let (arrivals, arrived) = mpsc::channel(ARRIVED_CALLERS);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(endpoint, arrivals));
        Self {
            arrived,
            _tasks: tasks,
        }
    }

    /// The next client. Cancel-safe. Pending for good once the endpoint is closed.
    pub(crate) async fn next(&mut self) -> Caller {
        match self.arrived.recv().await {
            Some(caller) => caller,
            None => std::future::pending().await,
        }
    }
}

async fn accept(endpoint: Endpoint, arrivals: mpsc::Sender<Caller>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    loop {
        // accept and join_next are cancel-safe.
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                let busy = slots.available_permits() <= HANDSHAKES / 2;
                if busy && !incoming.remote_address_validated() {
                    // Under load an address has to be proven first (RFC 9000 § 8.1.2).
                    let _ = incoming.retry();
                    continue;
                }
                let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                    incoming.refuse();
                    continue;
                };
                handshakes.spawn(greet(endpoint.clone(), incoming, arrivals.clone(), slot));
            }
            Some(_) = handshakes.join_next() => {}
        }
    }
}

async fn greet(
    endpoint: Endpoint,
    incoming: quinn::Incoming,
    arrivals: mpsc::Sender<Caller>,
    slot: OwnedSemaphorePermit,
) {
    let peer = incoming.remote_address();
    match timeout(HANDSHAKE_TIMEOUT, shake_hands(&endpoint, incoming)).await {
        Ok(Some(caller)) => {
            drop(slot);
            // The endpoint is leaving otherwise.
            let _ = arrivals.send(caller).await;
        }
        Ok(None) | Err(_) => tracing::debug!(%peer, "a caller did not get past the handshake"),
    }
}

async fn shake_hands(endpoint: &Endpoint, incoming: quinn::Incoming) -> Option<Caller> {
    let connection = endpoint.admit(incoming).ok()?.await.ok()?;
    let (control_send, mut control_receive) = connection.accept_bi().await.ok()?;
    let Ok(Message::Hello(hello)) = read_message(&mut control_receive).await else {
        return None;
    };
    let greeting = Some(Message::Hello(hello.clone()));
    let session = hello.session;
    let link = Link {
        connection,
        control_send,
        control_receive,
        session,
        greeting,
    };
    Some(Caller { hello, link })
}

/// Handshakes at a time; from half of them on, addresses are validated.
const HANDSHAKES: usize = 32;

/// From a caller's first packet to its greeting.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients waiting to be served or refused.
const ARRIVED_CALLERS: usize = 4;
