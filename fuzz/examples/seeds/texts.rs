//! Seeds of what others write: URIs, patterns, answers of servers, objects of the API.

use serde_json::json;

use super::{Outcome, seed};

pub fn write() -> Outcome {
    for (name, text) in [
        ("s3", "s3://bucket/prefix/"),
        ("s3-object", "s3://bucket.name/a/b%20c?d#e"),
        ("http", "https://user@host:8443/dir/"),
        ("http-file", "http://[::1]/a%2fb/file?x=y#z"),
        ("file", "file:///data/set/../x"),
        ("secret", "s3://AKIA:hunter2@bucket/p"),
    ] {
        seed("uri", name, text)?;
    }
    for (name, text) in [
        ("stars", "a/b/c.flac\n**/*.flac\n!x/**\n!**/*.tmp"),
        ("classes", "a1.txt\n[a-z][!0]?.txt\n{a,b{c,d}}*.{jpg,txt}\n!\\*"),
    ] {
        seed("glob", name, text)?;
    }
    let persistent = "dataset=imagenet\nnamespace=vision\nuid=8d6ad1d4-0000-4000-8000-000000000000\n";
    let pod = "csi.storage.k8s.io/pod.namespace=team-b\ncsi.storage.k8s.io/serviceAccount.name=trainer\n";
    let digest = "0123456789abcdef".repeat(4);
    for (name, text) in [
        ("persistent", format!("{persistent}{pod}csi.storage.k8s.io/ephemeral=false\nversion=imagenet-0123456789\n")),
        ("digest", format!("{persistent}version=sha256:{digest}\n")),
        ("ephemeral", format!("dataset=public\n{pod}csi.storage.k8s.io/ephemeral=true\n")),
    ] {
        seed("volume_context", name, text)?;
    }
    keeper()?;
    answers()?;
    objects()
}

/// Packets, each with a number of descriptors.
fn keeper() -> Outcome {
    let hello = (0, b"Hgranary keeper\x01\0\x01\0".as_slice());
    for (name, packets) in [
        ("keeps", &[hello, (2, b"Kname"), (1, b"Kother"), (0, b"N"), (0, b"Nname"), (0, b"Fname")][..]),
        ("no-hello", &[(1, b"Kname"), (0, b"N")]),
        ("wrong", &[hello, (0, b"Kname"), (5, b"Kname"), (0, b"?")]),
        (
            "others",
            &[(0, b"Hgranary keeper\x02\0\x09\0"), (0, b"Wx\0"), (0, b"D"), (0, b"Ename"), (0, b"Z"), (0, b"Xwhy")],
        ),
    ] {
        let packets =
            packets.iter().flat_map(|(descriptors, packet)| [&[packet.len() as u8, *descriptors], *packet].concat());
        seed("keeper", name, packets.collect::<Vec<u8>>())?;
    }
    Ok(())
}

fn answers() -> Outcome {
    let listing = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>bucket</Name><Prefix>p/</Prefix>\
        <KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>\
        <Contents><Key>p/a&amp;b</Key><LastModified>2024-05-01T10:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>\
        <Size>5</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>";
    let versions = "<ListVersionsResult><Name>bucket</Name><Prefix>p/</Prefix><KeyMarker></KeyMarker><VersionIdMarker></VersionIdMarker>\
        <IsTruncated>false</IsTruncated><NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>\
        <Version><Key>p/a</Key><VersionId>v1</VersionId><IsLatest>true</IsLatest><LastModified>2024-05-01T10:00:00.000Z</LastModified>\
        <ETag>&quot;e&quot;</ETag><Size>5</Size></Version><DeleteMarker><Key>p/b</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest>\
        <LastModified>2024-05-01T10:00:00.000Z</LastModified></DeleteMarker></ListVersionsResult>";
    let refusal = "<Error><Code>SlowDown</Code><Message>slower</Message></Error>";
    let ten = "0123456789";
    let body = |head: &str, body: &str| format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let range = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 10-19/100\r\netag: \"e\"\r\nx-amz-version-id: v\r\n\
        last-modified: Wed, 01 May 2024 10:00:00 GMT";
    let head = "HTTP/1.1 200 OK\r\netag: \"e\"\r\nlast-modified: Wed, 01 May 2024 10:00:00 GMT\r\nx-amz-version-id: v\r\ncontent-length: 9";
    for (name, question, answer) in [
        ("list", 'L', body("HTTP/1.1 200 OK\r\ncontent-type: application/xml", listing)),
        ("versions", 'V', body("HTTP/1.1 200 OK\r\ncontent-type: application/xml", versions)),
        ("refusal", 'L', body("HTTP/1.1 503 Slow Down\r\nx-amz-bucket-region: eu-west-1", refusal)),
        ("stat", 'S', format!("{head}\r\n\r\n")),
        ("head", 'H', format!("{head}\r\n\r\n")),
        ("range", 'T', body(range, ten)),
        ("version", 'I', body(range, ten)),
        ("modified", 'M', body(range, ten)),
        ("whole", 'W', body("HTTP/1.1 200 OK", &ten.repeat(10))),
        (
            "chunks",
            'T',
            format!("{range}\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\nx: y\r\n\r\n"),
        ),
        ("redirect", 'W', body("HTTP/1.1 302 Found\r\nlocation: http://other/file", "")),
        (
            "until-closed",
            'T',
            format!("HTTP/1.0 206 OK\r\n{}\r\n\r\n{ten}", range.split_once("\r\n").map_or("", |(_, rest)| rest)),
        ),
    ] {
        seed("answers", name, format!("{question}{answer}"))?;
    }
    Ok(())
}

fn objects() -> Outcome {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let s3 = json!({"endpoint": "http://store:9000", "region": "r", "addressing": "Path", "pinBy": "ETag"});
    let http = json!({"files": [{"path": "a/b", "digest": digest}]});
    let source = json!([
        {"uri": "s3://bucket/p/", "name": "n", "path": "a", "include": ["**/*.x"], "exclude": ["y"], "identity": "Ambient", "s3": s3},
        {"uri": "https://host/dir/", "path": "b", "http": http, "identity": "Anonymous"},
        {"uri": "file:///data", "path": "c"},
    ]);
    let mut recorded = source.clone();
    for source in recorded.as_array_mut().into_iter().flatten() {
        source["fileCount"] = json!(1);
        source["sizeBytes"] = json!(5);
        source["pinnedBy"] = json!("ETag");
    }
    let artifact = |name: &str, format: &str| {
        let media_type = format!("application/vnd.granary.{format}.v1");
        json!({"name": name, "mediaType": media_type, "digest": digest, "sizeBytes": 4096})
    };
    let found = json!({
        "listingDigest": digest, "fileCount": 1, "sizeBytes": 5,
        "blob": {"id": "b", "sizeBytes": 4096, "parentDigest": digest},
        "artifacts": [artifact("image", "image.erofs"), artifact("extents", "extents")],
        "sources": recorded, "skipped": [{"reason": "UnusableName", "count": 1, "examples": ["a//b"]}],
        "indexedTime": "2026-01-02T03:04:05Z", "indexerVersion": "0.1.0",
    });
    let mut version = found.clone();
    version["datasetName"] = json!("d");
    version["revision"] = json!(1);
    let policy =
        json!({"fileSources": "Allow", "ambientIdentity": "Allow", "allowedNetworks": ["10.0.0.0/8", "fd00::/8"]});
    let cache = json!({"path": "nvme", "maxSize": "500Gi", "minFreePercent": 20, "minFree": "1.5e3"});
    let metadata = json!({"name": "d", "namespace": "n", "uid": "u"});
    let group = "granary.dev/v1alpha1";
    let mount = json!({
        "dataset": {"apiVersion": group, "kind": "Dataset", "metadata": metadata, "spec": {"sources": source, "preload": true}},
        "version": {"apiVersion": group, "kind": "DatasetVersion", "metadata": metadata, "spec": version},
        "class": {"apiVersion": group, "kind": "DataStorageClass", "metadata": metadata, "spec": {"cache": cache, "sourcePolicy": policy}},
    });
    let assignment = json!({
        "datasetNamespace": "n", "datasetName": "d", "datasetUid": "u", "sources": source, "credentials": "Secret",
        "sourcePolicy": policy, "parent": {"blobId": "b", "extents": {"digest": digest, "sizeBytes": 1, "mediaType": "m"}},
        "newBlobId": "c",
    });
    seed("objects", "mount", mount.to_string())?;
    seed("objects", "assignment", assignment.to_string())?;
    seed("objects", "result", json!({"Ok": found}).to_string())?;
    seed("objects", "failure", json!({"Failed": {"reason": "SecretNotFound", "message": "create it"}}).to_string())
}
