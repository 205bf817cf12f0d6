//! Buffers that are used again once the network has let go of them.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Hands out buffers of one size. Fresh memory costs a page fault for each 4 KiB: more than
/// hashing them.
#[derive(Debug)]
pub(crate) struct BufferPool {
    lent: VecDeque<Bytes>,
    buffer_bytes: usize,
}

impl BufferPool {
    pub(crate) fn new(buffer_bytes: usize) -> Self {
        Self {
            lent: VecDeque::new(),
            buffer_bytes,
        }
    }

    /// A buffer of the pool's size, with whatever was in it.
    pub(crate) fn take(&mut self) -> BytesMut {
        // Lent in order, acknowledged nearly in order: the first is the one to come back.
        match self.lent.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(buffer)) => buffer,
            Some(Err(still_lent)) => {
                self.lent.push_front(still_lent);
                BytesMut::zeroed(self.buffer_bytes)
            }
            None => BytesMut::zeroed(self.buffer_bytes),
        }
    }

    /// The first `length` bytes of a buffer, to be given away; it comes back by itself.
    pub(crate) fn share(&mut self, buffer: BytesMut, length: usize) -> Bytes {
        let whole = buffer.freeze();
        let shared = whole.slice(..length);
        self.lent.push_back(whole);
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_holds_it() {
        let mut pool = BufferPool::new(10);
        let buffer = pool.take();
        let address = buffer.as_ptr();
        let shared = pool.share(buffer, 3);
        assert_eq!(shared.len(), 3);
        assert_ne!(pool.take().as_ptr(), address);
        drop(shared);
        let again = pool.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 10));
    }
}
