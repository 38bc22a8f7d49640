//! The machine's own identity. One test only: it sets environment variables of the process.

mod support;

use std::sync::Arc;

use granary_fetch::{Identity, NoCredentials, Source, SourceConfig, SourcePolicy};
use support::{Server, list, list_error, read_all};

/// The keys come from a metadata service, whose address sources may not use, and sign requests to a source that may be used.
#[test]
fn keys_of_the_machine_sign_requests_where_the_policy_allows_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let machine = runtime.block_on(Server::start_at([127, 0, 0, 2]));
    let none = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{}/bucket/keys", machine.address)),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("HOME", none.path().display().to_string()),
    ] {
        // SAFETY: no other thread of this process reads the environment now: the server's one waits for connections.
        unsafe { std::env::set_var(name, value) };
    }
    runtime.block_on(async {
        server.put("p/object", "0123");
        server.state().key_id = Some("MACHINE".to_owned());
        let config = SourceConfig { identity: Identity::Ambient, ..server.s3("p/") };
        let open = |policy| Source::open(&config, Arc::new(NoCredentials), Arc::new(policy));
        let networks = vec!["127.0.0.1/32".parse().unwrap()];
        assert_eq!(open(SourcePolicy::default()).unwrap_err().reason(), "SourceDenied");
        let source = open(SourcePolicy { ambient: true, allowed_networks: networks, ..Default::default() });
        assert_eq!(list_error(source.clone()).await.reason(), "CredentialsRejected");
        let keys = r#"{"AccessKeyId":"MACHINE","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#;
        machine.put("keys", keys);
        let source = source.unwrap();
        let object = list(&source).await.unwrap().remove(0);
        assert_eq!(read_all(&source, &object).await.unwrap(), b"0123");
    });
}
