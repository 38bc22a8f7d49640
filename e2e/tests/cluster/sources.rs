//! Trouble with a source: a reason of its own for each, and healing by itself.

use granary_e2e::s3::{Keys, READER};

use crate::lab::{Space, lab};

#[test]
#[ignore = "needs the cluster"]
fn a_missing_secret_is_named_and_heals_when_it_comes() {
    let space = Space::new("secret");
    space.put(&[("a.txt", "a")]);
    space.kubectl(&["delete", "secret", "s3-read"]).unwrap();
    space.dataset("d");
    let message = space.reason("dataset/d", "SourceAvailable", "SecretNotFound");
    assert!(message.contains("s3-read"), "{message}");
    space.secret_with("s3-read", &[("user", "x")]);
    let message = space.reason("dataset/d", "SourceAvailable", "SecretKeysMissing");
    assert!(message.contains("AWS_ACCESS_KEY_ID"), "{message}");
    space.secret("s3-read", Keys { access_key: READER.access_key, secret_key: "wrong-key-of-the-test" });
    let message = space.reason("dataset/d", "SourceAvailable", "CredentialsRejected");
    assert!(!message.contains("wrong-key-of-the-test"), "{message}");
    space.secret("s3-read", READER);
    space.ready("d");
}

#[test]
#[ignore = "needs the cluster"]
fn each_kind_of_trouble_has_its_reason() {
    let space = Space::new("trouble");
    space.dataset_with("bucket", "s3://no-such-bucket-here/", "");
    let credentials = "  credentials: {secretRef: {name: s3-read}}\n";
    let dead = space.dataset_yaml("dead", "s3://x/", credentials).replace(":8333", ":9");
    space.apply_raw(&dead);
    let local = space.dataset_yaml("local", "s3://x/", credentials).replace("10.88.0.1", "127.0.0.1");
    space.apply_raw(&local);
    space.apply_raw(&format!(
        "apiVersion: granary.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: file, namespace: {}}}\n\
         spec: {{sources: [{{uri: 'file:///etc/'}}]}}\n",
        space.name
    ));
    space.apply_raw(&space.dataset_yaml("class", "s3://x/", "  storageClassName: nowhere\n"));
    let message = space.reason("dataset/bucket", "SourceAvailable", "BucketNotFound");
    assert!(message.contains("no-such-bucket-here"), "{message}");
    space.reason("dataset/dead", "SourceAvailable", "EndpointUnreachable");
    let message = space.reason("dataset/local", "SourceAvailable", "SourceDenied");
    assert!(message.contains("allowedNetworks"), "{message}");
    let message = space.reason("dataset/file", "SourceAvailable", "SourceDenied");
    assert!(message.contains("fileSources"), "{message}");
    let message = space.reason("dataset/class", "Ready", "ClassNotFound");
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
#[ignore = "needs the cluster"]
fn an_empty_prefix_is_an_empty_version_with_a_warning() {
    let space = Space::new("empty");
    space.put(&[("elsewhere/a", "a")]);
    space.dataset_with("d", &format!("{}nothing/", space.uri()), "");
    space.ready("d");
    space.reason("dataset/d", "ContentComplete", "Empty");
    assert_eq!(space.run("look", "d", "ls -A /data | wc -l").unwrap(), "0");
}

#[test]
#[ignore = "needs the cluster"]
fn unusual_keys_are_files_like_others() {
    // What this S3 server cannot store at all (`..`, parts over 255 bytes, a key below a key) is tested with the indexer.
    let space = Space::new("keys");
    space.put(&[("plain.txt", "plain"), ("é/ü.txt", "umlaut"), ("empty.bin", ""), ("deep/a/b/c/d/e.txt", "deep")]);
    space.dataset("d");
    space.ready("d");
    let script = "cd /data && find . -type f | sort && cat plain.txt é/ü.txt empty.bin deep/a/b/c/d/e.txt";
    let read = space.run("look", "d", script).unwrap();
    assert!(read.ends_with("plainumlautdeep"), "{read}");
    assert_eq!(read.lines().filter(|line| line.starts_with("./")).count(), 4, "{read}");
    space.reason("dataset/d", "ContentComplete", "AllListed");
}

#[test]
#[ignore = "needs the cluster"]
fn a_replaced_object_is_an_error_its_neighbours_are_not_and_a_refresh_mends_it() {
    let space = Space::new("replaced");
    space.put(&[("a.txt", "first"), ("b.txt", "stays")]);
    space.dataset("d");
    space.ready("d");
    space.put(&[("a.txt", "other")]);
    let read = space.run("look", "d", "cat /data/a.txt; echo \"exit $?\"; cat /data/b.txt").unwrap();
    assert!(read.contains("exit 1") && read.ends_with("stays") && !read.contains("other"), "{read}");
    let message = space.reason("dataset/d", "SourceUnchanged", "ObjectChanged");
    assert!(message.contains("refresh"), "{message}");
    space.event("Dataset", "d", "pinned");
    space.kubectl(&["patch", "dataset", "d", "--type=merge", "-p", r#"{"spec":{"refresh":{"manual":"1"}}}"#]).unwrap();
    lab()
        .kubectl
        .wait(&space.name, "dataset/d", "jsonpath={.status.refresh.lastManual}=1", crate::lab::PATIENCE)
        .unwrap();
    assert_eq!(space.run("again", "d", "cat /data/a.txt /data/b.txt").unwrap(), "otherstays");
    space.reason("dataset/d", "SourceUnchanged", "AsPinned");
}

#[test]
#[ignore = "needs the cluster"]
fn a_deleted_object_is_read_where_it_is_cached_and_an_error_elsewhere() {
    let space = Space::new("deleted");
    space.put(&[("cached.txt", "cached"), ("other.txt", "never read")]);
    space.dataset("d");
    space.ready("d");
    assert_eq!(space.run("first", "d", "cat /data/cached.txt").unwrap(), "cached");
    // The mount goes with its last pod, and the kernel's pages with the mount: what is read next is the cache.
    space.delete("pod/first");
    space.remove("cached.txt");
    space.remove("other.txt");
    let read =
        space.run("second", "d", "cat /data/cached.txt; cat /data/other.txt 2>/dev/null; echo \" exit $?\"").unwrap();
    assert_eq!(read, "cached exit 1");
    space.reason("dataset/d", "SourceUnchanged", "ObjectChanged");
}

#[test]
#[ignore = "needs the cluster"]
fn a_corrected_manifest_heals_the_dataset() {
    let space = Space::new("healed");
    space.put(&[("a.txt", "found")]);
    space.dataset_with("d", "s3://no-such-bucket-here/", "");
    space.reason("dataset/d", "SourceAvailable", "BucketNotFound");
    space.dataset("d");
    space.ready("d");
    space.reason("dataset/d", "SourceAvailable", "Listed");
    assert_eq!(space.run("read", "d", "cat /data/a.txt").unwrap(), "found");
}
