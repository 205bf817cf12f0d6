//! Being asked to stop: a signal, told to whoever moves bytes.

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
