//! `s3://` sources. OpenDAL names the requests, signs them and parses listings; `object_store` sends them.

use std::{fmt, sync::Arc};

use futures::{StreamExt as _, stream, stream::BoxStream};
use opendal::{Operator, raw::Servicer, services::S3};
use reqsign_aws_v4::Credential;
use reqsign_core::{Context, ProvideCredential, ProvideCredentialChain};

use crate::{
    Addressing, ByteStream, Credentials, Identity, Listed, SecretKeys, SourceConfig, SourceError, SourcePolicy,
    credentials::PerKeys,
    object_store::Signed,
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
    signed: PerKeys<Signed>,
}

impl S3Source {
    pub(crate) fn open(
        config: &SourceConfig,
        bucket: String,
        place: Place,
        credentials: Arc<dyn Credentials>,
        policy: Arc<SourcePolicy>,
    ) -> Result<Self, SourceError> {
        check(config, &bucket)?;
        Ok(Self { config: config.clone(), bucket, place, credentials, policy, signed: PerKeys::new() })
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
    fn signed(&self) -> Result<Signed, SourceError> {
        let make = |keys: &SecretKeys| signed(&self.config, &self.bucket, keys, &self.policy);
        self.signed.get(self.credentials.current(), make)
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

/// The service as these keys may use it.
fn signed(
    config: &SourceConfig,
    bucket: &str,
    keys: &SecretKeys,
    policy: &Arc<SourcePolicy>,
) -> Result<Signed, SourceError> {
    let uri = config.uri.as_str();
    let endpoint = config.s3.endpoint.as_deref();
    let addressing = config.s3.addressing.unwrap_or(match endpoint {
        None if !bucket.contains('.') => Addressing::VirtualHost,
        _ => Addressing::Path,
    });
    let builder = S3::default()
        .bucket(bucket)
        .endpoint(endpoint.unwrap_or(AWS))
        .region(config.s3.region.as_deref().unwrap_or(DEFAULT_REGION));
    let builder = match addressing {
        Addressing::VirtualHost => builder.enable_virtual_host_style(),
        Addressing::Path => builder,
    };
    // The machine's own rights are looked at for `Ambient` only.
    let builder = match config.identity {
        Identity::Ambient => builder,
        Identity::Anonymous => builder.disable_config_load().disable_ec2_metadata().skip_signature(),
        Identity::Secret => {
            let keys = StaticKeys(aws_keys(config, keys)?);
            builder
                .disable_config_load()
                .disable_ec2_metadata()
                .credential_provider_chain(ProvideCredentialChain::new().push(keys))
        }
    };
    // Only the kind: the text of an error could repeat a setting.
    let service: Servicer = Operator::new(builder)
        .map_err(|error| SourceError::invalid(uri, format!("the options of s3 make no sense ({})", error.kind())))?
        .base_service()
        .clone();
    let name = config.name.as_deref();
    let transport = Transport::new(uri, keys, name, policy.clone(), Redirects::Refuse)?;
    // Credentials of the machine come from a metadata service, at an address that sources themselves may not use.
    let machine = match config.identity {
        Identity::Ambient => {
            Some(Transport::new(uri, keys, name, Arc::new(SourcePolicy::unrestricted()), Redirects::Refuse)?)
        }
        Identity::Secret | Identity::Anonymous => None,
    };
    Ok(Signed { service, transport, machine })
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
