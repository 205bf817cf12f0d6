//! How fast a session may go on that tells of each entry.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// Whoever hears what a session tells, and may not keep up. What it holds up is the session: the endpoint
/// goes on, and answers others.
pub trait Pace: Send + Sync {
    /// Whether a session is to rest until there is [`room`](Self::room).
    fn is_full(&self) -> bool;

    /// Waits until a session may tell more. Has to be cancel-safe.
    fn room(&self) -> impl Future<Output = ()> + Send;
}

/// Nobody listens, or never falls behind.
impl Pace for () {
    fn is_full(&self) -> bool {
        false
    }

    async fn room(&self) {}
}

impl<P: Pace> Pace for Arc<P> {
    fn is_full(&self) -> bool {
        P::is_full(self)
    }

    async fn room(&self) {
        P::room(self).await;
    }
}

/// Drives a session until it is over, or until it has to rest: then `None`. It gets one turn in any case, in
/// which it greets, and which tells of no more than a session has open. Cancel-safe: `session` is kept.
pub async fn drive<T>(
    mut session: Pin<&mut impl Future<Output = T>>,
    pace: &impl Pace,
) -> Option<T> {
    std::future::poll_fn(|context| match session.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if pace.is_full() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
