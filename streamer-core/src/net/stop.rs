//! Being asked to stop: a signal, told to whoever moves bytes.

use std::pin::Pin;

use tokio::sync::watch;

use crate::error::ErrorCode;

/// Holds `None` until somebody asks to stop, then the code to tell the peer.
pub type Stop = watch::Receiver<Option<ErrorCode>>;

/// Waits until somebody asks. Cancel-safe.
pub async fn stopped(mut stop: Stop) -> ErrorCode {
    match stop.wait_for(Option::is_some).await.map(|code| *code) {
        Ok(Some(code)) => code,
        // Whoever could ask is gone: nobody will.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Somebody who may ask to stop, for a driver that waits for that more than once.
pub(crate) struct Stopper<F> {
    asks: Pin<Box<F>>,
    asked: Option<ErrorCode>,
}

impl<F: Future<Output = ErrorCode>> Stopper<F> {
    pub(crate) fn new(asks: F) -> Self {
        Self {
            asks: Box::pin(asks),
            asked: None,
        }
    }

    /// Waits until somebody asks, or has asked. Cancel-safe.
    pub(crate) async fn asked(&mut self) -> ErrorCode {
        match self.asked {
            Some(code) => code,
            None => *self.asked.insert(self.asks.as_mut().await),
        }
    }
}
