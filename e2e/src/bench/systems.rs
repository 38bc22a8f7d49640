//! What is compared: the disk, Granary, and peers with the cache settings that their own documents recommend.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::load::Load;
use crate::progress;

/// A way to see the bucket's objects as files.
pub(super) trait System {
    fn name(&self) -> &'static str;
    /// Mounts what `load` reads from the server at `port`, with its cache kept below `work`.
    fn mount(&self, load: Load, port: u16, work: &Path) -> Result<Mounted>;
}

/// A mount with the process that serves it; both end when it is dropped.
pub(super) struct Mounted {
    /// Where the load's keys are.
    pub(super) path: PathBuf,
    process: Option<(Child, PathBuf)>,
}

impl Mounted {
    /// Peak resident memory of the serving process in bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        let status = self
            .process
            .as_ref()
            .and_then(|(child, _)| std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok());
        let kib = status.as_deref().and_then(|text| {
            text.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok())
        });
        kib.unwrap_or(0) * 1024
    }

    /// CPU time that the serving process has used since it started, in seconds.
    pub(super) fn cpu_seconds(&self) -> f64 {
        let stat = self
            .process
            .as_ref()
            .and_then(|(child, _)| std::fs::read_to_string(format!("/proc/{}/stat", child.id())).ok());
        // Fields 14 and 15 of proc(5), counted behind the name in parentheses, in ticks of 1/100 s.
        let ticks = stat.as_deref().and_then(|text| {
            let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        });
        ticks.unwrap_or(0) as f64 / 100.0
    }

    fn start(mut command: Command, mount: PathBuf, path: PathBuf, log: &Path) -> Result<Self> {
        std::fs::create_dir_all(&mount)?;
        let out = std::fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let mut mounted = Self { path, process: Some((child, mount.clone())) };
        let begun = Instant::now();
        while !is_mounted(&mount) || !mounted.path.exists() {
            if let Some((child, _)) = &mut mounted.process
                && let Some(status) = child.try_wait()?
            {
                bail!("{command:?} ended ({status}): {}", crate::exec::tail_of(log));
            }
            if begun.elapsed() > Duration::from_secs(60) {
                bail!("{command:?} does not mount: {}", crate::exec::tail_of(log));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some((mut child, mount)) = self.process.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // Ends by itself if it can, so that its caches are written.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        while is_mounted(&mount) {
            if let Err(error) = rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH) {
                progress::note(format!("{} stays mounted: {error}", mount.display()));
                return;
            }
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let text = path.to_string_lossy();
    std::fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|all| all.lines().any(|line| line.split(' ').nth(4) == Some(&text)))
}

/// The same files on the disk's own filesystem: the limit.
pub(super) struct Native {
    dir: PathBuf,
}

impl Native {
    pub(super) fn make(dir: &Path) -> Result<Self> {
        let dir = dir.join("native");
        for load in [Load::Big, Load::Small] {
            for (key, size) in load.objects() {
                let path = dir.join(load.prefix()).join(key);
                if std::fs::metadata(&path).is_ok_and(|m| m.len() == size) {
                    continue;
                }
                std::fs::create_dir_all(path.parent().context("a key below a prefix")?)?;
                let mut file = std::fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
                std::io::copy(&mut std::io::Read::take(std::io::repeat(0x5a), size), &mut file)?;
            }
        }
        Ok(Self { dir })
    }
}

impl System for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn mount(&self, load: Load, _port: u16, _work: &Path) -> Result<Mounted> {
        Ok(Mounted { path: self.dir.join(load.prefix()), process: None })
    }
}

/// This project's own `granary mount`.
pub(super) struct Granary {
    pub(super) program: PathBuf,
}

impl System for Granary {
    fn name(&self) -> &'static str {
        "granary"
    }

    fn mount(&self, load: Load, port: u16, work: &Path) -> Result<Mounted> {
        let mount = work.join("mnt");
        std::fs::create_dir_all(&mount)?;
        let mut command = Command::new(&self.program);
        command.arg("mount").arg(format!("s3://bench/{}/", load.prefix())).arg(&mount);
        command.args(["--no-sign-request", "--endpoint", &format!("http://127.0.0.1:{port}"), "--region", "us-east-1"]);
        command.arg("--cache").arg(work.join("cache"));
        Mounted::start(command, mount.clone(), mount, &work.join("granary.log"))
    }
}

/// `rclone mount` with its full VFS cache and parallel chunks.
pub(super) struct Rclone {
    pub(super) program: PathBuf,
}

impl System for Rclone {
    fn name(&self) -> &'static str {
        "rclone"
    }

    fn mount(&self, load: Load, port: u16, work: &Path) -> Result<Mounted> {
        let mount = work.join("mnt");
        let mut command = Command::new(&self.program);
        let remote =
            format!(":s3,provider=Other,env_auth=false,endpoint='http://127.0.0.1:{port}':bench/{}", load.prefix());
        command.args(["mount", &remote]).arg(&mount);
        command.args(["--vfs-cache-mode", "full", "--vfs-cache-max-size", "20G", "--vfs-read-chunk-size", "16M"]);
        command.args([
            "--vfs-read-chunk-streams",
            "8",
            "--dir-cache-time",
            "1h",
            "--read-only",
            "--no-modtime",
            "--no-checksum",
        ]);
        command.arg("--config").arg("").arg("--cache-dir").arg(work.join("cache"));
        Mounted::start(command, mount.clone(), mount, &work.join("rclone.log"))
    }
}

/// Debian's s3fs with its file cache.
pub(super) struct S3fs;

impl System for S3fs {
    fn name(&self) -> &'static str {
        "s3fs"
    }

    fn mount(&self, load: Load, port: u16, work: &Path) -> Result<Mounted> {
        let mount = work.join("mnt");
        let cache = work.join("cache");
        std::fs::create_dir_all(&cache)?;
        let mut command = Command::new("s3fs");
        command.arg("bench").arg(&mount).arg("-f");
        let options = format!(
            "url=http://127.0.0.1:{port},use_path_request_style,public_bucket=1,ro,parallel_count=16,multipart_size=16,\
             max_stat_cache_size=100000,stat_cache_expire=3600,enable_noobj_cache,use_cache={}",
            cache.display()
        );
        command.args(["-o", &options]);
        Mounted::start(command, mount.clone(), mount.join(load.prefix()), &work.join("s3fs.log"))
    }
}
