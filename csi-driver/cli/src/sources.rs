//! From flags and environment to sources and their keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use granary_fetch::{
    Addressing, Identity, S3Options, SecretKeys, SharedCredentials, Source, SourceConfig, SourceError, SourcePolicy,
};

use crate::args::{AddressingArg, SourceArgs};

/// Variables whose values are keys. The first two are needed, the third is for temporary ones.
const KEYS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// The keys that the environment holds; none if they are incomplete.
pub fn secret(variable: impl Fn(&str) -> Option<String>) -> SecretKeys {
    let keys: Vec<_> = KEYS.iter().filter_map(|key| Some(((*key).to_owned(), variable(key)?))).collect();
    let has = |name: &str| keys.iter().any(|(key, value)| key == name && !value.is_empty());
    if has(KEYS[0]) && has(KEYS[1]) { keys.into_iter().collect() } else { SecretKeys::default() }
}

/// The variable's value.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What the URIs mean under these flags.
pub fn configs(
    uris: &[String],
    args: &SourceArgs,
    secret: &SecretKeys,
    variable: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<SourceConfig>> {
    let region = args.region.clone().or_else(|| variable("AWS_DEFAULT_REGION"));
    let s3 = S3Options {
        endpoint: args.endpoint.clone().filter(|endpoint| !endpoint.is_empty()),
        region: region.filter(|region| !region.is_empty()),
        addressing: args.addressing.map(|addressing| match addressing {
            AddressingArg::Path => Addressing::Path,
            AddressingArg::VirtualHost => Addressing::VirtualHost,
        }),
        ..S3Options::default()
    };
    let mut names = BTreeSet::new();
    uris.iter()
        .map(|uri| {
            let is_s3 = uri.starts_with("s3://");
            let identity = match (is_s3, args.no_sign_request, secret.is_empty()) {
                (false, ..) | (true, true, _) => Identity::Anonymous,
                (true, false, false) => Identity::Secret,
                (true, false, true) => Identity::Ambient,
            };
            let path = (uris.len() > 1).then(|| last_part(uri).to_owned());
            if let Some(path) = &path
                && !names.insert(path.clone())
            {
                anyhow::bail!("two of the URIs end with '{path}', which would be one directory: mount them separately");
            }
            Ok(SourceConfig {
                uri: uri.clone(),
                path,
                include: args.include.clone(),
                exclude: args.exclude.clone(),
                identity,
                s3: if is_s3 { s3.clone() } else { S3Options::default() },
                ..SourceConfig::default()
            })
        })
        .collect()
}

/// The name of a URI's directory among others.
fn last_part(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest).trim_end_matches('/');
    rest.rsplit('/').next().unwrap_or(rest)
}

/// Opens all sources with the user's own rights.
pub fn open(configs: &[SourceConfig], secret: &SecretKeys) -> Result<Vec<(SourceConfig, Arc<Source>)>, SourceError> {
    let credentials = Arc::new(SharedCredentials::new(secret.clone()));
    let policy = Arc::new(SourcePolicy::unrestricted());
    let open = |config: &SourceConfig| Ok((config.clone(), Source::open(config, credentials.clone(), policy.clone())?));
    configs.iter().map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> SourceArgs {
        SourceArgs {
            endpoint: None,
            region: None,
            no_sign_request: false,
            addressing: None,
            include: vec![],
            exclude: vec![],
        }
    }

    fn keys() -> SecretKeys {
        secret(|name| (name != "AWS_SESSION_TOKEN").then(|| "value".to_owned()))
    }

    fn one(uri: &str, args: &SourceArgs, secret: &SecretKeys) -> SourceConfig {
        configs(&[uri.to_owned()], args, secret, |_| None).unwrap().remove(0)
    }

    #[test]
    fn keys_come_in_pairs() {
        assert_eq!(keys().names().collect::<Vec<_>>(), ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]);
        assert!(secret(|name| (name == "AWS_ACCESS_KEY_ID").then(|| "value".to_owned())).is_empty());
        assert!(secret(|_| Some(String::new())).is_empty());
    }

    #[test]
    fn rights_follow_from_flags_and_keys() {
        assert_eq!(one("s3://b/", &args(), &keys()).identity, Identity::Secret);
        assert_eq!(one("s3://b/", &args(), &SecretKeys::default()).identity, Identity::Ambient);
        let anonymous = SourceArgs { no_sign_request: true, ..args() };
        assert_eq!(one("s3://b/", &anonymous, &keys()).identity, Identity::Anonymous);
        assert_eq!(one("file:///d/", &args(), &keys()).identity, Identity::Anonymous);
        assert_eq!(one("https://h/f", &args(), &keys()).identity, Identity::Anonymous);
    }

    #[test]
    fn the_default_region_stands_in() {
        let variable = |name: &str| (name == "AWS_DEFAULT_REGION").then(|| "there".to_owned());
        let region =
            |args: &SourceArgs| configs(&["s3://b/".to_owned()], args, &keys(), variable).unwrap().remove(0).s3.region;
        assert_eq!(region(&args()).as_deref(), Some("there"));
        assert_eq!(region(&SourceArgs { region: Some("here".into()), ..args() }).as_deref(), Some("here"));
    }

    #[test]
    fn several_sources_are_directories() {
        let uris = ["s3://b/x/train/".to_owned(), "s3://labels".to_owned()];
        let found = configs(&uris, &args(), &keys(), |_| None).unwrap();
        assert_eq!(found.iter().map(|c| c.path.as_deref()).collect::<Vec<_>>(), [Some("train"), Some("labels")]);
        assert_eq!(one("s3://b/x/", &args(), &keys()).path, None);
        let uris = ["s3://a/x/".to_owned(), "s3://b/x".to_owned()];
        assert!(configs(&uris, &args(), &keys(), |_| None).unwrap_err().to_string().contains("'x'"));
    }
}
