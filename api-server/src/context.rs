//! What belongs to one request and is needed far from its handler: its ids, which services
//! behind us are told, and the last thing that was asked of one, which the tracing log shows.

use std::sync::{Arc, Mutex, PoisonError};

/// One request. Follows it through [`scope`] and [`inherit`].
#[derive(Debug)]
pub struct RequestContext {
    /// `X-Request-ID`, as sent or made.
    pub request_id: String,
    /// `X-Correlation-ID`, as sent or made.
    pub correlation_id: String,
    last_call: Mutex<Option<BackendCall>>,
}

/// Something asked of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendCall {
    /// A command line.
    Command {
        /// The line as logs may show it, cut to [`limits::LOGGED_COMMAND_MAX_BYTES`](crate::limits).
        command: String,
        /// Its exit status; absent when it did not come to its end.
        exit_status: Option<i32>,
    },
    /// An HTTP request.
    Http {
        /// Where to.
        url: String,
        /// Status of the answer; absent when there was none.
        status: Option<u16>,
    },
}

tokio::task_local! {
    static CURRENT: Arc<RequestContext>;
}

impl RequestContext {
    /// A request of which nothing has been asked yet.
    pub fn new(request_id: String, correlation_id: String) -> Self {
        Self {
            request_id,
            correlation_id,
            last_call: Mutex::new(None),
        }
    }

    /// The last thing asked of a system.
    pub fn last_call(&self) -> Option<BackendCall> {
        self.slot().clone()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<BackendCall>> {
        // One assignment under the lock: there is no broken state.
        self.last_call
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The request that this task works for; none in background tasks.
pub fn current() -> Option<Arc<RequestContext>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Runs `work` for a request.
pub async fn scope<T>(context: Arc<RequestContext>, work: impl Future<Output = T>) -> T {
    CURRENT.scope(context, work).await
}

/// `work`, for a task of its own, still for the request of this task.
pub fn inherit<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let context = current();
    async move {
        match context {
            Some(context) => CURRENT.scope(context, work).await,
            None => work.await,
        }
    }
}

/// Remembers what was asked of a system last.
pub fn record(call: BackendCall) {
    if let Some(context) = current() {
        *context.slot() = Some(call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_call_of_a_request_is_seen_from_its_tasks_only() {
        let context = Arc::new(RequestContext::new("r".into(), "c".into()));
        fn call(status: Option<u16>) -> BackendCall {
            let url = "http://x".into();
            BackendCall::Http { url, status }
        }
        scope(Arc::clone(&context), async {
            record(call(None));
            let other = inherit(async { record(call(Some(200))) });
            tokio::spawn(other).await.unwrap();
            let stranger = async { record(call(Some(500))) };
            tokio::spawn(stranger).await.unwrap();
        })
        .await;
        assert_eq!(context.last_call(), Some(call(Some(200))));
        assert!(current().is_none());
    }
}
