//! A thread that reads at random and compares with the model.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::check::{walk, wrong};
use super::lab::Version;
use super::operation::{Operation, What};
use super::ways::{Way, forget};
use super::world::{Look, World};

/// Files that a reader keeps open for later.
const KEPT: usize = 4;

/// One thread's.
pub(super) struct Reader<'a> {
    world: &'a World,
    rng: StdRng,
    kept: Vec<Kept>,
}

/// An open file, perhaps of a target that has something else by now.
struct Kept {
    file: File,
    target: usize,
    generation: u64,
    version: usize,
    /// In the model.
    path: String,
}

/// What is to be read of a file.
#[derive(Clone, Copy)]
struct Range {
    way: Way,
    at: u64,
    len: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(world: &'a World, seed: u64) -> Self {
        Self { world, rng: StdRng::seed_from_u64(seed), kept: Vec::new() }
    }

    /// Reads until there are to be no more operations.
    pub(super) fn run(&mut self) {
        while self.world.progress.begin() {
            let operation = Operation::draw(&mut self.rng, self.world.targets.len());
            let begun = Instant::now();
            if let Err(what) = self.perform(operation) {
                self.world.fail(format!("{operation:?}: {what}"));
            }
            self.world.tally.took(begun.elapsed());
            self.world.progress.end();
        }
    }

    fn perform(&mut self, operation: Operation) -> Result<(), String> {
        let Operation { target: nth, file, what } = operation;
        if let What::Again(way, at, len) = what
            && let Some(kept) = self.kept.pop()
        {
            self.read_kept(&kept, way, at, len)?;
            self.keep(kept);
            return Ok(());
        }
        let target = &self.world.targets[nth];
        let shown = target.shown.read();
        let Some(index) = shown.version else { return nothing_at(&target.path) };
        let (version, look) = (&self.world.versions[index], self.world.look(index));
        let Some((path, model)) = version.model.pick(file) else { return Ok(()) };
        let place = target.path.join(path);
        let size = model.bytes.len() as u64;
        let result = match what {
            What::Read(way, at, len) => self.open_and_read(&place, version, path, share(size, at), len, way),
            What::Whole(way) => self.open_and_read(&place, version, path, 0, size as usize + 1, way),
            What::Again(way, at, len) => File::open(&place).and_then(|file| {
                let range = Range { way, at: share(size, at), len };
                let result = self.read(&file, version, path, range);
                let (generation, path) = (shown.generation, path.to_owned());
                self.keep(Kept { file, target: nth, generation, version: index, path });
                result
            }),
            What::Stat => place.symlink_metadata().and_then(|found| match found.is_file() && found.len() == size {
                true => Ok(()),
                false => Err(wrong(format!("it is {found:?}, not a file of {size} bytes"))),
            }),
            What::Walk => walk(&target.path, &version.model),
            What::Absent => absent(&target.path.join(format!("{path} that is not there"))),
            What::Forget => File::open(&place).and_then(|file| forget(&file)),
        };
        self.judge(result, look, index, path)
    }

    fn open_and_read(
        &self,
        place: &Path,
        version: &Version,
        path: &str,
        at: u64,
        len: usize,
        way: Way,
    ) -> io::Result<()> {
        self.read(&File::open(place)?, version, path, Range { way, at, len })
    }

    fn read(&self, file: &File, version: &Version, path: &str, range: Range) -> io::Result<()> {
        let wanted = &version.model.file(path).expect("it was drawn from the model").bytes;
        let Range { way, at, len } = range;
        // The same file, also when its name leads elsewhere by now.
        let again = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let Some(found) = way.read(file, &again, wanted.len() as u64, at, len)? else {
            self.world.tally.not_offered.fetch_add(1, Relaxed);
            return Ok(());
        };
        let end = wanted.len().min(at as usize + len);
        let wanted = &wanted[end.min(at as usize)..end];
        self.world.tally.bytes.fetch_add(found.len() as u64, Relaxed);
        match found == *wanted {
            true => Ok(()),
            false => Err(wrong(difference(&found, wanted, at))),
        }
    }

    /// Its target may have something else by now: then errors are excused, and wrong bytes are not.
    fn read_kept(&self, kept: &Kept, way: Way, at: f64, len: usize) -> Result<(), String> {
        let version = &self.world.versions[kept.version];
        let look = self.world.look(kept.version);
        let size = version.model.file(&kept.path).map_or(0, |file| file.bytes.len() as u64);
        let range = Range { way, at: share(size, at), len };
        let result = self.read(&kept.file, version, &kept.path, range);
        let is_current = || self.world.targets[kept.target].shown.read().generation == kept.generation;
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EIO) && !is_current() => Ok(()),
            result => self.judge(result, look, kept.version, &kept.path),
        }
    }

    fn judge(&self, result: io::Result<()>, look: Look, version: usize, path: &str) -> Result<(), String> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if self.world.excuses(look, version, &error) => Ok(()),
            Err(error) => {
                let name = &self.world.versions[version].manifest.version;
                Err(format!("{path:?} of {name}: {error}"))
            }
        }
    }

    fn keep(&mut self, kept: Kept) {
        let place = self.rng.random_range(0..=self.kept.len());
        self.kept.insert(place, kept);
        self.kept.truncate(KEPT);
    }
}

/// The offset at a share of a file; sometimes its very end.
fn share(size: u64, at: f64) -> u64 {
    (at * (size + 1) as f64) as u64
}

/// Where two readings differ.
fn difference(found: &[u8], wanted: &[u8], at: u64) -> String {
    if found.len() != wanted.len() {
        return format!("{} bytes at {at}, not {}", found.len(), wanted.len());
    }
    let differs = |n: &usize| found[*n] != wanted[*n];
    let first = (0..found.len()).find(differs).unwrap_or_default();
    let count = (0..found.len()).filter(differs).count();
    let zeros = (0..found.len()).filter(differs).all(|n| found[n] == 0);
    let what = if zeros { ", all of them zeros" } else { "" };
    format!("WRONG BYTES: {count} of {} at {at}{what}, the first at {}", found.len(), at + first as u64)
}

/// A target without a version is not there, or it is an empty directory.
fn nothing_at(path: &Path) -> Result<(), String> {
    match std::fs::read_dir(path).map(Iterator::count) {
        Ok(0) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => Err(format!("something is at {}, where nothing is published: {other:?}", path.display())),
    }
}

fn absent(path: &Path) -> io::Result<()> {
    match File::open(path) {
        // Also a name that is too long is no file's.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENAMETOOLONG)) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(wrong(format!("there is a file {}", path.display()))),
    }
}
