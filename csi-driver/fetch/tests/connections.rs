//! How connections are used.

mod support;

use std::sync::Arc;

use futures::{StreamExt as _, future::try_join_all};
use granary_faults::Fault;
use support::{Server, list, open, read_all};
use tokio::sync::Notify;

const BYTES: &[u8] = b"0123456789abcdef";

#[tokio::test]
async fn requests_after_each_other_need_one_connection() {
    let server = Server::start().await;
    server.put("p/object", BYTES);
    let source = open(&server.s3("p/"));
    let object = list(&source).await.unwrap().remove(0);
    for _ in 0..20 {
        assert_eq!(read_all(&source, &object).await.unwrap(), BYTES);
        // What a refusal says is read to its end, too.
        server.fail([Fault::Status(503)]);
        read_all(&source, &object).await.unwrap_err();
    }
    assert_eq!(server.proxy.connections(), 1);
}

#[tokio::test]
async fn as_many_connections_are_kept_as_were_in_use() {
    const READS: usize = 100;
    let server = Server::start().await;
    server.put("p/object", BYTES);
    let source = open(&server.s3("p/"));
    let object = list(&source).await.unwrap().remove(0);
    for _ in 0..3 {
        let notifies: Vec<_> = (0..READS).map(|_| Arc::new(Notify::new())).collect();
        server.fail(notifies.iter().cloned().map(Fault::Hold));
        let opened = (0..READS).map(|_| source.read(&object.key, &object.pin, object.size, 0..object.size));
        // All answers have begun before the first one ends.
        let bodies = try_join_all(opened).await.unwrap();
        notifies.iter().for_each(|notify| notify.notify_one());
        for body in bodies {
            let chunks: Vec<_> = body.map(Result::unwrap).collect().await;
            assert_eq!(chunks.concat(), BYTES);
        }
    }
    assert_eq!(server.proxy.connections(), READS);
}

#[tokio::test]
async fn a_read_that_is_given_up_takes_its_connection_with_it() {
    let server = Server::start().await;
    server.put("p/object", BYTES);
    let source = open(&server.s3("p/"));
    let object = list(&source).await.unwrap().remove(0);
    server.fail([Fault::Hold(Arc::new(Notify::new()))]);
    let mut body = source.read(&object.key, &object.pin, object.size, 0..object.size).await.unwrap();
    body.next().await.unwrap().unwrap();
    drop(body);
    assert_eq!(read_all(&source, &object).await.unwrap(), BYTES);
    assert_eq!(server.proxy.connections(), 2);
}
