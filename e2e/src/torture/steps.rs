//! Kills a process before any chosen step: the calls by which it changes what is outside of itself (mounts, loop devices, files and
//! directories, what is durable) are told to its parent by the kernel (a seccomp filter with notifications), which lets each pass
//! or kills the process instead. The process itself knows nothing of it.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal};

/// Calls that are steps whatever their arguments are.
const STEPS: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_pwrite64,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
];

/// Byte offsets in `struct seccomp_data` of the call's number, and of the lower half of its second and third argument.
const NUMBER: u32 = 0;
const SECOND: u32 = 24;
const THIRD: u32 = 32;
/// The loop driver's calls are 0x4C00 to 0x4CFF.
const IOCTL_GROUP: u32 = 0xff00;
const LOOP_CALLS: u32 = 0x4c00;

/// A process that is about to be started, with its filter.
pub(super) struct Prepared {
    ours: OwnedFd,
    theirs: OwnedFd,
}

/// The steps of a running process.
pub(super) struct Steps(Arc<Mutex<Left>>);

/// When the process is killed.
struct Left {
    /// After so many steps more, before the next; never without.
    steps: Option<u64>,
    was_killed: bool,
}

impl Steps {
    /// Makes `command` start with the filter.
    pub(super) fn prepare(command: &mut Command) -> Result<Prepared> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let (program, socket) = (filter(), theirs.try_clone()?);
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || send(&socket, install(&program)?)) };
        Ok(Prepared { ours, theirs })
    }

    /// Has the process killed before the step of this number from now on; without one, never. Gives whether it was killed before.
    pub(super) fn arm(&self, step: Option<u64>) -> bool {
        let mut left = self.0.lock();
        left.steps = step;
        left.was_killed
    }
}

impl Prepared {
    /// Lets the steps of the started process `pid` pass, or kills it before the one of this number.
    pub(super) fn watch(self, pid: u32, step: Option<u64>) -> Result<Steps> {
        drop(self.theirs);
        let listener = receive(&self.ours)?;
        let left = Arc::new(Mutex::new(Left { steps: step, was_killed: false }));
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("the process has no number")?;
        let shared = left.clone();
        std::thread::Builder::new().name("steps".into()).spawn(move || {
            while let Ok(Some(id)) = next(&listener) {
                let is_last = {
                    let mut left = shared.lock();
                    let is_last = left.steps == Some(0);
                    left.was_killed |= is_last;
                    left.steps = left.steps.map(|steps| steps.saturating_sub(1));
                    is_last
                };
                if is_last {
                    // It may be gone already; the call that waits never returns.
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                } else {
                    pass(&listener, id);
                }
            }
        })?;
        Ok(Steps(left))
    }
}

fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

/// Skips `otherwise` statements unless the loaded value is `value`.
fn unless(value: u32, otherwise: u8) -> libc::sock_filter {
    libc::sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: 0, jf: otherwise, k: value }
}

/// The filter as `linux/filter.h` has it.
fn filter() -> Vec<libc::sock_filter> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let mask = |bits| statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, bits);
    let (tell, allow) = (
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    );
    let mut program = vec![load(NUMBER)];
    for number in STEPS {
        program.extend([unless(*number as u32, 1), tell]);
    }
    program.extend([unless(libc::SYS_ioctl as u32, 5), load(SECOND), mask(IOCTL_GROUP), unless(LOOP_CALLS, 1), tell]);
    program.push(allow);
    let create = libc::O_CREAT as u32;
    program.extend([unless(libc::SYS_openat as u32, 4), load(THIRD), mask(create), unless(create, 1), tell, allow]);
    program
}

/// Puts the filter before all further calls of this process, and gives the descriptor by which they are told.
fn install(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the kernel reads a `struct sock_fprog` and what it points to, which live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    let descriptor = i32::try_from(result).ok().filter(|descriptor| *descriptor >= 0);
    // SAFETY: the kernel has just made it, for nobody else.
    descriptor.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).ok_or_else(io::Error::last_os_error)
}

fn send(socket: &OwnedFd, descriptor: OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    message.push(SendAncillaryMessage::ScmRights(&descriptors));
    rustix::net::sendmsg(socket, &[io::IoSlice::new(b"f")], &mut message, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut message, mut byte) = (RecvAncillaryBuffer::new(&mut space), [0]);
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut [io::IoSliceMut::new(&mut byte)], &mut message, flags)?;
    let descriptors = message.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
    ensure!(descriptors.len() == 1, "the process sent {} descriptors", descriptors.len());
    descriptors.into_iter().next().context("the filter's descriptor")
}

/// Waits for a call and gives its id; `None` when the process has ended.
fn next(listener: &OwnedFd) -> io::Result<Option<u64>> {
    loop {
        let mut one = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: it is one `struct pollfd`, and it lives until the call returns.
        if unsafe { libc::poll(&raw mut one, 1, -1) } < 0 {
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            }
        }
        if one.revents & libc::POLLIN == 0 {
            return Ok(None);
        }
        // SAFETY: any bytes are valid for it, and the kernel wants zeros.
        let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        match notify(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) {
            Ok(()) => return Ok(Some(call.id)),
            // The caller was killed in between.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(error) => return Err(error),
        }
    }
}

fn pass(listener: &OwnedFd, id: u64) {
    const _: () = assert!(size_of::<libc::seccomp_notif_resp>() == 24);
    let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error: 0, flags };
    // It fails only if the caller is gone.
    let _ = notify(listener.as_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer);
}

fn notify<T>(listener: BorrowedFd<'_>, request: libc::Ioctl, argument: *mut T) -> io::Result<()> {
    // SAFETY: each request has the argument that `linux/seccomp.h` says, and it lives until the call returns.
    match unsafe { libc::ioctl(listener.as_raw_fd(), request, argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
