//! `s3://` sources. OpenDAL names the requests, signs them and parses listings; `object_store` sends them.

use std::sync::Arc;

use opendal::{Operator, raw::Servicer, services::S3};

use crate::{
    Addressing, Identity, SecretKeys, SourceConfig, SourceError, SourcePolicy,
    object_store::Signed,
    transport::{Redirects, Transport},
};

const AWS: &str = "https://s3.amazonaws.com";
const DEFAULT_REGION: &str = "us-east-1";
const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// What is wrong with the options, before any request.
pub(crate) fn check(config: &SourceConfig, bucket: &str) -> Result<(), SourceError> {
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
pub(crate) fn signed(
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
    let mut builder = S3::default()
        .bucket(bucket)
        .endpoint(endpoint.unwrap_or(AWS))
        .region(config.s3.region.as_deref().unwrap_or(DEFAULT_REGION));
    if addressing == Addressing::VirtualHost {
        builder = builder.enable_virtual_host_style();
    }
    // The machine's own rights are looked at for `Ambient` only; with static keys the chain ends at the first link.
    builder = match config.identity {
        Identity::Ambient => builder,
        Identity::Anonymous => builder.disable_config_load().disable_ec2_metadata().skip_signature(),
        Identity::Secret => {
            let (id, secret, token) = aws_keys(config, keys)?;
            builder = builder.disable_config_load().disable_ec2_metadata().access_key_id(id).secret_access_key(secret);
            match token {
                Some(token) => builder.session_token(token),
                None => builder,
            }
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

fn aws_keys<'a>(
    config: &SourceConfig,
    keys: &'a SecretKeys,
) -> Result<(&'a str, &'a str, Option<&'a str>), SourceError> {
    let name = config.name.as_deref();
    let id = keys.get(name, KEY_ID);
    let secret = keys.get_beside(name, KEY_ID, SECRET_KEY);
    match (id, secret) {
        (Some(id), Some(secret)) => Ok((id, secret, keys.get_beside(name, KEY_ID, SESSION_TOKEN))),
        _ => Err(SourceError::keys_missing(&config.uri, keys, &[(KEY_ID, id), (SECRET_KEY, secret)])),
    }
}
