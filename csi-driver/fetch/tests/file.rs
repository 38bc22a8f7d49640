//! `file://` sources in a temporary directory.

mod support;

use std::{
    fs::{self, File},
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt as _, TryStreamExt as _};
use granary_fetch::{Listed, NoCredentials, Source, SourceConfig, SourceError, SourcePolicy};
use granary_image::PinKind;
use support::{collect, list, list_error, read_all};
use tempfile::TempDir;

/// A root with a directory `data`, and a directory beside the root.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for made in ["root/data/sub", "outside"] {
        fs::create_dir_all(dir.path().join(made)).unwrap();
    }
    fs::write(dir.path().join("root/data/a"), "aaaa").unwrap();
    fs::write(dir.path().join("root/data/sub/b c"), "bb").unwrap();
    fs::write(dir.path().join("root/beside"), "beside").unwrap();
    fs::write(dir.path().join("outside/secret"), "hunter2").unwrap();
    dir
}

fn open(dir: &TempDir, path: &str) -> Result<Arc<Source>, SourceError> {
    let root = dir.path().join("root");
    open_below(&root, &dir.path().join(path))
}

fn open_below(root: &Path, path: &Path) -> Result<Arc<Source>, SourceError> {
    let config = SourceConfig { uri: format!("file://{}", path.display()), ..Default::default() };
    let policy = SourcePolicy { file_roots: vec![root.to_owned()], ..Default::default() };
    Source::open(&config, Arc::new(NoCredentials), Arc::new(policy))
}

async fn sorted(source: &Source) -> Vec<Listed> {
    let mut listed = list(source).await.unwrap();
    listed.sort_by(|one, other| one.key.cmp(&other.key));
    listed
}

fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|object| object.key.as_str()).collect()
}

#[tokio::test]
async fn a_directory_is_listed_and_read() {
    let dir = tree();
    let source = open(&dir, "root/data").unwrap();
    let listed = sorted(&source).await;
    assert_eq!(keys(&listed), ["a", "sub/b c"]);
    assert!(listed.iter().all(|file| file.pin.kind == PinKind::ModificationTime));
    assert_eq!(read_all(&source, &listed[0]).await.unwrap(), b"aaaa");
    assert_eq!(collect(source.read("sub/b c", &listed[1].pin, 2, 1..2).await).await.unwrap(), b"b");
}

#[tokio::test]
async fn a_file_is_one_object() {
    let dir = tree();
    let source = open(&dir, "root/data/a").unwrap();
    let listed = list(&source).await.unwrap();
    assert_eq!((keys(&listed), source.object_name()), (vec![""], Some("a")));
    assert_eq!(read_all(&source, &listed[0]).await.unwrap(), b"aaaa");
}

#[tokio::test]
async fn what_lies_outside_of_the_roots_is_denied() {
    let dir = tree();
    for path in ["outside", "root2", ""] {
        assert_eq!(open(&dir, path).unwrap_err().reason(), "SourceDenied", "{path}");
    }
    assert_eq!(list_error(open(&dir, "root/missing")).await.reason(), "ObjectNotFound");
    let source = open(&dir, "root/data").unwrap();
    let pin = list(&source).await.unwrap().remove(0).pin;
    for key in ["../beside", "../../outside/secret", "sub/../a", "."] {
        assert_eq!(read(&source, key, &pin).await.unwrap_err().reason(), "SourceDenied", "{key}");
    }
}

async fn read(source: &Source, key: &str, pin: &granary_image::Pin) -> Result<Vec<u8>, SourceError> {
    collect(source.read(key, pin, 4, 0..4).await).await
}

#[tokio::test]
async fn links_are_followed_below_the_root_and_refused_where_they_lead_out() {
    let dir = tree();
    let data = dir.path().join("root/data");
    symlink("../beside", data.join("inside")).unwrap();
    let source = open(&dir, "root/data").unwrap();
    let listed = sorted(&source).await;
    assert_eq!(keys(&listed), ["a", "inside", "sub/b c"]);
    assert_eq!(read_all(&source, &listed[1]).await.unwrap(), b"beside");
    for target in ["../../outside/secret", "../../outside", dir.path().join("outside/secret").to_str().unwrap()] {
        let link = data.join("link");
        symlink(target, &link).unwrap();
        let error = list_error(Ok(source.clone())).await;
        assert_eq!(error.reason(), "SourceDenied", "{target}: {error}");
        let error = read(&source, "link", &listed[0].pin).await.unwrap_err();
        assert!(["SourceDenied", "ObjectChanged"].contains(&error.reason()), "{target}: {error}");
        fs::remove_file(&link).unwrap();
    }
    // A file that turns into a link after it was listed.
    fs::remove_file(data.join("a")).unwrap();
    symlink("../../outside/secret", data.join("a")).unwrap();
    assert_eq!(read_all(&source, &listed[0]).await.unwrap_err().reason(), "SourceDenied");
}

#[tokio::test]
async fn the_root_of_all_files_follows_absolute_links() {
    let dir = tree();
    symlink(dir.path().join("outside/secret"), dir.path().join("root/data/link")).unwrap();
    let source = open_below(Path::new("/"), &dir.path().join("root/data")).unwrap();
    let listed = sorted(&source).await;
    assert_eq!(keys(&listed), ["a", "link", "sub/b c"]);
    assert_eq!(read_all(&source, &listed[1]).await.unwrap(), b"hunter2");
}

#[tokio::test]
async fn a_changed_file_is_noticed() {
    let dir = tree();
    let path = dir.path().join("root/data/a");
    let source = open(&dir, "root/data").unwrap();
    let file = sorted(&source).await.remove(0);
    let set_time = |time| File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    set_time(before + Duration::from_nanos(1));
    assert_eq!(read_all(&source, &file).await.unwrap_err().reason(), "ObjectChanged");
    fs::write(&path, "aaaaa").unwrap();
    set_time(before);
    assert_eq!(read_all(&source, &file).await.unwrap_err().reason(), "ObjectChanged");
    fs::remove_file(&path).unwrap();
    assert_eq!(read_all(&source, &file).await.unwrap_err().reason(), "ObjectNotFound");
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_gives_no_further_bytes() {
    let dir = tree();
    let path = dir.path().join("root/data/a");
    fs::write(&path, vec![1; 3 << 20]).unwrap();
    let source = open(&dir, "root/data/a").unwrap();
    let file = list(&source).await.unwrap().remove(0);
    let mut body = source.read("", &file.pin, file.size, 0..file.size).await.unwrap();
    let first = body.next().await.unwrap().unwrap();
    assert!(first.len() < file.size as usize);
    File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(body.try_collect::<Vec<_>>().await.unwrap_err().reason(), "ObjectChanged");
}

#[tokio::test]
async fn what_is_no_file_is_left_out_and_a_name_that_is_no_text_is_shown() {
    let dir = tree();
    let data = dir.path().join("root/data");
    std::os::unix::net::UnixListener::bind(data.join("socket")).unwrap();
    fs::write(data.join(std::ffi::OsStr::from_bytes(b"caf\xe9")), "x").unwrap();
    let source = open(&dir, "root/data").unwrap();
    assert_eq!(keys(&sorted(&source).await), ["a", "caf\u{fffd}\0", "sub/b c"]);
}
