//! The store's own CA and certificate. The CA's key lies on the store's volume, so that a restarted operator has the same CA.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// How long certificates hold. A server certificate is made anew at each start.
const YEARS: i64 = 10;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The volume failed.
    #[error("cannot keep the store's CA: {0}")]
    Io(#[from] io::Error),
    /// A key on the volume cannot be used; without it a new CA is made.
    #[error("cannot make the store's certificate; delete its tls directory to make a new CA: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The CA on the volume cannot be read.
    #[error("cannot read the store's CA; delete its tls directory to make a new one: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// The TLS library refuses.
    #[error("cannot use the store's certificate: {0}")]
    Rustls(#[from] rustls::Error),
}

/// A server's TLS, and the CA by which clients trust it.
pub struct StoreTls {
    /// For the server.
    pub config: Arc<rustls::ServerConfig>,
    /// Certificate of the CA, PEM.
    pub ca_pem: String,
}

/// Loads or makes the CA below `dir` and makes a certificate for `hosts`.
pub fn prepare(dir: &Path, hosts: &[String]) -> Result<StoreTls, TlsError> {
    let dir = dir.join("tls");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let (key_path, ca_path) = (dir.join("ca.key"), dir.join("ca.crt"));
    if !ca_path.exists() {
        let key = KeyPair::generate()?;
        let certificate = ca_params()?.self_signed(&key)?;
        write_private(&key_path, &key.serialize_pem())?;
        // Last: with it the pair is complete.
        write_private(&ca_path, &certificate.pem())?;
    }
    let ca_pem = fs::read_to_string(&ca_path)?;
    let issuer = Issuer::new(ca_params()?, KeyPair::from_pem(&fs::read_to_string(&key_path)?)?);

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, "granary image store");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    validity(&mut params);
    let certificate = params.signed_by(&key, &issuer)?;
    let chain = vec![certificate.der().clone(), CertificateDer::from_pem_slice(ca_pem.as_bytes())?];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(StoreTls { config: Arc::new(config), ca_pem })
}

fn ca_params() -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, "granary image store CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params);
    Ok(params)
}

fn validity(params: &mut CertificateParams) {
    let day = |time: Timestamp| {
        let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let now = Timestamp::now();
    // A day back: clocks differ.
    params.not_before = day(now - SignedDuration::from_hours(24));
    params.not_after = day(now + SignedDuration::from_hours(24 * 365 * YEARS));
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use io::Write;
    let temporary = path.with_extension("new");
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
