//! How large a packet the first hop takes: the ceiling for MTU discovery.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Largest UDP payload that the route to `peer` takes on its first hop, in bytes, as the
/// kernel knows it. Nothing is sent. Falls back to Ethernet's.
pub fn udp_payload_ceiling(peer: SocketAddr) -> u16 {
    let mtu = route_mtu(peer).unwrap_or(ETHERNET_MTU_BYTES);
    let headers = if peer.is_ipv4() {
        IPV4_UDP_HEADER_BYTES
    } else {
        IPV6_UDP_HEADER_BYTES
    };
    let payload = mtu
        .saturating_sub(headers)
        .clamp(MIN_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES);
    // Local invariant: clamped to 16 bits above.
    payload as u16
}

fn route_mtu(peer: SocketAddr) -> Option<u32> {
    let any: SocketAddr = if peer.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    // Connecting a UDP socket only looks up the route.
    socket.connect(peer).ok()?;
    let mtu = if peer.is_ipv4() {
        rustix::net::sockopt::ip_mtu(&socket)
    } else {
        rustix::net::sockopt::ipv6_mtu(&socket)
    };
    mtu.ok()
}

const ETHERNET_MTU_BYTES: u32 = 1500;
const IPV4_UDP_HEADER_BYTES: u32 = 20 + 8;
const IPV6_UDP_HEADER_BYTES: u32 = 40 + 8;

/// What every QUIC path takes (RFC 9000 § 14).
const MIN_PAYLOAD_BYTES: u32 = 1200;

/// Largest IPv4 packet less its headers.
const MAX_PAYLOAD_BYTES: u32 = 65_507;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_takes_the_largest_packets() {
        assert!(udp_payload_ceiling((Ipv4Addr::LOCALHOST, 9).into()) > 9000);
    }
}
