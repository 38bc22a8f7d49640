//! FUSE sessions: made, mounted at no place, and run on threads of their own until the kernel has let go.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fuser::{Config, Filesystem, InitFlags, KernelConfig, Session, SessionACL};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::buffers::MOST_OF_ONE;
use crate::journal::{self, Journal};
use crate::journalled::{self, Files};
use crate::keeping::Keeping;
use crate::takeover;

/// Largest read that the kernel asks for, in bytes.
pub(crate) const MAX_READ: u32 = 1 << 20;
/// Reads that the kernel has under way at once; with the longest read it bounds the memory of a session's readers.
const MAX_READS: u16 = 20;
/// Else the threads, which answer other requests too, could wait for a buffer that reads have which wait for a source.
const _: () = assert!((MAX_READS as usize) * (MAX_READ as usize) < MOST_OF_ONE);
/// Threads that take requests and read what is cached: as many reads of the disk can be under way.
pub(crate) const THREADS: usize = 4;
/// The kernel asks no attributes and names again for as long: nothing that is served changes, and a dead server's file must
/// still tell its length to the loop driver when the device is moved to the next server's.
pub(crate) const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How a session's filesystem is mounted.
pub(crate) struct Options<'a> {
    /// What mountinfo has as its source.
    pub(crate) source: &'a str,
    /// What mountinfo has behind the dot of `fuse.`.
    pub(crate) subtype: Option<&'a str>,
    /// For every user, as the modes of the files say. Otherwise for this process only.
    pub(crate) for_all: bool,
}

/// A session that has begun.
pub(crate) struct Started {
    /// The mount, which is at no place.
    pub(crate) mount: OwnedFd,
    /// The connection. Who has it, too, keeps the kernel waiting for a successor when this process has died.
    pub(crate) connection: OwnedFd,
    /// The memory of the journal, which goes with the connection, if the kernel cannot ask a successor again.
    pub(crate) journal: Option<OwnedFd>,
}

/// Serves `files` until nobody has their mount any more, nor one of them open.
pub(crate) fn start(files: impl Files, options: &Options<'_>, keeping: &Keeping) -> io::Result<Started> {
    let connection = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/fuse")?);
    let mount = mount_detached(connection.as_fd(), options)?;
    let session = Session::from_fd(files.clone(), connection.try_clone()?, SessionACL::All, config())?;
    if !keeping.needs_journals(&connection) {
        run(session)?;
        return Ok(Started { mount, connection, journal: None });
    }
    tracing::debug!("this kernel cannot ask a successor again: what it asks goes through a journal");
    // Nobody has the mount, so nothing is asked in between.
    let fuser = takeover::set_apart(&session)?;
    let memory = journal::memory()?;
    run_journalled(files, session, fuser, &connection, &memory)?;
    Ok(Started { mount, connection, journal: Some(memory) })
}

/// Goes on serving on the connection of a predecessor who serves no more. What it had read and not answered is asked again, or is
/// in its journal.
pub(crate) fn resume(files: impl Files, connection: &OwnedFd, journal: Option<&OwnedFd>) -> io::Result<()> {
    let Some(memory) = journal else { return run(takeover::session(files, connection, config())?) };
    let (session, fuser) = takeover::session_apart(files.clone(), connection, config())?;
    run_journalled(files, session, fuser, connection, memory)
}

fn run_journalled<F: Files>(
    files: F,
    session: Session<F>,
    fuser: UnixStream,
    connection: &OwnedFd,
    memory: &OwnedFd,
) -> io::Result<()> {
    let journal = Journal::open(memory)?;
    run(session)?;
    journalled::start(&files, connection, fuser, journal)
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    config.acl = SessionACL::All;
    config
}

fn run(session: Session<impl Filesystem>) -> io::Result<()> {
    std::thread::Builder::new().name("granary-fuse".into()).spawn(move || {
        if let Err(error) = session.run() {
            tracing::error!(%error, "a FUSE session ended early");
        }
    })?;
    Ok(())
}

/// What every session asks of the kernel.
pub(crate) fn negotiate(config: &mut KernelConfig) {
    // Without it reads past the page cache, as the loop driver's, come one after the other. It has been there since Linux 3.13.
    if config.add_capabilities(InitFlags::FUSE_ASYNC_DIO).is_err() {
        tracing::warn!("this kernel's FUSE has no asynchronous direct reads: cold reads will be slow");
    }
    // Both setters take the nearest value that the kernel allows.
    let _ = config.set_max_background(MAX_READS);
    let _ = config.set_max_write(MAX_READ);
}

fn mount_detached(device: BorrowedFd<'_>, options: &Options<'_>) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // The kernel takes the descriptor's number as a text.
    for (key, value) in [
        ("source", options.source.to_owned()),
        ("fd", device.as_raw_fd().to_string()),
        ("rootmode", "40000".to_owned()),
        ("user_id", "0".to_owned()),
        ("group_id", "0".to_owned()),
        ("max_read", MAX_READ.to_string()),
    ] {
        rustix::mount::fsconfig_set_string(fs.as_fd(), key, value)?;
    }
    if let Some(subtype) = options.subtype {
        rustix::mount::fsconfig_set_string(fs.as_fd(), "subtype", subtype)?;
    }
    if options.for_all {
        for flag in ["allow_other", "default_permissions"] {
            rustix::mount::fsconfig_set_flag(fs.as_fd(), flag)?;
        }
    }
    rustix::mount::fsconfig_set_flag(fs.as_fd(), "ro")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let mut attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if !options.for_all {
        attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
    }
    Ok(rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
