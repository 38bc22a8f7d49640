//! The judges of an image besides our own reader: erofs-utils and the kernel.

mod common;

use std::{
    ffi::CString,
    fs::{self, File},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use common::{Tree, awkward, blob_bytes, image, placed};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The content of byte `at` of a test blob: differs between blocks and within one.
fn content(at: u64) -> u8 {
    (at ^ (at / 4096).wrapping_mul(31)) as u8
}

/// Writes image and blob into `dir`. Zeros follow each file up to its block's end, as in a real blob.
fn artifacts(dir: &Path, tree: &Tree) -> (PathBuf, PathBuf) {
    let (image_path, blob_path) = (dir.join("image"), dir.join("blob"));
    fs::write(&image_path, image(tree).0).unwrap();
    let blob = File::create(&blob_path).unwrap();
    blob.set_len(blob_bytes(tree)).unwrap();
    for (size, at) in tree.values() {
        if let Some(at) = *at {
            blob.write_all_at(&(at..at + size).map(content).collect::<Vec<_>>(), at).unwrap();
        }
    }
    (image_path, blob_path)
}

#[test]
#[ignore = "needs erofs-utils (fsck.erofs, dump.erofs)"]
fn erofs_utils_accept_images() {
    let dir = tempfile::tempdir().unwrap();
    for tree in [Tree::new(), awkward()] {
        let (image, blob) = artifacts(dir.path(), &tree);
        let device = format!("--device={}", blob.display());
        let image = image.to_str().unwrap();
        // Every structure is checked; bytes are left to the kernel, since releases up to 1.5 look for them in the image itself.
        run("fsck.erofs", &[&device, image]);
        run("dump.erofs", &[&device, "-s", image]);
        for path in ["/", "/many"].into_iter().take(1 + usize::from(!tree.is_empty())) {
            run("dump.erofs", &[&device, "--ls", &format!("--path={path}"), image]);
        }
    }
}

struct Loop(String);

impl Loop {
    fn over(file: &Path) -> Self {
        let device = run("losetup", &["--find", "--show", "--read-only", file.to_str().unwrap()]);
        Self(device.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.0]);
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

impl Mounted {
    /// Mounts image and blob at `mnt` in `dir`, with a loop device each.
    fn at(dir: &Path, image: &Path, blob: &Path) -> (Self, [Loop; 2]) {
        let loops = [Loop::over(image), Loop::over(blob)];
        let target = dir.join("mnt");
        fs::create_dir_all(&target).unwrap();
        let options = CString::new(format!("device={}", loops[1].0)).unwrap();
        mount(&loops[0].0, &target, "erofs", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
        // The mount is dropped before its loops: tuples are dropped in order.
        (Self(target), loops)
    }
}

#[test]
#[ignore = "needs root: mounts an image with two loop devices"]
fn the_kernel_reads_every_byte_back() {
    let dir = tempfile::tempdir().unwrap();
    for tree in [Tree::new(), awkward()] {
        let (image, blob) = artifacts(dir.path(), &tree);
        let mounted = Mounted::at(dir.path(), &image, &blob);
        let root = &mounted.0.0;
        compare(root, &tree);
        for (path, (size, _)) in &tree {
            let found = fs::metadata(root.join(path)).unwrap();
            let facts = (found.mode(), found.uid(), found.gid(), found.mtime(), found.nlink(), found.len());
            assert_eq!(facts, (0o100444, 0, 0, 315_532_800, 1, *size), "{path}");
        }
        let found = fs::metadata(root).unwrap();
        assert_eq!((found.mode(), found.mtime()), (0o040555, 315_532_800));
        assert!(fs::metadata(root.join("absent")).is_err());
    }
}

/// What needs the longer form of an inode: more than 4 GiB, more than 65,535 links.
#[test]
#[ignore = "needs root: mounts an image with two loop devices"]
fn the_kernel_takes_what_is_large() {
    const SIZE: u64 = (5 << 30) + 123;
    let dir = tempfile::tempdir().unwrap();
    let files =
        (0..66_000).map(|i| (format!("d{i:05}/empty"), 0)).chain([("huge".to_owned(), SIZE), ("after".to_owned(), 9)]);
    let tree = placed(files);
    let (image_path, blob_path) = (dir.path().join("image"), dir.path().join("blob"));
    fs::write(&image_path, image(&tree).0).unwrap();
    let blob = File::create(&blob_path).unwrap();
    blob.set_len(blob_bytes(&tree)).unwrap();
    let start = tree["huge"].1.unwrap();
    for at in [0, u64::from(u32::MAX), SIZE - 5] {
        blob.write_all_at(b"marks", start + at).unwrap();
    }
    run("fsck.erofs", &[&format!("--device={}", blob_path.display()), image_path.to_str().unwrap()]);
    let mounted = Mounted::at(dir.path(), &image_path, &blob_path);
    let root = &mounted.0.0;
    let huge = File::open(root.join("huge")).unwrap();
    let found = huge.metadata().unwrap();
    assert_eq!((found.len(), found.mode(), found.mtime(), found.nlink()), (SIZE, 0o100444, 315_532_800, 1));
    for at in [0, u64::from(u32::MAX), SIZE - 5] {
        let mut bytes = [0; 5];
        huge.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(&bytes, b"marks", "at {at}");
    }
    assert_eq!(fs::metadata(root).unwrap().nlink(), 66_002);
    assert_eq!(fs::read_dir(root).unwrap().count(), 66_002);
    assert_eq!(fs::metadata(root.join("d65999/empty")).unwrap().len(), 0);
}

/// Names, sizes and bytes below `root` are those of `tree`, neither more nor fewer.
fn compare(root: &Path, tree: &Tree) {
    let mut found = Tree::new();
    walk(root, String::new(), &mut found);
    assert!(found.keys().eq(tree.keys()), "{} of {} names", found.len(), tree.len());
    for (path, (size, at)) in tree {
        let mut bytes = Vec::new();
        File::open(root.join(path)).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, *size, "{path}");
        let start = at.unwrap_or(0);
        assert!(bytes.iter().zip(start..).all(|(&byte, at)| byte == content(at)), "{path}");
    }
}

fn walk(dir: &Path, prefix: String, found: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = prefix.clone() + entry.file_name().to_str().unwrap();
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), path + "/", found);
        } else {
            found.insert(path, (0, None));
        }
    }
}
