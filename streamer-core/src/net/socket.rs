//! A UDP socket that never asks the kernel for a batch it must refuse.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Wraps quinn's socket. quinn batches up to ten packets into one call whatever their size;
/// over 64 KiB in all the kernel refuses, and the batch is lost (EMSGSIZE). So the batch is
/// limited by the largest packet that a connection may come to use.
pub(crate) struct BatchedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    max_segments: AtomicUsize,
}

impl BatchedSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        Self {
            inner,
            max_segments: AtomicUsize::new(usize::MAX),
        }
    }

    /// Allows for packets of `payload_bytes`. Only ever lowers the batch: connections share
    /// the socket.
    pub(crate) fn allow_payload(&self, payload_bytes: u16) {
        let segments = (MAX_BATCH_BYTES / usize::from(payload_bytes)).max(1);
        self.max_segments.fetch_min(segments, Ordering::Relaxed);
    }
}

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner
            .max_transmit_segments()
            .min(self.max_segments.load(Ordering::Relaxed))
    }

    fn max_receive_segments(&self) -> usize {
        // quinn multiplies this by 64 KiB for each of its buffers, but a coalesced batch is
        // one datagram of at most 64 KiB.
        1
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for BatchedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchedSocket").finish_non_exhaustive()
    }
}

const MAX_BATCH_BYTES: usize = 65_507;
