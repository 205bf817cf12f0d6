//! TLS 1.3 in which both sides prove that they hold the secret.
//!
//! Each side signs with an Ed25519 key derived from the secret and accepts exactly one public
//! key from its peer: nothing else in the certificates matters (`docs/PROTOCOL.md#identity`).

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};

use crate::identity::{Side, pkcs8_key};
use crate::secret::TransferSecret;
use crate::wire::ALPN;

/// The name in both certificates and in the client's request. It identifies nobody.
pub const SERVER_NAME: &str = "streamer";

/// Configuration of the side that accepts.
///
/// # Errors
/// When the cryptography refuses keys that it made itself: never seen.
pub fn server_config(secret: &TransferSecret) -> Result<ServerConfig, IdentityError> {
    let own = Identity::new(secret, Side::Listener)?;
    let verifier = Arc::new(PinnedKey::new(secret, Side::Dialer)?);
    let key = PrivatePkcs8KeyDer::from(own.key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.certificate], key.into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // One connection, one transfer: nothing to resume, no early data.
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Configuration of the side that dials.
///
/// # Errors
/// As [`server_config`].
pub fn client_config(secret: &TransferSecret) -> Result<ClientConfig, IdentityError> {
    let own = Identity::new(secret, Side::Dialer)?;
    let verifier = Arc::new(PinnedKey::new(secret, Side::Listener)?);
    let key = PrivatePkcs8KeyDer::from(own.key.serialize_der());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![own.certificate], key.into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Keys or certificates could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The certificate library refused.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("cannot configure TLS")]
    Tls(#[from] Error),
}

struct Identity {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Identity {
    fn new(secret: &TransferSecret, side: Side) -> Result<Self, IdentityError> {
        let key = key_pair(secret, side)?;
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key, certificate })
    }
}

fn key_pair(secret: &TransferSecret, side: Side) -> Result<KeyPair, rcgen::Error> {
    let pkcs8 = pkcs8_key(secret, side);
    KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(pkcs8.as_slice()),
        &rcgen::PKCS_ED25519,
    )
}

/// Accepts one public key, whatever certificate it comes in.
#[derive(Debug)]
struct PinnedKey {
    expected: SubjectPublicKeyInfoDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl PinnedKey {
    fn new(secret: &TransferSecret, peer: Side) -> Result<Self, IdentityError> {
        let expected = key_pair(secret, peer)?.subject_public_key_info().into();
        Ok(Self {
            expected,
            provider: provider(),
        })
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let theirs = webpki::EndEntityCert::try_from(certificate)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if theirs.subject_public_key_info() != self.expected {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }
}

fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(
        rustls::PeerIncompatible::Tls12NotOffered,
    ))
}

impl ServerCertVerifier for PinnedKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for PinnedKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// ring, with AES-128-GCM first: the fastest on processors with AES instructions, which all
/// HPC nodes have. QUIC needs it for its first packets in any case.
fn provider() -> Arc<CryptoProvider> {
    use ring::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{ClientConnection, ServerConnection};

    /// Runs a handshake in memory; the error is that of the side that refused.
    fn handshake(server: ServerConfig, client: ClientConfig) -> Result<(), Error> {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        for _ in 0..4 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_eq!(server.alpn_protocol(), Some(ALPN));
        Ok(())
    }

    fn secrets() -> (TransferSecret, TransferSecret) {
        (
            TransferSecret::generate().unwrap(),
            TransferSecret::generate().unwrap(),
        )
    }

    #[test]
    fn holders_of_the_same_secret_meet() {
        let (secret, _) = secrets();
        let server = server_config(&secret).unwrap();
        handshake(server, client_config(&secret).unwrap()).unwrap();
    }

    #[test]
    fn a_client_refuses_a_stranger_who_listens() {
        let (secret, other) = secrets();
        let server = server_config(&other).unwrap();
        let error = handshake(server, client_config(&secret).unwrap()).unwrap_err();
        let expected = CertificateError::ApplicationVerificationFailure;
        assert_eq!(error, Error::InvalidCertificate(expected));
    }

    /// A client that trusts the holder of `secret`, with the given certificate of its own.
    fn client_with(secret: &TransferSecret, own: Option<Identity>) -> ClientConfig {
        let verifier = Arc::new(PinnedKey::new(secret, Side::Listener).unwrap());
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(Identity { key, certificate }) => {
                let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config
    }

    #[test]
    fn an_endpoint_refuses_a_stranger_who_dials() {
        let (secret, other) = secrets();
        let stranger = Identity::new(&other, Side::Dialer).unwrap();
        let server = server_config(&secret).unwrap();
        assert!(handshake(server, client_with(&secret, Some(stranger))).is_err());
    }

    #[test]
    fn a_client_without_a_certificate_is_refused() {
        let (secret, _) = secrets();
        assert!(handshake(server_config(&secret).unwrap(), client_with(&secret, None)).is_err());
    }

    #[test]
    fn an_endpoint_cannot_pass_for_its_client() {
        let (secret, _) = secrets();
        let listener = Identity::new(&secret, Side::Listener).unwrap();
        let server = server_config(&secret).unwrap();
        assert!(handshake(server, client_with(&secret, Some(listener))).is_err());
    }
}
