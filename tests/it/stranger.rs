//! Clients without the secret: no further than the handshake, and the endpoint stays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use streamer_core::wire::ALPN;
use streamer_core::{Coordinates, PortRange, TransferSecret};
use streamer_tests::demo::Demo;
use streamer_tests::program::Client;
use streamer_tests::{file, job};
use tokio::io::AsyncReadExt as _;

#[tokio::test]
async fn strangers_stay_outside_and_the_client_is_served_after_them() {
    let demo = Demo::start();
    let here = file::directory();
    let source = demo.home().join("stranger-test.bin");
    let sum = file::random(&source, 1_000_000);
    let transfer = demo.transfer("download", &source);
    let (id, address) = job::endpoint(&source);

    plain_tls(address).await;
    plain_quic(address).await;
    let mut coordinates = Coordinates::parse(&transfer.coordinates).unwrap();
    coordinates.secret = TransferSecret::generate().unwrap();
    // Straight to the endpoint: the order of ports depends on the secret.
    coordinates.ports = PortRange::new(address.port(), address.port()).unwrap();
    let other = here.path().join("other.bin");
    for transport in ["quic", "tls"] {
        let options = ["--wait", "2s", "--transport", transport];
        let stranger = Client::start("receive", &coordinates.encode(), &other, &options).end();
        assert_eq!(stranger.code, Some(11), "{}", stranger.text);
        assert!(
            !stranger.text.contains("\"connected\""),
            "{}",
            stranger.text
        );
        assert!(!other.exists());
    }

    assert_eq!(job::endpoint(&source), (id, address));
    let target = here.path().join("target.bin");
    let client = Client::start("receive", &transfer.coordinates, &target, &[]).end();
    assert_eq!(client.code, Some(0), "{}", client.text);
    assert_eq!(file::sha256(&target), sum);
    assert_eq!(demo.ended(&transfer.job)["status"]["state"], "COMPLETED");
}

/// In TLS 1.3 a client without a certificate learns of the refusal when it reads.
async fn plain_tls(address: SocketAddr) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config()));
    let name = ServerName::try_from("streamer").unwrap();
    let Ok(mut stream) = in_time(connector.connect(name, stream)).await else {
        return;
    };
    let error = in_time(stream.read(&mut [0])).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
}

async fn plain_quic(address: SocketAddr) {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let tls = QuicClientConfig::try_from(config()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, address, "streamer").unwrap();
    let error = match in_time(connecting).await {
        Ok(connection) => in_time(connection.closed()).await,
        Err(error) => error,
    };
    // The alert `certificate_required` of TLS, as QUIC carries it.
    let quinn::ConnectionError::ConnectionClosed(close) = error else {
        panic!("not refused in the handshake: {error}");
    };
    assert_eq!(u64::from(close.error_code), 0x100 + 116, "{close}");
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, work)
        .await
        .expect("an answer in time")
}

/// A client that believes everybody and is nobody.
fn config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BelievesEverybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

#[derive(Debug)]
struct BelievesEverybody;

impl ServerCertVerifier for BelievesEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
