//! The data of the demo, none of it made up here but the incompressible file: a language model, the Go standard
//! library's sources, and 2 GiB of noise.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use futures::StreamExt;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::paths::Paths;
use crate::s3::S3;
use crate::tools::python;
use crate::{exec, progress};

/// Length of the incompressible file.
const NOISE_BYTES: u64 = 2 << 30;

/// A dataset's data on this machine, and where it goes.
pub struct Original {
    /// The dataset's name.
    pub dataset: &'static str,
    /// Its directory on this machine.
    pub dir: PathBuf,
    /// Its bucket.
    pub bucket: &'static str,
    /// The prefix in the bucket, empty or ending in '/'.
    pub prefix: &'static str,
}

/// Finds or makes all data on this machine.
pub fn originals(paths: &Paths) -> Result<Vec<Original>> {
    Ok(vec![
        Original { dataset: "minilm", dir: python::minilm(paths)?, bucket: "models", prefix: "minilm/" },
        Original { dataset: "corpus", dir: go_sources()?, bucket: "corpus", prefix: "go/" },
        Original { dataset: "big", dir: noise(paths)?, bucket: "big", prefix: "" },
    ])
}

/// Puts `original` into its bucket, unless the bucket has as many objects under the prefix already.
pub async fn upload(s3: &S3, original: &Original) -> Result<()> {
    let bucket = s3.bucket(original.bucket)?;
    let files =
        walkdir::WalkDir::new(&original.dir).into_iter().filter_map(Result::ok).filter(|e| e.file_type().is_file());
    if count(&bucket, original.prefix).await? == files.count() {
        progress::note(format!("s3://{}/{} is there", original.bucket, original.prefix));
        return Ok(());
    }
    let step = progress::step(format!("uploading to s3://{}/{}", original.bucket, original.prefix), Some("30 s"));
    let sent = bucket.put_tree(original.prefix, &original.dir).await?;
    step.done();
    progress::note(format!("{} files, {} bytes in {}", sent.files, sent.bytes, progress::human(sent.time)));
    Ok(())
}

async fn count(bucket: &crate::s3::Bucket, prefix: &str) -> Result<usize> {
    let mut lister = bucket.operator().lister_with(prefix).recursive(true).await?;
    let mut count = 0;
    while let Some(entry) = lister.next().await {
        if entry?.metadata().is_file() {
            count += 1;
        }
    }
    Ok(count)
}

fn go_sources() -> Result<PathBuf> {
    let root = exec::output(Command::new("go").args(["env", "GOROOT"]))?;
    Ok(Path::new(root.trim()).join("src"))
}

fn noise(paths: &Paths) -> Result<PathBuf> {
    let dir = paths.cache.join("data/big");
    let file = dir.join("noise.bin");
    if !std::fs::metadata(&file).is_ok_and(|m| m.len() == NOISE_BYTES) {
        let step = progress::step("making 2 GiB that do not compress", Some("5 s"));
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let mut out = BufWriter::new(File::create(&file).with_context(|| format!("making {}", file.display()))?);
        let mut random = StdRng::seed_from_u64(2026);
        let mut block = vec![0; 1 << 20];
        for _ in 0..NOISE_BYTES >> 20 {
            random.fill_bytes(&mut block);
            out.write_all(&block)?;
        }
        out.flush()?;
        step.done();
    }
    Ok(dir)
}
