//! How this program reaches services over HTTP: TLS by rustls with the system's roots.

use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

/// Why TLS cannot be set up.
pub use rustls::Error as TlsError;

/// Opens connections for `http` and `https` URLs.
pub type Connector = HttpsConnector<HttpConnector>;

/// A connector that trusts the certificates of this machine.
///
/// # Errors
/// When TLS cannot be set up.
pub fn connector() -> Result<Connector, TlsError> {
    let provider = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new;
    let builder = match builder().with_provider_and_native_roots(provider.clone()) {
        Ok(builder) => builder,
        // A node without any certificates can still reach a service by plain HTTP.
        Err(_) => builder().with_tls_config(
            rustls::ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        ),
    };
    Ok(builder.https_or_http().enable_http1().build())
}
