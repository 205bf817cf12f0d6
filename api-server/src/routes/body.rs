//! What a request brings, read within bounds of size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;
use crate::limits;

/// A body, and what has come of it.
pub(super) struct Incoming {
    body: Body,
    read: BytesMut,
    deadline: Instant,
}

impl Incoming {
    /// Nothing has come yet; all of it must within [`limits::REQUEST_BODY_TIMEOUT`].
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            read: BytesMut::new(),
            deadline: Instant::now() + limits::REQUEST_BODY_TIMEOUT,
        }
    }

    /// Reads to the end, or until there are more than `max_bytes`. Whether that was the end.
    pub(super) async fn read(&mut self, max_bytes: usize) -> Result<bool, ApiError> {
        while self.read.len() <= max_bytes {
            let frame = timeout_at(self.deadline, self.body.frame()).await;
            let Some(frame) = frame.map_err(|_| too_slow())? else {
                return Ok(true);
            };
            let broken = |error| {
                let message = "The request body could not be read.";
                ApiError::bad_request(message).with_source(error)
            };
            // Trailers are of no use here.
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
        Ok(false)
    }

    /// As [`read`](Self::read), for a body that may not be larger.
    pub(super) async fn read_all(&mut self, max_bytes: usize) -> Result<(), ApiError> {
        match self.read(max_bytes).await? {
            true => Ok(()),
            false => Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "Request body is too large.",
            )),
        }
    }

    /// What has come.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.read
    }
}

/// Reads a form with a file of at most so many bytes, as long as that may take.
pub(super) async fn in_time<T>(
    max_bytes: usize,
    read: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let bytes = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let seconds = bytes / limits::UPLOAD_MIN_BYTES_PER_SECOND;
    let time = limits::REQUEST_BODY_TIMEOUT.saturating_add(Duration::from_secs(seconds));
    let read = tokio::time::timeout(time, read).await;
    read.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> ApiError {
    let message = "The request body did not arrive in time.";
    ApiError::new(StatusCode::REQUEST_TIMEOUT, message)
}
