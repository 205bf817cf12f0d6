//! Against rustls's own record layer, in memory.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::net::tls::{SERVER_NAME, client_config, server_config};
use crate::net::tls_handshake::{Party, shake_hands};
use crate::secret::TransferSecret;

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let secret = TransferSecret::generate().unwrap();
    let mut server = server_config(&secret).unwrap();
    server.enable_secret_extraction = true;
    let mut client = client_config(&secret).unwrap();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
}

fn name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).unwrap()
}

/// Shakes hands with rustls at the other end of a pipe.
async fn shake_hands_with(
    party: impl Party,
    mut peer: rustls::Connection,
) -> (io::Result<Channel>, rustls::Connection) {
    let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
    let other = async move {
        talk(&mut peer, &mut theirs).await;
        peer
    };
    let own = async move { shake_hands(party, &mut ours).await };
    tokio::join!(own, other)
}

/// Until the other side hangs up, or rustls refuses.
async fn talk(peer: &mut rustls::Connection, stream: &mut DuplexStream) {
    loop {
        let mut wire = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut wire).unwrap();
        }
        stream.write_all(&wire).await.unwrap();
        let mut more = vec![0; 1 << 14];
        let read = stream.read(&mut more).await.unwrap();
        let mut more = &more[..read];
        while !more.is_empty() {
            peer.read_tls(&mut more).unwrap();
            if peer.process_new_packets().is_err() {
                return;
            }
        }
        if read == 0 {
            return;
        }
    }
}

/// Both ways round.
async fn pairs() -> [(Channel, rustls::Connection); 2] {
    let (server, client) = configs();
    let own = UnbufferedClientConnection::new(Arc::clone(&client), name()).unwrap();
    let peer = ServerConnection::new(Arc::clone(&server)).unwrap();
    let (dialer, listening) = shake_hands_with(own, peer.into()).await;
    let own = UnbufferedServerConnection::new(server).unwrap();
    let peer = ClientConnection::new(client, name()).unwrap();
    let (listener, dialling) = shake_hands_with(own, peer.into()).await;
    [(dialer.unwrap(), listening), (listener.unwrap(), dialling)]
}

/// What rustls reads from all that waits to be sent.
fn heard(channel: &mut Channel, peer: &mut rustls::Connection) -> Result<Vec<u8>, Error> {
    let mut wire = channel.outgoing();
    let mut plain = Vec::new();
    while !wire.is_empty() {
        peer.read_tls(&mut wire).unwrap();
        let state = peer.process_new_packets()?;
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        io::Read::read_exact(&mut peer.reader(), &mut part).unwrap();
        plain.extend_from_slice(&part);
    }
    channel.sent(channel.outgoing().len());
    Ok(plain)
}

/// What we read from all that rustls wants to send, which comes in pieces of so many bytes.
fn hear(channel: &mut Channel, peer: &mut rustls::Connection, step: usize) -> io::Result<Vec<u8>> {
    let mut wire = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut wire).unwrap();
    }
    hear_bytes(channel, &wire, step)
}

fn hear_bytes(channel: &mut Channel, mut wire: &[u8], step: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    while !wire.is_empty() {
        let space = channel.space();
        let count = space.len().min(step).min(wire.len());
        assert_ne!(count, 0, "no room");
        space[..count].copy_from_slice(&wire[..count]);
        wire = &wire[count..];
        channel.arrived(count)?;
        plain.extend_from_slice(channel.plain());
        channel.consume(usize::MAX);
    }
    Ok(plain)
}

fn say(peer: &mut rustls::Connection, bytes: &[u8]) {
    peer.set_buffer_limit(None);
    io::Write::write_all(&mut peer.writer(), bytes).unwrap();
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[tokio::test]
async fn rustls_reads_what_is_sealed_and_is_read() {
    for (mut channel, mut peer) in pairs().await {
        for length in [0, 1, MAX_PLAIN_BYTES, MAX_PLAIN_BYTES + 1, 300_000] {
            let sent = bytes(length);
            let (front, back) = sent.split_at(length / 3);
            channel.seal([front, back]).unwrap();
            assert_eq!(heard(&mut channel, &mut peer).unwrap(), sent);
            for step in [1 << 20, 16_401, 77] {
                say(&mut peer, &sent);
                assert_eq!(hear(&mut channel, &mut peer, step).unwrap(), sent);
            }
        }
    }
}

#[tokio::test]
async fn plaintext_that_was_reserved_waits_together() {
    let [(mut channel, mut peer), _] = pairs().await;
    channel.reserve(200_000);
    let sent = bytes(200_000);
    say(&mut peer, &sent);
    let mut wire = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut wire).unwrap();
    }
    let mut wire = wire.as_slice();
    // The last byte stays where it is, while the buffer goes round.
    for _ in 0..3 {
        while channel.plain().len() < 65_000 && !wire.is_empty() {
            let space = channel.space();
            let count = space.len().min(30_000).min(wire.len());
            space[..count].copy_from_slice(&wire[..count]);
            wire = &wire[count..];
            channel.arrived(count).unwrap();
        }
        assert!(
            sent.windows(65_000)
                .any(|part| part == &channel.plain()[..65_000])
        );
        channel.consume(65_000);
    }
}

#[tokio::test]
async fn keys_change_when_the_peer_says_so_and_when_it_asks() {
    for (mut channel, mut peer) in pairs().await {
        for round in 0..3 {
            peer.refresh_traffic_keys().unwrap();
            say(&mut peer, b"after it");
            assert_eq!(hear(&mut channel, &mut peer, 1000).unwrap(), b"after it");
            assert!(channel.owes_key, "round {round}");
            channel.seal([b"ours ", b"too"]).unwrap();
            assert!(!channel.owes_key);
            assert_eq!(heard(&mut channel, &mut peer).unwrap(), b"ours too");
        }
    }
}

#[tokio::test]
async fn a_key_that_is_used_up_is_changed() {
    for (mut channel, mut peer) in pairs().await {
        channel.records_of_a_key = RESERVE + 5;
        for round in 0..40_u8 {
            channel.seal([&[round], &[]]).unwrap();
            assert!(channel.sending.sequence() <= 5);
            assert_eq!(heard(&mut channel, &mut peer).unwrap(), [round]);
        }
    }
}

#[tokio::test]
async fn the_limit_of_a_key_is_that_of_its_cipher() {
    let [(channel, _), _] = pairs().await;
    assert_eq!(channel.records_of_a_key, 1 << 24);
}

#[tokio::test]
async fn a_record_that_was_touched_is_refused_and_the_peer_is_told() {
    for (mut channel, mut peer) in pairs().await {
        say(&mut peer, b"whole");
        let mut wire = Vec::new();
        peer.write_tls(&mut wire).unwrap();
        let last = wire.len() - 1;
        wire[last] ^= 1;
        let error = hear_bytes(&mut channel, &wire, 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(channel.plain(), b"");
        let told = heard(&mut channel, &mut peer).unwrap_err();
        assert_eq!(told, Error::AlertReceived(AlertDescription::BadRecordMac));
    }
}

#[tokio::test]
async fn a_record_that_comes_twice_or_too_early_is_refused() {
    for skipped in [0, 1] {
        let [(mut channel, mut peer), _] = pairs().await;
        let record = |peer: &mut rustls::Connection| {
            let mut wire = Vec::new();
            say(peer, b"once");
            peer.write_tls(&mut wire).unwrap();
            wire
        };
        let records = [record(&mut peer), record(&mut peer)];
        if skipped == 0 {
            hear_bytes(&mut channel, &records[0], 1000).unwrap();
        }
        assert!(hear_bytes(&mut channel, &records[skipped], 1000).is_err());
    }
}

#[tokio::test]
async fn what_is_no_record_is_refused() {
    for wire in [
        // Too large, in the clear, and a change of ciphers after the handshake.
        [23, 3, 3, 0x41, 0x01],
        [22, 3, 3, 0, 4],
        [20, 3, 3, 0, 1],
    ] {
        let [(mut channel, mut peer), _] = pairs().await;
        let error = hear_bytes(&mut channel, &wire, 1000).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let told = heard(&mut channel, &mut peer).unwrap_err();
        assert!(matches!(told, Error::AlertReceived(_)), "{told}");
    }
    // One that is too short for its own tag.
    let [(mut channel, _), _] = pairs().await;
    assert!(hear_bytes(&mut channel, &[23, 3, 3, 0, 2, 0, 0], 1000).is_err());
}

#[tokio::test]
async fn an_end_is_told_once_and_other_alerts_are_errors() {
    for (mut channel, mut peer) in pairs().await {
        channel.end().unwrap();
        channel.end().unwrap();
        assert_eq!(heard(&mut channel, &mut peer).unwrap(), b"");
        let mut byte = [0];
        // rustls says so with a clean end.
        assert_eq!(io::Read::read(&mut peer.reader(), &mut byte).unwrap(), 0);
        say(&mut peer, b"last");
        peer.send_close_notify();
        assert_eq!(hear(&mut channel, &mut peer, 3).unwrap(), b"last");
        assert!(channel.peer_ended());
    }
    let error = is_farewell(&[2, AlertDescription::AccessDenied.into()]).unwrap_err();
    assert_eq!(error, Error::AlertReceived(AlertDescription::AccessDenied));
    assert!(is_farewell(&[1]).is_err() && wants_key(&[4, 0, 0, 0]).is_err());
}

#[tokio::test]
async fn a_stranger_who_listens_is_refused_and_told() {
    let ((server, _), (_, client)) = (configs(), configs());
    let own = UnbufferedClientConnection::new(Arc::clone(&client), name()).unwrap();
    let peer = ServerConnection::new(Arc::clone(&server)).unwrap();
    let (refused, mut peer) = shake_hands_with(own, peer.into()).await;
    let error = refused.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let told = peer.process_new_packets().unwrap_err();
    assert!(matches!(told, Error::AlertReceived(_)), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever looks like records and was not sealed by the peer is refused, or its rest is
    /// waited for; nothing of it is taken for plaintext.
    #[test]
    fn records_that_the_peer_did_not_seal_are_never_read(
        records in vec((any::<u8>(), any::<u16>(), vec(any::<u8>(), 0..3000)), 1..6),
        is_typed in any::<bool>(),
        step in 1..20_000_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (mut channel, mut peer) in runtime.block_on(pairs()) {
            let sent = bytes(100);
            say(&mut peer, &sent);
            prop_assert_eq!(hear(&mut channel, &mut peer, step).unwrap(), sent);
            let mut wire = Vec::new();
            for (kind, length, body) in &records {
                // Of the four types that there are, with the length that is there.
                let length = if is_typed { body.len() as u16 } else { *length };
                let kind = if is_typed { 20 + kind % 4 } else { *kind };
                wire.extend([kind, 3, 3]);
                wire.extend(length.to_be_bytes());
                wire.extend(body);
            }
            if let Ok(plain) = hear_bytes(&mut channel, &wire, step) {
                prop_assert!(plain.is_empty());
            }
        }
    }
}
