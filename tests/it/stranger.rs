//! Clients without the secret: no further than the handshake, and the endpoint stays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
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

    for (own, alert, text) in [
        (None, 116, "CertificateRequired"),
        (Some(certificate()), 49, "AccessDenied"),
    ] {
        plain_tls(address, own.as_ref(), text).await;
        plain_quic(address, own.as_ref(), alert).await;
    }
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

/// A certificate and its key, which nobody knows.
type Own = (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>);

fn certificate() -> Own {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = rcgen::CertificateParams::new(vec!["streamer".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (certificate, PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// In TLS 1.3 a client learns of the refusal when it reads.
async fn plain_tls(address: SocketAddr, own: Option<&Own>, alert: &str) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config(own)));
    let name = ServerName::try_from("streamer").unwrap();
    let Ok(mut stream) = in_time(connector.connect(name, stream)).await else {
        return;
    };
    let error = in_time(stream.read(&mut [0])).await.unwrap_err();
    assert!(error.to_string().contains(alert), "{error}");
}

async fn plain_quic(address: SocketAddr, own: Option<&Own>, alert: u64) {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let tls = QuicClientConfig::try_from(config(own)).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(tls));
    let connecting = endpoint.connect_with(config, address, "streamer").unwrap();
    let error = match in_time(connecting).await {
        Ok(connection) => in_time(connection.closed()).await,
        Err(error) => error,
    };
    // The alert of TLS, as QUIC carries it.
    let quinn::ConnectionError::ConnectionClosed(close) = error else {
        panic!("not refused in the handshake: {error}");
    };
    assert_eq!(u64::from(close.error_code), 0x100 + alert, "{close}");
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, work)
        .await
        .expect("an answer in time")
}

/// A client that believes everybody, as an attacker may, and is nobody, or somebody else.
fn config(own: Option<&Own>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(BelievesEverybody));
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let (certificates, key) = (vec![certificate.clone()], key.clone_key());
            builder
                .with_client_auth_cert(certificates, key.into())
                .unwrap()
        }
    };
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
