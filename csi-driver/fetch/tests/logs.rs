//! What is logged while credentials are used. One test only: a process has one logger.

mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use granary_faults::Fault;
use granary_fetch::{SharedCredentials, Source, SourceConfig};
use support::{Server, keys, list, loopback, read_all, with_secret};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_credential_is_logged_at_any_level_by_any_library() {
    let log = Log::default();
    tracing_subscriber::fmt().with_max_level(Level::TRACE).with_writer(log.clone()).init();
    let server = Server::start().await;
    server.put("p/object", "0123");
    let credentials = Arc::new(SharedCredentials::new(keys(&[
        ("AWS_ACCESS_KEY_ID", "AKIAHUNTER"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2-secret"),
        ("AWS_SESSION_TOKEN", "hunter2-session"),
        ("username", "hunter2-user"),
        ("password", "hunter2-password"),
    ])));
    let mut texts = String::new();
    for config in [server.s3("p/"), server.http("bucket/p/object")] {
        let config: SourceConfig = with_secret(config);
        let source = Source::open(&config, credentials.clone(), loopback()).unwrap();
        let object = list(&source).await.unwrap().remove(0);
        assert_eq!(read_all(&source, &object).await.unwrap(), b"0123");
        server.fail([Fault::Status(403)]);
        let error = read_all(&source, &object).await.unwrap_err();
        texts += &format!("{source:?} {error} {error:?} {credentials:?}");
    }
    texts += &String::from_utf8_lossy(&log.0.lock().unwrap());
    assert!(texts.contains("credential provider"), "the logs of the libraries are seen");
    for secret in ["AKIAHUNTER", "hunter2", "aHVudGVyMi11c2VyOmh1bnRlcjItcGFzc3dvcmQ="] {
        let line = texts.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}
