//! The judges of an image besides our own reader: erofs-utils and the kernel.

mod common;

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use common::{Tree, awkward, blob_bytes, image};
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

#[test]
#[ignore = "needs root: mounts an image with two loop devices"]
fn the_kernel_reads_every_byte_back() {
    let dir = tempfile::tempdir().unwrap();
    for tree in [Tree::new(), awkward()] {
        let (image, blob) = artifacts(dir.path(), &tree);
        let (image, blob) = (Loop::over(&image), Loop::over(&blob));
        let target = dir.path().join("mnt");
        fs::create_dir_all(&target).unwrap();
        let options = std::ffi::CString::new(format!("device={}", blob.0)).unwrap();
        mount(&image.0, &target, "erofs", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
        let mounted = Mounted(target.clone());
        compare(&target, &tree);
        for (path, (size, _)) in &tree {
            let metadata = fs::metadata(target.join(path)).unwrap();
            let facts =
                (metadata.mode(), metadata.uid(), metadata.gid(), metadata.mtime(), metadata.nlink(), metadata.len());
            assert_eq!(facts, (0o100444, 0, 0, 315_532_800, 1, *size), "{path}");
        }
        let root = fs::metadata(&target).unwrap();
        assert_eq!((root.mode(), root.mtime()), (0o040555, 315_532_800));
        assert!(fs::metadata(target.join("absent")).is_err());
        drop(mounted);
    }
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
