//! Whom connections trust.

use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::SourceError;

/// Trusts the system's authorities, and those of `own` in PEM. The provider is the one that the program has chosen.
pub(crate) fn config(uri: &str, own: Option<&str>) -> Result<Arc<ClientConfig>, SourceError> {
    let mut roots = system_roots().clone();
    if let Some(pem) = own {
        let error = || SourceError::invalid(uri, "'ca.crt' of the Secret holds no PEM certificates");
        let own: Vec<_> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| error())?;
        if own.is_empty() {
            return Err(error());
        }
        for authority in own {
            roots.add(authority).map_err(|_| error())?;
        }
    }
    let none = |detail: &str| SourceError::invalid(uri, format!("no HTTP client can be made ({detail})"));
    let provider = CryptoProvider::get_default().cloned().ok_or_else(|| none("no TLS provider is installed"))?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        builder.map_err(|error| none(&error.to_string()))?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The authorities of the system, or those that Mozilla trusts where it has none, as in an image without any file.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "an authority of the system cannot be used");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        roots
    })
}
