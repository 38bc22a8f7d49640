//! Digests that a Dataset states for the files of an HTTP directory.

use std::sync::Arc;

use granary_fetch::{HttpFile, HttpOptions, NoCredentials, Source, SourceConfig, SourcePolicy};
use granary_image::Digest;
use granary_index::{IndexError, IndexRequest, Indexed, index};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What each path of the server holds.
const FILES: &[(&str, &[u8])] = &[("weights", b"0123456789"), ("sub/empty", b""), ("readme", b"hello")];

/// Answers each request for a whole file, and closes. The first answer to a GET ends after half of its bytes.
async fn serve(listener: TcpListener) {
    let mut broken = false;
    while let Ok((stream, _)) = listener.accept().await {
        answer(BufReader::new(stream), &mut broken).await.unwrap();
    }
}

async fn answer(mut stream: BufReader<TcpStream>, broken: &mut bool) -> std::io::Result<()> {
    let (mut head, mut start) = (String::new(), 0);
    while stream.read_line(&mut head).await? > 2 {
        let line = head.lines().next_back().unwrap_or_default().to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.split('-').next().unwrap().parse().unwrap();
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (_, bytes) = FILES.iter().find(|(name, _)| path.strip_prefix("/dir/") == Some(name)).unwrap();
    let size = bytes.len();
    let mut said = format!("HTTP/1.1 200 OK\r\nETag: \"{size}\"\r\nConnection: close\r\n");
    let mut body = &bytes[start..];
    if method == "HEAD" {
        body = &[];
        said += &format!("Content-Length: {size}\r\n\r\n");
    } else {
        said = said.replace("200 OK", "206 Partial Content");
        said += &format!("Content-Range: bytes {start}-{}/{size}\r\nContent-Length: {}\r\n\r\n", size - 1, body.len());
        if !std::mem::replace(broken, true) {
            body = &body[..body.len() / 2];
        }
    }
    stream.write_all(said.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

/// Indexes the directory with these digests stated.
async fn indexed(digests: &[Option<Digest>; 3]) -> Result<Indexed, IndexError> {
    // Two tests in one process: the second finds it installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/dir/", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(listener));
    let files = FILES.iter().zip(digests).map(|((path, _), &digest)| HttpFile { path: (*path).to_owned(), digest });
    let config = SourceConfig { uri, http: Some(HttpOptions { files: files.collect() }), ..SourceConfig::default() };
    let source = Source::open(&config, Arc::new(NoCredentials), Arc::new(SourcePolicy::unrestricted())).unwrap();
    let out = tempfile::tempdir().unwrap();
    let out_dir = out.path().to_owned();
    let request = IndexRequest { sources: vec![(config, source)], parent: None, new_blob_id: "b".to_owned(), out_dir };
    let indexed = index(request, &|_| ()).await;
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), if indexed.is_ok() { 2 } else { 0 });
    server.abort();
    indexed
}

#[tokio::test]
async fn files_with_the_stated_digests_are_a_version_though_an_answer_breaks_off() {
    let digests = [Some(Digest::of(FILES[0].1)), Some(Digest::of(b"")), None];
    assert_eq!(indexed(&digests).await.unwrap().file_count, 3);
}

#[tokio::test]
async fn another_content_is_no_version_and_says_which_file_and_what_to_do() {
    for (at, path) in [(0, "weights"), (1, "sub/empty")] {
        let mut digests = [None; 3];
        digests[at] = Some(Digest::of(b"another"));
        let error = indexed(&digests).await.unwrap_err();
        assert_eq!((error.reason(), error.is_retryable()), ("DigestMismatch", false));
        let said = error.to_string();
        for part in [path, &Digest::of(b"another").to_string(), &Digest::of(FILES[at].1).to_string(), "http.files"] {
            assert!(said.contains(part), "'{part}' is missing: {said}");
        }
    }
}
