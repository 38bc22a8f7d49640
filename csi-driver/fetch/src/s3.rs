//! `s3://` sources. OpenDAL names the service, makes listings and finds the machine's credentials; `direct` makes reads.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use futures::{StreamExt as _, stream, stream::BoxStream};
use opendal::{Operator, raw::Servicer, services::S3};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider};
use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain};

use crate::{
    Addressing, ByteStream, Credentials, Identity, Listed, SecretKeys, SourceConfig, SourceError, SourcePolicy,
    credentials::PerKeys,
    direct::{Direct, Remembering, Signer},
    object_store::Signed,
    sigv4::Signature,
    slowdowns::Slowdowns,
    transport::{Redirects, Transport},
    uri::{Place, has_dot_segments},
    verify::Wanted,
};

const AWS: &str = "https://s3.amazonaws.com";
const DEFAULT_REGION: &str = "us-east-1";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// A bucket, below a prefix, or one object of it.
pub(crate) struct S3Source {
    config: SourceConfig,
    bucket: String,
    place: Place,
    credentials: Arc<dyn Credentials>,
    policy: Arc<SourcePolicy>,
    slowdowns: Slowdowns,
    signed: PerKeys<Arc<Signed>>,
}

impl S3Source {
    pub(crate) fn open(
        config: &SourceConfig,
        bucket: String,
        place: Place,
        credentials: Arc<dyn Credentials>,
        policy: Arc<SourcePolicy>,
        slowdowns: Slowdowns,
    ) -> Result<Self, SourceError> {
        check(config, &bucket)?;
        Ok(Self { config: config.clone(), bucket, place, credentials, policy, slowdowns, signed: PerKeys::new() })
    }

    pub(crate) fn list(&self) -> BoxStream<'_, Result<Listed, SourceError>> {
        let pin_by = self.config.s3.pin_by;
        match (self.signed(), &self.place) {
            (Err(error), _) => stream::iter([Err(error)]).boxed(),
            (Ok(signed), Place::Prefix(prefix)) => signed.list(prefix.clone(), pin_by).boxed(),
            (Ok(signed), Place::Object(key)) => stream::once(signed.stat(key, pin_by)).boxed(),
        }
    }

    pub(crate) async fn read(&self, wanted: Wanted) -> Result<ByteStream, SourceError> {
        let path = match &self.place {
            Place::Prefix(prefix) => format!("{prefix}{}", wanted.key),
            Place::Object(object) => object.clone(),
        };
        // On its way a URL with such parts is shortened, and then means another object.
        if path.starts_with('/') || has_dot_segments(&path) {
            let message = format!("the key '{}' cannot be read", path.escape_debug());
            return Err(SourceError::invalid(&self.config.uri, message));
        }
        self.signed()?.read(&path, wanted).await
    }

    /// The service with the keys as they are now.
    fn signed(&self) -> Result<Arc<Signed>, SourceError> {
        let make = |keys: &SecretKeys| self.make(keys).map(Arc::new);
        self.signed.get(self.credentials.current(), make)
    }

    /// The service as these keys may use it.
    fn make(&self, keys: &SecretKeys) -> Result<Signed, SourceError> {
        let (config, bucket) = (&self.config, self.bucket.as_str());
        let uri = config.uri.as_str();
        let endpoint = config.s3.endpoint.as_deref();
        let addressing = config.s3.addressing.unwrap_or(match endpoint {
            None if !bucket.contains('.') => Addressing::VirtualHost,
            _ => Addressing::Path,
        });
        let region = config.s3.region.as_deref().unwrap_or(DEFAULT_REGION);
        let place = || {
            let builder = S3::default().bucket(bucket).endpoint(endpoint.unwrap_or(AWS)).region(region);
            match addressing {
                Addressing::VirtualHost => builder.enable_virtual_host_style(),
                Addressing::Path => builder,
            }
        };
        let unsigned = || place().disable_config_load().disable_ec2_metadata().skip_signature();
        // The machine's own rights are looked at for `Ambient` only.
        let (builder, signer) = match config.identity {
            Identity::Ambient => {
                let found = Arc::default();
                let provider = DefaultCredentialProvider::new();
                let provider = Remembering { provider, region: region.to_owned(), found: Arc::clone(&found) };
                (place().credential_provider_chain(ProvideCredentialChain::new().push(provider)), Signer::Keys(found))
            }
            Identity::Anonymous => (unsigned(), Signer::Nobody),
            Identity::Secret => {
                let keys = aws_keys(config, keys)?;
                let found = ArcSwapOption::from_pointee(Signature::new(region, keys.clone()));
                let chain = ProvideCredentialChain::new().push(StaticKeys(keys));
                let builder = place().disable_config_load().disable_ec2_metadata().credential_provider_chain(chain);
                (builder, Signer::Keys(Arc::new(found)))
            }
        };
        // Only the kind: the text of an error could repeat a setting.
        let service = |builder| {
            let operator = Operator::new(builder).map_err(|error| {
                SourceError::invalid(uri, format!("the options of s3 make no sense ({})", error.kind()))
            });
            Ok::<Servicer, SourceError>(operator?.base_service().clone())
        };
        let name = config.name.as_deref();
        let transport = |policy| Transport::new(uri, keys, name, policy, Redirects::Refuse, self.slowdowns.clone());
        // Credentials of the machine come from a metadata service, at an address that sources themselves may not use.
        let machine = match config.identity {
            Identity::Ambient => Some(transport(Arc::new(SourcePolicy::unrestricted()))?),
            Identity::Secret | Identity::Anonymous => None,
        };
        let transport = transport(self.policy.clone())?;
        // Directory buckets want a session, not only a signature.
        let direct = if bucket.ends_with("--x-s3") {
            None
        } else {
            let unsigned =
                Signed { service: service(unsigned())?, direct: None, transport: transport.clone(), machine: None };
            unsigned.url_of_bucket().map(|base| Direct::new(base, signer))
        };
        Ok(Signed { service: service(builder)?, direct, transport, machine })
    }
}

/// What is wrong with the options, before any request.
fn check(config: &SourceConfig, bucket: &str) -> Result<(), SourceError> {
    let error = |message: &str| Err(SourceError::invalid(&config.uri, message));
    if let Some(endpoint) = &config.s3.endpoint {
        let host = endpoint
            .strip_prefix("https://")
            .or_else(|| endpoint.strip_prefix("http://"))
            .map(|host| host.strip_suffix('/').unwrap_or(host));
        if host.is_none_or(|host| host.is_empty() || host.contains(['/', '@', '?', '#', '\\'])) {
            return error(
                "s3.endpoint must be 'https://<host>[:<port>]' or 'http://<host>[:<port>]', without path or credentials",
            );
        }
    }
    // No certificate is valid for it.
    if config.s3.addressing == Some(Addressing::VirtualHost) && bucket.contains('.') {
        return error("a bucket with '.' in its name needs s3.addressing: Path");
    }
    Ok(())
}

fn aws_keys(config: &SourceConfig, keys: &SecretKeys) -> Result<Credential, SourceError> {
    let name = config.name.as_deref();
    let id = keys.get(name, KEY_ID);
    let secret = keys.get_beside(name, KEY_ID, SECRET_KEY);
    match (id, secret) {
        (Some(id), Some(secret)) => Ok(Credential {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: keys.get_beside(name, KEY_ID, SESSION_TOKEN).map(str::to_owned),
            expires_in: None,
        }),
        _ => Err(SourceError::keys_missing(&config.uri, keys, &[(KEY_ID, id), (SECRET_KEY, secret)])),
    }
}

/// The keys of a Secret, for the signer. The signer logs its providers, and the library's own one shows its keys there.
struct StaticKeys(Credential);

impl fmt::Debug for StaticKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticKeys")
    }
}

impl ProvideCredential for StaticKeys {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Credential>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use granary_image::{Pin, PinKind};

    use super::*;
    use crate::{NoCredentials, S3Options, SharedCredentials};

    fn source(endpoint: Option<&str>, bucket: &str, addressing: Option<Addressing>, secret: bool) -> S3Source {
        let keys = [(KEY_ID, "AKID"), (SECRET_KEY, "secret"), (SESSION_TOKEN, "token")];
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let config = SourceConfig {
            uri: format!("s3://{bucket}/"),
            identity: if secret { Identity::Secret } else { Identity::Anonymous },
            s3: S3Options {
                endpoint: endpoint.map(str::to_owned),
                region: Some("eu-west-1".to_owned()),
                addressing,
                ..S3Options::default()
            },
            ..SourceConfig::default()
        };
        let credentials: Arc<dyn Credentials> =
            if secret { Arc::new(SharedCredentials::new(keys)) } else { Arc::new(NoCredentials) };
        let policy = Arc::new(SourcePolicy::default());
        S3Source::open(
            &config,
            bucket.to_owned(),
            Place::Prefix(String::new()),
            credentials,
            policy,
            Slowdowns::default(),
        )
        .unwrap()
    }

    /// Both make the same request, but for how a key's characters are written in the URL.
    #[tokio::test]
    async fn a_read_is_what_opendal_would_send() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let pin = |kind, value: &str| Pin { kind, value: value.to_owned() };
        for (endpoint, bucket, addressing, secret) in [
            (None, "vision", None, true),
            (None, "vi.sion", None, true),
            (Some("https://S3.example.com:443/"), "vision", None, true),
            (Some("http://store:9000"), "vision", None, false),
            (Some("https://store.example.com"), "vision", Some(Addressing::VirtualHost), true),
        ] {
            let signed = source(endpoint, bucket, addressing, secret).signed().unwrap();
            let direct = signed.direct.as_ref().unwrap();
            for (key, pin) in [
                ("a/b c+d/é~(1)!.jpg", pin(PinKind::ETag, "\"e\"")),
                ("k", pin(PinKind::VersionId, "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo")),
                ("k", pin(PinKind::SizeOnly, "")),
            ] {
                let wanted = Wanted { key: key.to_owned(), pin, size: 100, range: 10..20 };
                // Signatures tell the second: ours is made between two of theirs that are the same.
                let (ours, theirs) = loop {
                    let before = signed.request(key, &wanted).await.unwrap();
                    let ours = direct.request("s3://", key, &wanted).unwrap().unwrap();
                    let after = signed.request(key, &wanted).await.unwrap();
                    if before.headers() == after.headers() {
                        break (ours, after);
                    }
                };
                assert_eq!(ours.headers(), theirs.headers(), "{endpoint:?} {key}");
                assert_eq!(ours.uri().authority(), theirs.uri().authority());
                let decoded = |uri: &http::Uri| {
                    percent_encoding::percent_decode_str(&uri.to_string()).decode_utf8().unwrap().into_owned()
                };
                assert_eq!(decoded(ours.uri()), decoded(theirs.uri()));
            }
        }
    }

    #[test]
    fn directory_buckets_need_more_than_a_signature() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let source = source(None, "vision--euw1-az1--x-s3", Some(Addressing::VirtualHost), true);
        assert!(source.signed().unwrap().direct.is_none());
    }
}
