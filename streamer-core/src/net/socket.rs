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
/// over 64 KiB in all the kernel refuses, and the batch is lost (EMSGSIZE). So the first that is
/// larger is sent in several calls, and from then on quinn is told what fits. Only a peer that has
/// proven itself gets packets so large: no stranger makes the batches of others smaller.
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
}

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let bytes = transmit.contents.len();
        let Some(packet) = transmit.segment_size.filter(|_| bytes > MAX_BATCH_BYTES) else {
            return self.inner.try_send(transmit);
        };
        let batch = batch_bytes(packet);
        self.max_segments
            .fetch_min(batch / packet.max(1), Ordering::Relaxed);
        for contents in transmit.contents.chunks(batch) {
            // When the socket is full in between, all are sent again: QUIC takes no harm.
            self.inner.try_send(&Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn,
                contents,
                segment_size: (contents.len() > packet).then_some(packet),
                src_ip: transmit.src_ip,
            })?;
        }
        Ok(())
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

/// Whole packets of this size that go in one call.
fn batch_bytes(packet: usize) -> usize {
    (MAX_BATCH_BYTES / packet.max(1)).max(1) * packet.max(1)
}

/// What a datagram of IPv4 holds.
const MAX_BATCH_BYTES: usize = 65_507;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_of_whole_packets_and_within_what_the_kernel_takes() {
        for (packet, batch) in [
            (1200, 64_800),
            (8972, 62_804),
            (65_507, 65_507),
            (70_000, 70_000),
        ] {
            assert_eq!(batch_bytes(packet), batch);
        }
        assert!(batch_bytes(0) > 0);
    }
}
