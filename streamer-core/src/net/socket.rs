//! A UDP socket that never asks the kernel for a batch it must refuse.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// Wraps quinn's socket. quinn batches up to ten packets into one call whatever their size;
/// over 64 KiB in all the kernel refuses, and the batch is lost (EMSGSIZE). So larger ones are
/// sent in several calls.
pub(crate) struct BatchedSocket(Arc<dyn AsyncUdpSocket>);

impl BatchedSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        Self(inner)
    }
}

impl AsyncUdpSocket for BatchedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.0).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let bytes = transmit.contents.len();
        let Some(packet) = transmit.segment_size.filter(|_| bytes > MAX_BATCH_BYTES) else {
            return self.0.try_send(transmit);
        };
        for contents in transmit.contents.chunks(batch_bytes(packet)) {
            // When the socket is full in between, all are sent again: QUIC takes no harm.
            self.0.try_send(&Transmit {
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
        self.0.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.0.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        // quinn multiplies this by 64 KiB for each of its buffers, but a coalesced batch is
        // one datagram of at most 64 KiB.
        1
    }

    fn may_fragment(&self) -> bool {
        self.0.may_fragment()
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
