//! `file://` sources: below directories of this machine that the policy names.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use granary_image::{Pin, PinKind};
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};
use tokio::sync::mpsc;
use walkdir::WalkDir;

use crate::{ByteStream, Listed, SourceError, SourcePolicy, lane::Lane, uri::has_dot_segments, verify::Wanted};

/// What one blocking read reads.
const CHUNK_BYTES: u64 = 1 << 20;
/// Blocking reads at once: a disk far away that hangs holds so many threads, and a disk nearby is kept busy by fewer.
const THREADS: usize = 32;
/// Entries of a listing that are made before somebody takes them.
const LISTED_AHEAD: usize = 256;

/// A directory or file of this machine.
#[derive(Clone, Debug)]
pub(crate) struct FileSource {
    uri: Arc<str>,
    /// A root of the policy; nothing outside of it can be reached.
    root: PathBuf,
    /// Where the source is below it.
    below: PathBuf,
    lane: Lane,
}

impl FileSource {
    pub(crate) fn open(uri: &str, path: &Path, policy: &SourcePolicy) -> Result<Self, SourceError> {
        let root = policy.file_roots.iter().find(|root| path.starts_with(root));
        let root = root.ok_or_else(|| SourceError::denied(uri, "file:// is for directories below the roots that the chart names (fileSources.roots), and only where the DataStorageClass says sourcePolicy.fileSources: Allow"))?;
        let below = path.strip_prefix(root).unwrap_or(path).to_owned();
        Ok(Self { uri: uri.into(), root: root.clone(), below, lane: Lane::new(THREADS) })
    }

    /// All regular files, in the order in which the directory has them.
    pub(crate) fn list(&self) -> impl Stream<Item = Result<Listed, SourceError>> + Send + 'static {
        let (sender, receiver) = mpsc::channel(LISTED_AHEAD);
        let source = self.clone();
        // It ends when the stream is dropped: the channel is closed then.
        tokio::task::spawn_blocking(move || source.walk(&sender));
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
    }

    fn walk(&self, sender: &mpsc::Sender<Result<Listed, SourceError>>) {
        let base = self.root.join(&self.below);
        for entry in WalkDir::new(&base).follow_links(true) {
            let listed = match entry {
                Ok(entry) if entry.file_type().is_dir() => continue,
                Ok(entry) if !entry.file_type().is_file() => {
                    tracing::warn!(path = %entry.path().display(), "left out: it is no regular file");
                    continue;
                }
                Ok(entry) => self.listed(entry.path().strip_prefix(&base).unwrap_or(entry.path())),
                Err(error) => {
                    let key = error
                        .path()
                        .unwrap_or(&base)
                        .strip_prefix(&base)
                        .unwrap_or(Path::new(""))
                        .to_string_lossy()
                        .into_owned();
                    let cause =
                        if error.loop_ancestor().is_some() { io::Error::from(Errno::LOOP) } else { io_error(&error) };
                    Err(self.failure(&key, &cause))
                }
            };
            let failed = listed.is_err();
            if sender.blocking_send(listed).is_err() || failed {
                return;
            }
        }
    }

    fn listed(&self, key: &Path) -> Result<Listed, SourceError> {
        let Some(key) = key.to_str() else {
            // A NUL makes it a key that can be no file's name, so it is counted and shown among those that were left out.
            let key = format!("{}\0", key.to_string_lossy());
            return Ok(Listed { key, size: 0, pin: Pin { kind: PinKind::SizeOnly, value: String::new() } });
        };
        let (_, state) = self.open_file(key).map_err(|error| self.failure(key, &error))?;
        Ok(Listed {
            key: key.to_owned(),
            size: state.size,
            pin: Pin { kind: PinKind::ModificationTime, value: state.modified },
        })
    }

    pub(crate) async fn read(&self, wanted: Wanted) -> Result<ByteStream, SourceError> {
        let source = self.clone();
        let (file, wanted) = self
            .blocking(move || {
                let (file, state) =
                    source.open_file(&wanted.key).map_err(|error| source.failure(&wanted.key, &error))?;
                source.check(&wanted, &state)?;
                Ok((Arc::new(file), wanted))
            })
            .await?;
        let start = wanted.range.start;
        let body = stream::try_unfold(
            (self.clone(), file, Arc::new(wanted), start),
            |(source, file, wanted, at)| async move {
                if at == wanted.range.end {
                    return Ok(None);
                }
                let (reader, open, of) = (source.clone(), file.clone(), wanted.clone());
                let chunk = source.blocking(move || reader.chunk(&open, &of, at)).await?;
                let next = at + chunk.len() as u64;
                Ok(Some((chunk, (source, file, wanted, next))))
            },
        );
        Ok(body.boxed())
    }

    /// Bytes from `at` on. The state is looked at after reading: what was read before a change that is seen now is not used.
    fn chunk(&self, file: &File, wanted: &Wanted, at: u64) -> Result<Bytes, SourceError> {
        let failure = |error: io::Error| self.failure(&wanted.key, &error);
        let mut bytes = vec![0; CHUNK_BYTES.min(wanted.range.end - at) as usize];
        let read = file.read_exact_at(&mut bytes, at);
        self.check(wanted, &State::of(file).map_err(failure)?)?;
        read.map_err(failure)?;
        Ok(bytes.into())
    }

    fn check(&self, wanted: &Wanted, state: &State) -> Result<(), SourceError> {
        if state.size != wanted.size {
            return Err(wanted.changed(&self.uri, format!("it has {} bytes, not {}", state.size, wanted.size)));
        }
        if wanted.pin.kind == PinKind::ModificationTime && state.modified != wanted.pin.value {
            return Err(wanted
                .changed(&self.uri, format!("it was modified at {}, not at {}", state.modified, wanted.pin.value)));
        }
        Ok(())
    }

    /// The kernel itself resolves the path and refuses to leave the root, so no link can be exchanged between check and use.
    fn open_file(&self, key: &str) -> io::Result<(File, State)> {
        if has_dot_segments(key) || key.contains('\0') {
            return Err(Errno::XDEV.into());
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let root = openat(CWD, &self.root, flags | OFlags::DIRECTORY | OFlags::PATH, Mode::empty())?;
        // Below "/" everything is inside, absolute links too.
        let inside = if self.root == Path::new("/") { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        let path = if key.is_empty() { self.below.clone() } else { self.below.join(key) };
        // NONBLOCK: to open a pipe would wait for its writer.
        let file = openat2(root, &path, flags | OFlags::NONBLOCK, Mode::empty(), inside | ResolveFlags::NO_MAGICLINKS)?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(Errno::NOENT.into());
        }
        let state = State::of(&file)?;
        Ok((file, state))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        match self.lane.run(work).await {
            Ok(result) => result,
            Err(error) => Err(SourceError::Unavailable { uri: self.uri.to_string(), detail: error.to_string() }),
        }
    }

    fn failure(&self, key: &str, error: &io::Error) -> SourceError {
        let uri = self.uri.to_string();
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            Some(Errno::XDEV) => SourceError::denied(
                &uri,
                format!("'{}' leads out of the allowed root '{}'", key.escape_debug(), self.root.display()),
            ),
            Some(Errno::LOOP) => SourceError::invalid(
                &uri,
                format!("'{}' is a link that leads back to itself or to the process: remove it", key.escape_debug()),
            ),
            Some(Errno::NOENT | Errno::NOTDIR) => SourceError::ObjectNotFound { uri, key: key.to_owned() },
            Some(Errno::ACCESS | Errno::PERM) => SourceError::denied(
                &uri,
                format!("'{}' may not be read by this process: change its mode", key.escape_debug()),
            ),
            _ => SourceError::Unavailable { uri, detail: error.to_string() },
        }
    }
}

/// What a file is known by.
struct State {
    size: u64,
    modified: String,
}

impl State {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let time = jiff::Timestamp::new(metadata.mtime(), metadata.mtime_nsec() as i32).map_err(io::Error::other)?;
        Ok(Self { size: metadata.size(), modified: time.to_string() })
    }
}

/// The walk's error as the system gave it; the conversion of the library hides its number.
fn io_error(error: &walkdir::Error) -> io::Error {
    let number = error.io_error().and_then(io::Error::raw_os_error);
    number.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}
