//! Answers of schedulers: lists may take seconds to read, and other requests must not wait for that.

use crate::limits;

/// What `read` makes of an answer of so many bytes. A long one has a thread; a panic goes on here.
pub(super) async fn read<V: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> V + Send + 'static,
) -> V {
    if bytes <= limits::ANSWER_READ_AT_ONCE_MAX_BYTES {
        return read();
    }
    match tokio::task::spawn_blocking(read).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    /// The output of a future, and whether it came without a thread beside that of the runtime: the
    /// only one is busy until the future had its turn.
    pub(crate) fn at_once<F: Future>(future: F) -> (F::Output, bool) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (release, busy) = std::sync::mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || busy.recv());
            let mut future = pin!(future);
            let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context)));
            match first.await {
                Poll::Ready(value) => {
                    drop(release);
                    (value, true)
                }
                Poll::Pending => {
                    drop(release);
                    (future.await, false)
                }
            }
        })
    }

    const LONG: usize = limits::ANSWER_READ_AT_ONCE_MAX_BYTES + 1;

    #[test]
    fn only_a_long_answer_has_a_thread() {
        assert_eq!(at_once(read(LONG - 1, || 7)), (7, true));
        assert_eq!(at_once(read(LONG, || 7)), (7, false));
    }

    #[tokio::test]
    #[should_panic(expected = "of the reader")]
    async fn a_panic_of_the_reader_is_not_hidden() {
        read(LONG, || panic!("of the reader")).await
    }
}
